"""Destinations: an HTTP server that a test stops, starts again and slows down; and what came to a file or a Redis stream."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from redis.asyncio import Redis
from starlette.types import Receive, Scope, Send

from receiver.offline.listener import Listener
from tests.acceptance.load import Callback
from tests.sinks.servers import free_port

SIGNING_SECRET = "whsec_" + "A" * 43 + "="


class Arrival(NamedTuple):
    """A message that came, by its own id."""

    id: str
    envelope: Mapping[str, Any]


class Collector:
    """An HTTP destination. `delay`: seconds until it answers; whoever leaves before is not counted among `arrivals`."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.waiting = 0
        self.delay = 0.0
        self._listener: Listener | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listens, the second time on the port of the first."""
        self._port = self._port or free_port()
        self._listener = Listener(self, port=self._port)
        await self._listener.start()

    async def stop(self) -> None:
        """Breaks all connections and refuses new ones."""
        if self._listener is not None:
            await self._listener.close()
            self._listener = None

    def sink(self, **options: float) -> str:
        """The table of `receiver.toml` that leads here."""
        url = f"http://127.0.0.1:{self._port}/hook"
        return sink("collector", "http", url=url, secret=SIGNING_SECRET, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. (ASGI)"""
        headers = dict(scope["headers"])
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.waiting += 1
        try:
            if self.delay and await _left(receive, self.delay):
                return
        finally:
            self.waiting -= 1
        self.arrivals.append(Arrival(headers[b"webhook-id"].decode(), json.loads(body)))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


async def _left(receive: Receive, within: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            await receive()
            return True
    return False


def sink(name: str, kind: str, **options: str | float) -> str:
    """A sink's table for `receiver.toml`. Its deliveries are leased for its timeout and a little."""
    lines = {"name": name, "type": kind, "timeout": 1, **options}
    return "[[sinks]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())


def in_file(path: Path) -> list[Arrival]:
    """The messages in a `file` sink's file. A line that was torn when its writer was killed is no message."""
    arrivals = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with suppress(json.JSONDecodeError):
            envelope = json.loads(line)
            arrivals.append(Arrival(envelope["id"], envelope))
    return arrivals


async def in_stream(url: str, stream: str) -> list[Arrival]:
    """The messages in a `redis` sink's stream."""
    async with Redis.from_url(url, decode_responses=True) as client:
        entries: Any = await client.xrange(stream)
    return [Arrival(fields["id"], json.loads(fields["event"])) for _, fields in entries]


def check_arrived(callbacks: Iterable[Callback], arrivals: Iterable[Arrival], where: str = "it") -> int:
    """Every callback's message came, nothing else did, and repeats are the same message. Returns how many were repeats."""
    came: dict[str, Arrival] = {}
    times: Counter[str] = Counter()
    for arrival in arrivals:
        times[arrival.id] += 1
        first = came.setdefault(arrival.id, arrival)
        assert arrival.id == arrival.envelope["id"]
        assert arrival.envelope["data"] == first.envelope["data"], "a repeat with another content"
    expected = {callback.message_id for callback in callbacks}
    missing, unexpected = expected - came.keys(), came.keys() - expected
    assert came.keys() == expected, f"{where}: missing: {missing}; unexpected: {unexpected}"
    return times.total() - len(times)
