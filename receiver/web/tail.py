"""What is released, followed once for all who read along in this process; the newest of it in memory, as the bytes they get.

While nobody reads nothing is looked for and nothing is kept. Whoever is behind what is in memory reads pages of the database.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple

from receiver.core.matching import Filter
from receiver.core.verdict import Verdict
from receiver.pipeline.station import RELEASES, Bells, Station
from receiver.store import releases
from receiver.store.database import Database
from receiver.store.releases import Entry
from receiver.web.events import document_of, verdict_event

WINDOW_BYTES = 8 * 1024 * 1024
"""How much of the newest is kept in memory, in each process."""
CHUNK_BYTES = 64 * 1024
"""As much as is handed to a reader at once, or one event that is longer: one that does not read it holds no more."""
RETURN = 500
"""Positions that the window goes back at its start: all readers come back at once when a process starts again."""
READ_AT_ONCE = 200
PAGE = 25
PAGES_AT_ONCE = 2
"""Readers that are behind must not take all connections."""
LOOKED_AT = 100
"""Events that are compared with a filter in one go: nothing else runs meanwhile."""
GATHER_SECONDS = 0.05
"""From one look at what is new to the next, so that under load each reader gets many at once."""
POLL = timedelta(seconds=1)
POLL_WHERE_HEARD = timedelta(seconds=5)
_MOST_REMEMBERED = 16


class Chunk(NamedTuple):
    """What comes next, as bytes, and the position that it reaches to. Empty where nothing up to there matched."""

    data: bytes
    end: int


class Reader:
    """One who reads along. `bell` is set whenever there may be more."""

    def __init__(self) -> None:
        self.bell = asyncio.Event()
        self._is_dismissed = False
        self._call: Callable[[], object] | None = None

    def when_dismissed(self, call: Callable[[], object] | None) -> None:
        """Has this called, once, when it is to end, which may have been said before."""
        self._call = call
        if self._is_dismissed and call is not None:
            call()

    def dismiss(self) -> None:
        """Tells it to end."""
        if not self._is_dismissed and self._call is not None:
            self._call()
        self._is_dismissed = True


class _Event:
    """A revision in memory. Its verdict is read only where somebody filters."""

    __slots__ = ("_verdict", "data", "position")

    def __init__(self, entry: Entry) -> None:
        self.position = entry.position
        self.data = verdict_event(*entry)
        self._verdict: Verdict | None = None

    def matches(self, filter_: Filter) -> bool:
        if self._verdict is None:
            self._verdict = Verdict.model_validate_json(document_of(self.data))
        return filter_.matches(self._verdict)

    def is_old(self) -> None:
        """The verdict takes several times the room of its text, and most readers are where it is new."""
        self._verdict = None


class Tail:
    """Follows what is released for as long as there are readers."""

    def __init__(self, database: Database, bells: Bells) -> None:
        self._database = database
        self._bells = bells
        self._readers: set[Reader] = set()
        self._following: asyncio.Task[None] | None = None
        self._paging = asyncio.Semaphore(PAGES_AT_ONCE)
        self._is_closed = False
        self._forget()

    def _forget(self) -> None:
        self._settled: int | None = None
        self._begins = 0
        """What is in the window comes after this position."""
        self._window: deque[_Event] = deque()
        self._bytes = 0
        self._fresh: list[_Event] = []
        self._remembered: dict[tuple[int, Filter | None], Chunk] = {}

    @property
    def readers(self) -> int:
        """How many read along."""
        return len(self._readers)

    @contextmanager
    def joined(self) -> Iterator[Reader]:
        """A reader, for as long as this lasts."""
        reader = Reader()
        self._readers.add(reader)
        if self._is_closed:
            reader.dismiss()
        elif self._following is None:
            station = Station(RELEASES, self._step, self._bells, self._database.now)
            self._following = asyncio.create_task(station.run())
        try:
            yield reader
        finally:
            self._readers.discard(reader)
            if not self._readers:
                self._end()

    def _end(self) -> None:
        if self._following is not None:
            self._following.cancel()
        self._following = None
        self._forget()

    def dismiss_all(self) -> None:
        """Has all readers end: they may come back."""
        for reader in list(self._readers):
            reader.dismiss()

    def close(self) -> None:
        """Has all readers end, and those that come still."""
        self._is_closed = True
        self._end()
        self.dismiss_all()

    async def next(self, after: int, filter_: Filter | None) -> Chunk | None:
        """What comes after this position, or None while there is nothing. Raises `StoreUnavailable`."""
        if self._settled is None or after >= self._settled:
            return None
        if after < self._begins:
            return await self._from_database(after, self._settled, filter_)
        key = (after, filter_)
        chunk = self._remembered.get(key)
        if chunk is None:
            chunk = self._from_window(after, self._settled, filter_)
            if len(self._remembered) < _MOST_REMEMBERED:
                self._remembered[key] = chunk
        return chunk

    async def _from_database(self, after: int, upto: int, filter_: Filter | None) -> Chunk:
        async with self._paging:
            page = await self._database.read(releases.page, after, upto=upto, limit=PAGE, filter_=filter_)
        return _joined(((each.position, verdict_event(*each)) for each in page.entries), page.end)

    def _from_window(self, after: int, upto: int, filter_: Filter | None) -> Chunk:
        first = self._place(after)
        looked_at = list(islice(self._window, first, first + LOOKED_AT))
        if first + LOOKED_AT < len(self._window):
            upto = looked_at[-1].position
        return _joined(((each.position, each.data) for each in looked_at if not filter_ or each.matches(filter_)), upto)

    def _place(self, after: int) -> int:
        """Where in the window it goes on after this position; most readers are near its end."""
        place = len(self._window)
        for event in reversed(self._window):
            if event.position <= after:
                break
            place -= 1
        return place

    async def _step(self) -> datetime:
        reach = await self._database.read(releases.reach)
        if self._settled is None:
            self._begins = self._settled = max(reach.settled - RETURN, 0)
            self._ring()
        is_more = self._settled < reach.settled
        while self._settled < reach.settled:
            page = await self._database.read(releases.page, self._settled, upto=reach.settled, limit=READ_AT_ONCE)
            self._extend(page)
        if is_more:
            await asyncio.sleep(GATHER_SECONDS)
        return self._database.now() + (POLL_WHERE_HEARD if self._database.hears_others else POLL)

    def _extend(self, page: releases.Page) -> None:
        for event in self._fresh:
            event.is_old()
        self._remembered.clear()
        self._fresh = [_Event(entry) for entry in page.entries]
        self._window.extend(self._fresh)
        self._bytes += sum(len(event.data) for event in self._fresh)
        while self._bytes > WINDOW_BYTES:
            oldest = self._window.popleft()
            self._begins = oldest.position
            self._bytes -= len(oldest.data)
        self._settled = page.end
        self._ring()

    def _ring(self) -> None:
        for reader in self._readers:
            reader.bell.set()


def _joined(events: Iterator[tuple[int, bytes]], upto: int) -> Chunk:
    """As many of these as a chunk holds, at least one. `upto`: how far all of them reach."""
    taken: list[bytes] = []
    length, end = 0, 0
    for position, data in events:
        if taken and length + len(data) > CHUNK_BYTES:
            return Chunk(b"".join(taken), end)
        taken.append(data)
        length, end = length + len(data), position
    return Chunk(b"".join(taken), upto)
