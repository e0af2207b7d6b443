"""A real database that can be made to go away, and to take its time."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Concatenate

from sqlalchemy import Connection

from receiver.errors import StoreUnavailable
from receiver.store.database import Database, P, T
from receiver.store.intake import Arrival, Taken


class Interrupted(Database):
    """Passes everything on. While `away`, whatever is asked is refused, and `refused` counts.

    While `slow` is not set whatever is asked waits for that, and `waiting` says how many do.
    """

    def __init__(self, real: Database) -> None:
        self._real = real
        self.kind = real.kind
        self.intake_flights = real.intake_flights
        self.away = False
        self.refused = 0
        self.slow = asyncio.Event()
        self.slow.set()
        self.waiting = 0

    async def _pass(self) -> None:
        if not self.slow.is_set():
            self.waiting += 1
            try:
                await self.slow.wait()
            finally:
                self.waiting -= 1
        if self.away:
            self.refused += 1
            raise StoreUnavailable("database", "the test took it away")

    def now(self) -> datetime:
        return self._real.now()

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        await self._pass()
        return await self._real.read(fn, *args, **kwargs)

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        await self._pass()
        return await self._real.write(fn, *args, **kwargs)

    async def accept(self, arrivals: Sequence[Arrival]) -> list[Taken]:
        await self._pass()
        return await self._real.accept(arrivals)

    async def migrate(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._real.migrate(fn, *args, **kwargs)

    async def ring(self, bell: str) -> None:
        await self._real.ring(bell)

    async def listen(self, heard: Callable[[str], None]) -> None:
        await self._real.listen(heard)

    @property
    def hears_others(self) -> bool:
        return self._real.hears_others

    def take_pipeline(self) -> bool:
        return self._real.take_pipeline()

    async def close(self) -> None:
        await self._real.close()
