"""A stream seen from both of its ends, for the tests of the `redis` sink."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from receiver.sinks.redis import RedisOptions, RedisSink
from tests.sinks.servers import LONG

STREAM = "runflow.verdicts"


def sink_to(url: str, **changes: Any) -> RedisSink:
    """A sink that adds to a stream there."""
    return RedisSink(
        RedisOptions.model_validate({"name": "it", "url": url, "stream": STREAM, "timeout": LONG, **changes})
    )


@asynccontextmanager
async def redis_at(url: str) -> AsyncIterator[Any]:
    """A client of the test's own; typed loosely, as the library types what it answers."""
    async with Redis.from_url(url, decode_responses=True) as client:
        yield client


async def ids(url: str, stream: str = STREAM) -> list[str]:
    """The `id` of each entry of the stream."""
    async with redis_at(url) as client:
        return [fields["id"] for _, fields in await client.xrange(stream)]
