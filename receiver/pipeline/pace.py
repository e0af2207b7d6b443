"""How many of something may be begun now, at a given rate."""

import asyncio

from aiolimiter import AsyncLimiter

LONGEST_WAIT = 1.0
"""Seconds that a stage waits for its pace at most, so that it sees to its other work, and to a stop, in between."""


async def permitted(limiter: AsyncLimiter | None, most: int) -> int:
    """How many of `most` the pace permits now. Waits a while for the first; 0 if that was not enough."""
    if limiter is None or most < 1:
        return most
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
