"""A real database that can be made to go away, and to take its time."""

import asyncio
from collections.abc import Callable
from typing import Concatenate

from sqlalchemy import Connection

from receiver.errors import StoreUnavailable
from receiver.store.database import Clock, P, T
from receiver.store.sqlite import SqliteDatabase


class Interrupted(SqliteDatabase):
    """SQLite as it is. While `away`, whatever is asked is refused, and `refused` counts; so is `away_for`, one function alone.

    While `slow` is not set whatever is asked waits for that, and `waiting` says how many do.
    """

    def __init__(self, path: str, clock: Clock) -> None:
        super().__init__(path, clock=clock)
        self.away = False
        self.away_for: Callable[..., object] | None = None
        self.refused = 0
        self.slow = asyncio.Event()
        self.slow.set()
        self.waiting = 0

    async def _pass(self, fn: Callable[..., object]) -> None:
        if not self.slow.is_set():
            self.waiting += 1
            try:
                await self.slow.wait()
            finally:
                self.waiting -= 1
        if self.away or fn is self.away_for:
            self.refused += 1
            raise StoreUnavailable("database", "the test took it away")

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        await self._pass(fn)
        return await super().read(fn, *args, **kwargs)

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        await self._pass(fn)  # what is accepted comes through here too
        return await super().write(fn, *args, **kwargs)
