"""Work under way: a bounded set of tasks that can be ended in order, and patience with a database that is away."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import structlog

from receiver.errors import StoreUnavailable

T = TypeVar("T")
PAUSE_BETWEEN = 0.5
CANCEL_SECONDS = 0.5
"""How long a task that was cancelled is waited for: a library that holds on must not hold up the stop."""

log = structlog.get_logger()


class Tasks:
    """At most `most` at once. What a task raises goes to the log: its work is leased, and comes again when the lease ends.

    `ended` is called after each, when there is room for another. Not by the work itself: it is counted until it has returned.
    """

    def __init__(self, most: int, ended: Callable[[], None]) -> None:
        self._most = most
        self._on_end = ended
        self._running: set[asyncio.Task[None]] = set()

    @property
    def room(self) -> int:
        """How many more may be started."""
        return self._most - len(self._running)

    @property
    def busy(self) -> bool:
        """Whether any is running."""
        return bool(self._running)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, StoreUnavailable):
            log.warning("pipeline.not_written_back", reason=error.reason, error=str(error))
        elif error is not None:
            log.error("pipeline.task_failed", exc_info=error)
        self._on_end()

    async def stop(self, grace: float) -> None:
        """Waits `grace` seconds for what runs, then cancels it and waits for that."""
        if self._running:
            await asyncio.wait(self._running, timeout=grace)
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=CANCEL_SECONDS)


class Patience:
    """Writes back again and again while the database is away, for up to `seconds`: what was done must not be done twice."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ended = asyncio.Event()

    def end(self) -> None:
        """One last try each from now on."""
        self._ended.set()

    async def wait_for(self, write: Callable[[], Awaitable[T]]) -> T:
        """What `write` returns. Raises its `StoreUnavailable` when patience is at an end."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._seconds
        while True:
            try:
                return await write()
            except StoreUnavailable:
                if self._ended.is_set() or clock() > deadline:
                    raise
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_BETWEEN):
                    await self._ended.wait()
