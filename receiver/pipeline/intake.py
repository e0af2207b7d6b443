"""Taking in what was verified: bounded, durable before it returns."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from receiver.errors import StoreUnavailable
from receiver.pipeline.batcher import Batcher
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

    def accept(self, arrival: Arrival) -> "asyncio.Future[Taken]":
        """A future that is done when the arrival is durable. Raises `StoreUnavailable` if it cannot be taken just now.

        The future may raise it too; the arrival may then have been stored all the same.
        """
        refusal = self.refuses
        if refusal is not None:
            raise refusal
        self._rows += 1
        self._bytes += len(arrival.body)
        # The batch goes its way whether or not anybody waits for this future, so it may be cancelled, and needs no shield.
        future = self._batcher.put(arrival)
        self._deadlines.watch(future, self.longest_wait)
        return future

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


class _Deadlines:
    """Ends waits that last too long. One timer looks at all of them: a timer for each costs as much as parsing does."""

    def __init__(self) -> None:
        self._watched: list[tuple[float, asyncio.Future[Taken]]] = []
        self._is_looking = False

    def watch(self, future: "asyncio.Future[Taken]", seconds: float) -> None:
        """Gives `future` up in so many seconds, or `LOOK_EVERY` later, unless it is done by then."""
        loop = asyncio.get_running_loop()
        self._watched.append((loop.time() + seconds, future))
        if not self._is_looking:
            self._is_looking = True
            loop.call_later(LOOK_EVERY, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        waiting = [each for each in self._watched if not each[1].done()]
        self._watched = [each for each in waiting if each[0] > now]
        for deadline, future in waiting:
            if deadline <= now:
                future.set_exception(StoreUnavailable("database", "the database did not answer in time"))
        self._is_looking = bool(self._watched)
        if self._is_looking:
            loop.call_later(LOOK_EVERY, self._look, loop)
