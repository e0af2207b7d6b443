"""The other side of each kind of sink, as the common suite sees it. A new kind of sink adds its row to `DESTINATIONS`."""

import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from redis.asyncio import Redis

from receiver.sinks.amqp import AmqpOptions
from receiver.sinks.apprise import AppriseOptions
from receiver.sinks.base import SinkOptions
from receiver.sinks.file import FileOptions
from receiver.sinks.http import HttpOptions
from receiver.sinks.kafka import KafkaOptions
from receiver.sinks.nats import NatsOptions
from receiver.sinks.redis import RedisOptions
from receiver.sinks.slack import SlackOptions
from receiver.sinks.sqs import MOST_BYTES
from tests.sinks import amqp_side, nats_side
from tests.sinks.kafka_side import KafkaCluster
from tests.sinks.servers import LONG, WebServer, nobody_listens
from tests.sinks.sqs_side import Queue

PASSWORD = "hunter2"
"""Stands in every option that is secret."""
SIGNING_SECRET = "whsec_" + PASSWORD + "A" * 33


SERVERS = {"amqp": "rabbit", "kafka": "kafka", "nats": "nats_server", "redis": "redis_url", "sqs": "sqs"}
"""The fixture of what a kind's other side needs to be there."""
LARGEST = {"sqs": MOST_BYTES}
"""Bytes of the largest message that a kind takes, where that is less than some megabytes."""


class Place(NamedTuple):
    """Where a test may work: a folder, and what the kind's fixture in `SERVERS` gives."""

    kind: str
    folder: Path
    server: Any


class Arrival(NamedTuple):
    """One thing that came: its text, the key by which the other side may tell a repeat, the envelope if it came in one."""

    text: str
    key: str | None
    envelope: Mapping[str, Any] | None


class Destination(Protocol):
    """A running other side."""

    drops_repeats: bool

    options: SinkOptions
    """Options that lead there."""
    dead: SinkOptions
    """Options of the same kind that lead nowhere, full of secrets."""

    async def arrived(self) -> list[Arrival]:
        """All that has come so far, in order."""
        ...


class _Amqp:
    drops_repeats = False

    def __init__(self, url: str, refusing: int) -> None:
        self._url = url
        self.queue = f"test.{uuid.uuid4()}"
        self.options: SinkOptions = AmqpOptions(name="it", url=url, routing_key=self.queue, timeout=LONG)
        self.dead: SinkOptions = AmqpOptions(
            name="it",
            url=f"amqp://user:{PASSWORD}@127.0.0.1:{refusing}/{PASSWORD}",
            routing_key=self.queue,
            timeout=LONG,
        )
        self._arrivals: list[Arrival] = []

    async def arrived(self) -> list[Arrival]:
        for each in await amqp_side.taken(self._url, self.queue):
            self._arrivals.append(Arrival(each.body.decode(), each.message_id, json.loads(each.body)))
        return self._arrivals


class _Apprise:
    drops_repeats = False

    def __init__(self, server: WebServer, refusing: int) -> None:
        self._server = server
        self.options: SinkOptions = AppriseOptions(name="it", url=f"json://127.0.0.1:{server.port}/", timeout=LONG)
        self.dead: SinkOptions = AppriseOptions(
            name="it", url=f"json://user:{PASSWORD}@127.0.0.1:{refusing}/{PASSWORD}?+token={PASSWORD}"
        )

    async def arrived(self) -> list[Arrival]:
        return [Arrival(request.body.decode(), None, None) for request in self._server.requests]


class _File:
    drops_repeats = False

    def __init__(self, folder: Path) -> None:
        self._path = folder / "verdicts.ndjson"
        self.options: SinkOptions = FileOptions(name="it", path=str(self._path), timeout=LONG)
        self.dead: SinkOptions = FileOptions(name="it", path=str(folder / "nowhere" / "verdicts.ndjson"))

    async def arrived(self) -> list[Arrival]:
        lines = self._path.read_text().split("\n")
        assert lines.pop() == ""
        return [Arrival(line, None, json.loads(line)) for line in lines]


class _Http:
    drops_repeats = False

    def __init__(self, server: WebServer, refusing: int) -> None:
        self._server = server
        self.options: SinkOptions = HttpOptions(name="it", url=server.url, secret=SIGNING_SECRET, timeout=LONG)
        self.dead: SinkOptions = HttpOptions(
            name="it",
            url=f"http://user:{PASSWORD}@127.0.0.1:{refusing}/{PASSWORD}?token={PASSWORD}",
            secret=SIGNING_SECRET,
            headers={"Authorization": f"Bearer {PASSWORD}"},
        )

    async def arrived(self) -> list[Arrival]:
        return [
            Arrival(request.body.decode(), request.headers["webhook-id"], json.loads(request.body))
            for request in self._server.requests
        ]


class _Kafka:
    drops_repeats = False

    def __init__(self, cluster: KafkaCluster, refusing: int) -> None:
        self._cluster = cluster
        self.topic = cluster.topic()
        self.options: SinkOptions = cluster.options(self.topic, max_bytes=100_000_000)
        self.dead: SinkOptions = KafkaOptions(
            name="it",
            bootstrap_servers=f"127.0.0.1:{refusing}",
            topic=self.topic,
            sasl_mechanism="PLAIN",
            username="user",
            password=PASSWORD,
        )

    async def arrived(self) -> list[Arrival]:
        return [
            Arrival(record.value.decode(), record.headers["id"], json.loads(record.value))
            for record in self._cluster.records(self.topic)
        ]


class _Nats:
    drops_repeats = True

    def __init__(self, url: str, refusing: int) -> None:
        self._url = url
        self.stream = f"test-{uuid.uuid4()}"
        self.options: SinkOptions = NatsOptions(name="it", url=url, subject=f"to.{self.stream}", timeout=LONG)
        self.dead: SinkOptions = NatsOptions(
            name="it", url=f"nats://user:{PASSWORD}@127.0.0.1:{refusing}", subject=f"to.{self.stream}", timeout=LONG
        )

    async def arrived(self) -> list[Arrival]:
        stored = await nats_side.stored(self._url, self.stream)
        return [Arrival(each.body.decode(), each.id, json.loads(each.body)) for each in stored]


class _Redis:
    drops_repeats = True

    def __init__(self, url: str, refusing: int) -> None:
        self._url = url
        self.stream = f"test.{uuid.uuid4()}"
        self.options: SinkOptions = RedisOptions(name="it", url=url, stream=self.stream, timeout=LONG)
        self.dead: SinkOptions = RedisOptions(
            name="it", url=f"redis://user:{PASSWORD}@127.0.0.1:{refusing}/0", stream=self.stream, timeout=LONG
        )

    async def arrived(self) -> list[Arrival]:
        async with Redis.from_url(self._url, decode_responses=True) as client:
            entries: Any = await client.xrange(self.stream)
        return [Arrival(fields["event"], fields["id"], json.loads(fields["event"])) for _, fields in entries]

    async def clean(self) -> None:
        async with Redis.from_url(self._url) as client:
            keys = [key async for key in client.scan_iter(f"{{{self.stream}}}:seen:*")]
            await client.delete(self.stream, *keys)


class _Slack:
    drops_repeats = False

    def __init__(self, server: WebServer, refusing: int) -> None:
        self._server = server
        self.options: SinkOptions = SlackOptions(name="it", url=server.url, timeout=LONG, digest=False)
        self.dead: SinkOptions = SlackOptions(name="it", url=f"http://127.0.0.1:{refusing}/services/{PASSWORD}")

    async def arrived(self) -> list[Arrival]:
        return [Arrival(request.body.decode(), None, None) for request in self._server.requests]


class _Sqs:
    drops_repeats = True

    def __init__(self, queue: Queue, refusing: int) -> None:
        self._queue = queue
        self._came: list[Arrival] = []
        self.options: SinkOptions = queue.options()
        self.dead: SinkOptions = queue.options(endpoint_url=f"http://127.0.0.1:{refusing}")

    async def arrived(self) -> list[Arrival]:
        self._came += [
            Arrival(each.body, each.attributes["id"], json.loads(each.body)) for each in self._queue.taken_out()
        ]
        return self._came


@asynccontextmanager
async def _apprise(place: Place) -> AsyncIterator[Destination]:
    with nobody_listens() as refusing:
        async with WebServer() as server:
            yield _Apprise(server, refusing)


@asynccontextmanager
async def _amqp(place: Place) -> AsyncIterator[Destination]:
    with nobody_listens() as refusing:
        destination = _Amqp(place.server.url, refusing)
        async with amqp_side.channel_at(place.server.url) as channel:
            queue = await channel.declare_queue(destination.queue, durable=True)
            yield destination
            await queue.delete(if_unused=False, if_empty=False)


@asynccontextmanager
async def _file(place: Place) -> AsyncIterator[Destination]:
    yield _File(place.folder)


@asynccontextmanager
async def _http(place: Place) -> AsyncIterator[Destination]:
    with nobody_listens() as refusing:
        async with WebServer() as server:
            yield _Http(server, refusing)


@asynccontextmanager
async def _kafka(place: Place) -> AsyncIterator[Destination]:
    with nobody_listens() as refusing:
        yield _Kafka(place.server, refusing)


@asynccontextmanager
async def _nats(place: Place) -> AsyncIterator[Destination]:
    with nobody_listens() as refusing:
        destination = _Nats(place.server.url, refusing)
        async with nats_side.jetstream_at(place.server.url) as jetstream:
            await jetstream.add_stream(name=destination.stream, subjects=[f"to.{destination.stream}"])
            yield destination
            await jetstream.delete_stream(destination.stream)


@asynccontextmanager
async def _redis(place: Place) -> AsyncIterator[Destination]:
    with nobody_listens() as refusing:
        destination = _Redis(place.server, refusing)
        yield destination
        await destination.clean()


@asynccontextmanager
async def _slack(place: Place) -> AsyncIterator[Destination]:
    with nobody_listens() as refusing:
        async with WebServer() as server:
            yield _Slack(server, refusing)


@asynccontextmanager
async def _sqs(place: Place) -> AsyncIterator[Destination]:
    with nobody_listens() as refusing, place.server.queue(fifo=True) as queue:
        yield _Sqs(queue, refusing)


DESTINATIONS: Mapping[str, Callable[[Place], AbstractAsyncContextManager[Destination]]] = {
    "amqp": _amqp,
    "apprise": _apprise,
    "file": _file,
    "http": _http,
    "kafka": _kafka,
    "nats": _nats,
    "redis": _redis,
    "slack": _slack,
    "sqs": _sqs,
}
