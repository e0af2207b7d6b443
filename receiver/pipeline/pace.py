"""Pace: how many of something may be begun now, at a given rate; and chance, so that not all come back at once."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple

from aiolimiter import AsyncLimiter

LONGEST_WAIT = 1.0
"""Seconds that a stage waits for its pace at most, so that it sees to its other work, and to a stop, in between."""


class Allowance(NamedTuple):
    """So many may be begun; if none, for the sake of the pace, `look_again` says when to ask once more."""

    begin: int
    look_again: datetime | None = None


async def allowed(
    limiter: AsyncLimiter | None,
    room: int,
    next_due: Callable[[], Awaitable[datetime | None]],
    now: Callable[[], datetime],
) -> Allowance:
    """How many of `room` the pace permits now. That counts as used, so it asks first whether anything is due."""
    if limiter is None or room < 1:
        return Allowance(room)
    due = await next_due()
    if due is None or due > now():
        return Allowance(0, due)
    count = await permitted(limiter, room)
    return Allowance(count, None if count else now())


async def permitted(limiter: AsyncLimiter, most: int) -> int:
    """How many of `most`, at least 1, the pace permits now. Waits a while for the first; 0 if that was not enough."""
    try:
        async with asyncio.timeout(LONGEST_WAIT):
            await limiter.acquire()
    except TimeoutError:
        return 0
    count = 1
    while count < most and limiter.has_capacity():
        await limiter.acquire()
        count += 1
    return count


def chance() -> float:
    """A random number from 0 to 1 to spread waits with."""
    return random.random()  # noqa: S311 (it guards nothing)
