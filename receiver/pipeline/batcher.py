"""Group commit for anything: what comes while a flush is under way goes into the next one, together.

No timer: when idle, one item is a batch of one at once. Under load the batches grow by themselves.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Hands items to `flush` in batches of at most `most`, at most `flights` batches at once."""

    def __init__(
        self, flush: Callable[[list[Item]], Awaitable[Sequence[Result]]], *, flights: int = 1, most: int = 500
    ) -> None:
        self._flush = flush
        self._flights = flights
        self._most = most
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, item: Item) -> "asyncio.Future[Result]":
        """A future of what `flush` said of this item, or of what it raised."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._in_flight < self._flights:
            self._in_flight += 1
            # A task starts after those that are ready now, so that their items are in its batch too.
            flight = asyncio.create_task(self._fly())
            self._tasks.add(flight)
            flight.add_done_callback(self._tasks.discard)
        return future

    def post(self, item: Item) -> None:
        """Like `put`, where nobody waits for the outcome."""
        self.put(item).add_done_callback(retrieve)

    async def drained(self) -> None:
        """Returns when nothing is waiting or under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _fly(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            try:
                results = await self._flush([item for item, _ in batch])
                outcomes: list[tuple[asyncio.Future[Result], Result | Exception]]
                outcomes = [(future, result) for (_, future), result in zip(batch, results, strict=True)]
            except Exception as error:  # noqa: BLE001 (it belongs to those who wait for it)
                outcomes = [(future, error) for _, future in batch]
            for future, outcome in outcomes:
                _resolve(future, outcome)
        # Here, not when the task is seen to be done: an item that comes between must start a flight.
        self._in_flight -= 1


def retrieve(future: "asyncio.Future[Result]") -> None:
    """Looks at an outcome that nobody waits for, which would otherwise be reported as forgotten."""
    if not future.cancelled():
        future.exception()


def _resolve(future: "asyncio.Future[Result]", result: "Result | Exception") -> None:
    if future.done():  # whoever waited has gone
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
