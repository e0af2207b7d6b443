"""NATS with JetStream, its stream on the disk."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.acceptance.brokers.base import ROOM, ServerBroker
from tests.acceptance.collector import Arrival
from tests.sinks.nats_side import STREAM, SUBJECT, NatsServer, jetstream_at, make_stream
from tests.sinks.servers import LONG

USERS = "authorization {{ users = [{{ user: admin, password: admin }}, {{ user: {}, password: app }}] }}"


class NatsBroker(ServerBroker):
    """Read by a pull consumer. The stream drops what comes again within its window, two minutes."""

    kind = "nats"
    drops_repeats = True
    at_once = 100

    async def start(self) -> int:
        """One for itself."""
        self.server = self._nats = NatsServer(self.folder, USERS.format("app"))
        await self.server.start()
        return self.server.port

    async def make(self) -> None:
        # From the start: with a limit below what it has, it would throw away its oldest messages.
        most = self.scale.before + ROOM if self.trouble == "full" else -1
        await make_stream(self._admin, discard="new", max_msgs=most)

    @property
    def _admin(self) -> str:
        return f"nats://admin:admin@127.0.0.1:{self.server.port}"

    def options(self) -> dict[str, str | float | bool]:
        return {"url": f"nats://app:app@127.0.0.1:{self.gap.port}", "subject": SUBJECT}

    async def received(self) -> list[Arrival]:
        found: list[Arrival] = []
        async with jetstream_at(self._admin) as jetstream:
            count = (await jetstream.stream_info(STREAM)).state.messages
            consumer = await jetstream.pull_subscribe(SUBJECT, durable="reader", stream=STREAM)
            while len(found) < count:
                for each in await consumer.fetch(min(100, count - len(found)), timeout=LONG):
                    found.append(Arrival((each.headers or {})["Nats-Msg-Id"], json.loads(each.data)))
                    await each.ack()
        return found

    async def end(self) -> None:
        self.server.kill()

    @asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        """The stream takes no more than it has (`discard new`)."""
        yield
        async with jetstream_at(self._admin) as jetstream:
            config = (await jetstream.stream_info(STREAM)).config
            await jetstream.update_stream(config, max_msgs=-1)

    @asynccontextmanager
    async def revoked(self) -> AsyncIterator[None]:
        """Our user is not there any more, and thrown out."""
        await self._nats.reload(USERS.format("nobody"))
        yield
        await self._nats.reload(USERS.format("app"))
