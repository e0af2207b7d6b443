"""Days that are over, added up once and held in memory: questions over months are about the same days again and again."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby
from threading import Lock
from typing import Final, NamedTuple

from cachetools import LRUCache

from receiver.core.tallies import Tallies
from receiver.store.hours import HOUR, added_up, packed, unpacked
from receiver.store.tallying import Key

DAY: Final = timedelta(days=1)
HOURS: Final = DAY // HOUR
MOST_BYTES: Final = 8 * 1024 * 1024
"""Packed, a day has some kilobytes: this is years of them."""


class Day(NamedTuple):
    """A day of UTC by what its tallies are made of: a column of `hours`, and the version of each of its 24 hours."""

    column: str
    start: datetime
    versions: tuple[int, ...]

    @property
    def hours(self) -> list[datetime]:
        """When each begins."""
        return [self.start + number * HOUR for number in range(HOURS)]


class Days:
    """The days last asked about. One of which an hour is rolled up again is another day, and this one is forgotten in time."""

    def __init__(self) -> None:
        self._packed: LRUCache[Day, bytes] = LRUCache(MOST_BYTES, getsizeof=len)
        self._lock = Lock()  # questions are answered in several threads

    def known(self, day: Day) -> bytes | None:
        """Its tallies, packed as an hour's are, or None."""
        with self._lock:
            return self._packed.get(day)

    def learn(self, day: Day, hours: Iterable[bytes]) -> bytes | dict[Key, Tallies]:
        """Adds its hours up, which is not for the event loop, and knows it from now on.

        Where somebody else has learnt it meanwhile, it is as it is known.
        """
        if (known := self.known(day)) is not None:
            return known
        tallies = added_up(map(unpacked, hours), day.column)
        content = packed(tallies)
        if len(content) <= MOST_BYTES:
            with self._lock:
                self._packed[day] = content
        return tallies


def day_of(moment: datetime) -> datetime:
    """The day that it is in, in UTC."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def whole_days(column: str, versions: Mapping[datetime, int]) -> list[Day]:
    """The days of which every hour is among these, which are in their order."""
    days = ((start, list(hours)) for start, hours in groupby(versions, day_of))
    return [Day(column, start, tuple(versions[hour] for hour in hours)) for start, hours in days if len(hours) == HOURS]
