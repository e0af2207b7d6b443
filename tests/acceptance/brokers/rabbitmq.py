"""RabbitMQ, which takes seconds to start: all share one. It remembers no message, so a consumer drops repeats by id."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.acceptance.brokers.base import ROOM, ServerBroker
from tests.acceptance.collector import Arrival
from tests.sinks.amqp_side import RabbitServer, channel_at, make_queue
from tests.sinks.servers import LONG


class RabbitBroker(ServerBroker):
    """A durable queue, read by a consumer."""

    kind = "amqp"
    fixture = "rabbit"
    drops_repeats = False
    at_once = 2 * 100

    server: RabbitServer

    async def start(self) -> int:
        """It runs already."""
        self.server = self.shared
        self._queue = f"test.{uuid.uuid4()}"
        return int(self.server.port)

    async def make(self) -> None:
        await make_queue(self.server.url, self._queue)
        if self.trouble == "full":
            # From the start: a limit below what a queue has would make it throw away its oldest messages.
            limit = json.dumps({"max-length": self.scale.before + ROOM, "overflow": "reject-publish"})
            await self.server.control("set_policy", self._queue, f"^{self._queue}$", limit, "--apply-to", "queues")

    def options(self) -> dict[str, str | float | bool]:
        user = "app" if self.trouble == "revoked" else "guest"  # whom the others need
        where = {"url": f"amqp://{user}:{user}@127.0.0.1:{self.gap.port}/", "routing_key": self._queue}
        return {**where, "concurrency": 2}  # all sinks are at the one server

    async def received(self) -> list[Arrival]:
        found: list[Arrival] = []
        async with channel_at(self.server.url) as channel, asyncio.timeout(LONG):
            queue = await channel.declare_queue(self._queue, passive=True)
            count = queue.declaration_result.message_count or 0
            async with queue.iterator() as messages:
                while len(found) < count:
                    each = await anext(messages)
                    await each.ack()
                    found.append(Arrival(each.message_id or "", json.loads(each.body)))
            await queue.delete(if_empty=False)
        return found

    async def end(self) -> None:
        """Others use it."""

    @asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        """The queue takes no more than it has (`reject-publish`)."""
        yield
        await self.server.control("clear_policy", self._queue)

    @asynccontextmanager
    async def alarmed(self) -> AsyncIterator[None]:
        """It says that it has no memory left, and reads nothing more from whoever publishes."""
        await self.server.control("set_vm_memory_high_watermark", "0")
        try:
            yield
        finally:
            await self.server.control("set_vm_memory_high_watermark", "0.4")

    @asynccontextmanager
    async def revoked(self) -> AsyncIterator[None]:
        """Our user is not there any more, and thrown out."""
        await self.server.control("delete_user", "app")
        try:
            yield
        finally:
            await self.server.control("import_definitions", str(self.server.definitions))
