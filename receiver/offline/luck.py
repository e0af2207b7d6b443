"""Seeded chance, and ids of version 7. The same seed draws the same on every machine; nothing secret hangs on it."""

import random
import secrets
from datetime import datetime
from uuid import UUID

_RANDOM_BITS = 74


class Luck(random.Random):
    """A stream of draws of its own for each seed."""

    def happens(self, probability: float) -> bool:
        """Whether something of this probability, 0 to 1, happens."""
        return self.random() < probability

    def uuid7(self, moment: datetime) -> UUID:
        """An id made at `moment`, the same for the same stream."""
        return uuid7(moment, self.getrandbits(_RANDOM_BITS))


def fresh_uuid7(moment: datetime) -> UUID:
    """An id made at `moment` that no other process makes."""
    return uuid7(moment, secrets.randbits(_RANDOM_BITS))


def uuid7(moment: datetime, bits: int) -> UUID:
    """48 bits of milliseconds since 1970, then 74 random ones around the version and the variant. (RFC 9562, section 5.7)"""
    milliseconds = int(moment.timestamp() * 1000)
    high, low = bits >> 62, bits & ((1 << 62) - 1)
    return UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low)
