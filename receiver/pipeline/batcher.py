"""Group commit for anything: what comes while a flush is under way goes into the next one, together.

No timer: when idle, one item is a batch of one at once. Under load the batches grow by themselves; where nobody is kept
waiting by it they may also be gathered for some milliseconds, for a batch costs much more than an item.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

_STILL_BUSY = 5
"""How many times `gather` after a batch the next one is taken to come in the same rush."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Tell = Callable[[Result | Exception], object]
"""Hears of an outcome: what `flush` said of an item, or what it raised."""


class Batcher(Generic[Item, Result]):
    """Hands items to `flush` in batches of at most `most`, at most `flights` batches at once.

    A batch that comes less than a few times `gather` seconds after another waits that long for more items.
    """

    def __init__(
        self,
        flush: Callable[[list[Item]], Awaitable[Sequence[Result]]],
        *,
        flights: int = 1,
        most: int = 500,
        gather: float = 0,
    ) -> None:
        self._flush = flush
        self._flights = flights
        self._most = most
        self._gather = gather
        self._flushed_at = -math.inf
        self._waiting: list[tuple[Item, Tell[Result]]] = []
        self._in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, item: Item) -> "asyncio.Future[Result]":
        """A future of what `flush` said of this item, or of what it raised."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.hand(item, partial(resolve, future))
        return future

    def post(self, item: Item) -> None:
        """Like `put`, where nobody waits for the outcome."""
        self.hand(item, _forget)

    def hand(self, item: Item, tell: Tell[Result]) -> None:
        """Like `put`; `tell` is called with the outcome, at once when it is known. That is 1 to 2 µs less than a future."""
        self._waiting.append((item, tell))
        if self._in_flight < self._flights:
            self._in_flight += 1
            # A task starts after those that are ready now, so that their items are in its batch too.
            flight = asyncio.create_task(self._fly())
            self._tasks.add(flight)
            flight.add_done_callback(self._tasks.discard)

    async def drained(self) -> None:
        """Returns when nothing is waiting or under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _fly(self) -> None:
        while self._waiting:
            await self._wait_for_more()
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            try:
                results = await self._flush([item for item, _ in batch])
                outcomes: list[tuple[Tell[Result], Result | Exception]]
                outcomes = [(tell, result) for (_, tell), result in zip(batch, results, strict=True)]
            except Exception as error:  # noqa: BLE001 (it belongs to those who wait for it)
                outcomes = [(tell, error) for _, tell in batch]
            self._flushed_at = time.monotonic()
            for tell, outcome in outcomes:
                _tell(tell, outcome)
        # Here, not when the task is seen to be done: an item that comes between must start a flight.
        self._in_flight -= 1

    async def _wait_for_more(self) -> None:
        is_busy = time.monotonic() - self._flushed_at < self._gather * _STILL_BUSY
        if is_busy and len(self._waiting) < self._most:
            await asyncio.sleep(self._gather)


def _tell(tell: Tell[Result], outcome: Result | Exception) -> None:
    try:
        tell(outcome)
    except Exception as error:  # noqa: BLE001 (reported as of any callback; the others must be told, and the next batch fly)
        context = {"message": "whoever was told of an outcome failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)


def _forget(_: object) -> None:
    """Nobody waits."""


def resolve(future: "asyncio.Future[Result]", result: Result | Exception) -> None:
    """Tells a future."""
    if future.done():  # whoever waited has gone
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
