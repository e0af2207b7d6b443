"""Redis, which keeps what it has on its disk before it answers."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.acceptance.brokers.base import ServerBroker
from tests.acceptance.collector import Arrival
from tests.sinks.redis_side import STREAM, redis_at
from tests.sinks.servers import RedisServer


class RedisBroker(ServerBroker):
    """Read by XREAD. A user of its own, who may lose his rights."""

    kind = "redis"
    drops_repeats = True
    at_once = 100

    async def start(self) -> int:
        """One for itself."""
        user = ("--user", "app", "on", ">app", "~*", "+@all")
        self.server = self._redis = RedisServer(
            self.folder, "--appendonly", "yes", "--appendfsync", "always", "--save", "", *user
        )
        await self.server.start()
        return self.server.port

    async def make(self) -> None:
        """The first entry does."""

    def options(self) -> dict[str, str | float | bool]:
        return {"url": f"redis://app:app@127.0.0.1:{self.gap.port}/0", "stream": STREAM}

    async def received(self) -> list[Arrival]:
        found: list[Arrival] = []
        last = "0"
        async with redis_at(self._redis.url) as client:
            while answer := await client.xread({STREAM: last}, count=500):
                [(_, entries)] = answer
                found += [Arrival(fields["id"], json.loads(fields["event"])) for _, fields in entries]
                last = entries[-1][0]
        return found

    async def end(self) -> None:
        self.server.kill()

    async def _command(self, *words: Any) -> None:
        async with redis_at(self._redis.url) as client:
            await client.execute_command(*words)

    @asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        """It may use no more memory than it does (`OOM`)."""
        await self._command("CONFIG", "SET", "maxmemory", "1")
        yield
        await self._command("CONFIG", "SET", "maxmemory", "0")

    @asynccontextmanager
    async def revoked(self) -> AsyncIterator[None]:
        """Our user may not come in any more, and is thrown out."""
        await self._command("ACL", "SETUSER", "app", "off")
        await self._command("CLIENT", "KILL", "USER", "app")
        yield
        await self._command("ACL", "SETUSER", "app", "on")
