"""Days that are over, added up once and held in memory: questions over months are about the same days again and again."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Final, NamedTuple

from cachetools import LRUCache

from receiver.core.tallies import Tallies, add
from receiver.store.hours import HOUR, packed, unpacked
from receiver.store.tallying import Key

DAY: Final = timedelta(days=1)
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
        return _hours_from(self.start)


class Days:
    """The days last asked about. One of which an hour is rolled up again is another day, and this one is forgotten in time."""

    def __init__(self) -> None:
        self._packed: LRUCache[Day, bytes] = LRUCache(MOST_BYTES, getsizeof=len)
        self._lock = Lock()  # questions are answered in several threads

    def known(self, day: Day) -> bytes | None:
        """Its tallies, packed as an hour's are, or None."""
        with self._lock:
            return self._packed.get(day)

    def learn(self, day: Day, hours: Sequence[bytes]) -> bytes:
        """Adds its hours up, which is not for the event loop, and knows it from now on."""
        tallies: dict[Key, Tallies] = {}
        for hour in hours:
            for key, each in unpacked(hour).items():
                add(tallies.setdefault(key, {}), each)
        content = packed(tallies)
        if len(content) <= MOST_BYTES:
            with self._lock:
                self._packed[day] = content
        return content


def day_of(moment: datetime) -> datetime:
    """The day that it is in, in UTC."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def whole_days(column: str, versions: Mapping[datetime, int]) -> list[Day]:
    """The days of which every hour is among these."""
    starts = dict.fromkeys(map(day_of, versions))
    return [
        Day(column, start, tuple(versions[hour] for hour in _hours_from(start)))
        for start in starts
        if all(hour in versions for hour in _hours_from(start))
    ]


def _hours_from(start: datetime) -> list[datetime]:
    return [start + number * HOUR for number in range(DAY // HOUR)]
