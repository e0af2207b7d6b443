"""A clock for the tests, and waiting for a condition."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

DEADLINE = 120.0
"""Seconds until a wait is given up. Far more than anything needs, so that a slow machine fails no test."""


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 18, 14, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def advance(self, by: timedelta | None = None, **parts: float) -> None:
        """Moves on by a duration, or by `seconds=…`, `hours=…`."""
        self.moment += by if by is not None else timedelta(**parts)


async def until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds, however long the machine takes."""

    async def holds() -> bool:
        return condition()

    await until_awaited(holds)


async def until_awaited(condition: Callable[[], Awaitable[bool]]) -> None:
    """Like `until`, for a condition that has to be asked for."""
    async with asyncio.timeout(DEADLINE):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.005)
