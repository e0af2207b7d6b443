"""Taking in what was verified: bounded, durable before it returns."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from receiver.errors import StoreUnavailable
from receiver.pipeline.batcher import Batcher, Tell
from receiver.store.database import Database
from receiver.store.intake import Arrival, Taken

LONGEST_WAIT = 4.0
"""Seconds until a callback that cannot be stored is answered 503: Runflow may wait no more than five."""
LOOK_EVERY = 0.1
"""Seconds between two looks at what waits too long."""


@dataclass(frozen=True)
class IntakeLimits:
    """How much may wait to be stored; past it callers are sent away at once."""

    queue_rows: int = 10_000
    queue_bytes: int = 64 * 1024 * 1024


class Intake:
    """The queue in front of the store. `on_stored` is called after each batch that is durable."""

    def __init__(
        self,
        database: Database,
        limits: IntakeLimits,
        on_stored: Callable[[], None],
        *,
        longest_wait: float = LONGEST_WAIT,
    ) -> None:
        self._database = database
        self._limits = limits
        self._on_stored = on_stored
        self.longest_wait = longest_wait
        self._batcher = Batcher(self._store, flights=database.intake_flights, most=1000)
        self._deadlines = _Deadlines()
        self._rows = 0
        self._bytes = 0
        self._closed: StoreUnavailable | None = None
        self._stopped = False

    def close_for(self, reason: StoreUnavailable | None) -> None:
        """Turns callers away for this reason; None opens again, but for one that was stopped."""
        if not self._stopped:
            self._closed = reason

    @property
    def refuses(self) -> StoreUnavailable | None:
        """Why nothing more can be taken just now, or None."""
        if self._closed is not None:
            return self._closed
        if self._rows >= self._limits.queue_rows or self._bytes >= self._limits.queue_bytes:
            return StoreUnavailable("queue_full", "too many callbacks wait to be stored")
        return None

    def accept(self, arrival: Arrival, tell: Tell[Taken]) -> None:
        """Has `tell` called once, when the arrival is durable. Raises `StoreUnavailable` if it cannot be taken just now.

        It may be told `StoreUnavailable`, too; the arrival may then have been stored all the same.
        """
        refusal = self.refuses
        if refusal is not None:
            raise refusal
        self._rows += 1
        self._bytes += len(arrival.body)
        # Not the loop's own time: to find the loop is a system call.
        caller = _Caller(tell, time.monotonic() + self.longest_wait)
        # The batch goes its way whether or not the caller still waits.
        self._batcher.hand(arrival, caller.hear)
        self._deadlines.watch(caller)

    async def _store(self, arrivals: list[Arrival]) -> list[Taken]:
        try:
            taken = await self._database.accept(arrivals)
        finally:
            self._rows -= len(arrivals)
            self._bytes -= sum(len(each.body) for each in arrivals)
        self._on_stored()
        return taken

    async def stop(self) -> None:
        """Refuses what comes from now on; returns when all that was taken is stored or refused."""
        self.close_for(StoreUnavailable("stopping", "this process is stopping"))
        self._stopped = True
        await self._batcher.drained()


class _Caller:
    """Who waits for an arrival, until told."""

    __slots__ = ("deadline", "tell")

    def __init__(self, tell: Tell[Taken], deadline: float) -> None:
        self.tell: Tell[Taken] | None = tell
        self.deadline = deadline

    def hear(self, outcome: Taken | Exception) -> None:
        """Passes the first outcome on."""
        tell, self.tell = self.tell, None
        if tell is not None:
            tell(outcome)


class _Deadlines:
    """Ends waits that last too long. One timer looks at all of them: a timer for each costs as much as parsing does."""

    def __init__(self) -> None:
        self._watched: list[_Caller] = []
        self._is_looking = False

    def watch(self, caller: _Caller) -> None:
        """Gives `caller` up at its deadline, or `LOOK_EVERY` later, unless it is told by then."""
        self._watched.append(caller)
        if not self._is_looking:
            self._is_looking = True
            loop = asyncio.get_running_loop()
            loop.call_later(LOOK_EVERY, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        waiting = [each for each in self._watched if each.tell is not None]
        self._watched = [each for each in waiting if each.deadline > now]
        self._is_looking = bool(self._watched)
        if self._is_looking:
            loop.call_later(LOOK_EVERY, self._look, loop)
        for caller in waiting:
            if caller.deadline <= now:
                loop.call_soon(caller.hear, StoreUnavailable("database", "the database did not answer in time"))
