"""Servers, streams and consumers of NATS, for the tests of the `nats` sink."""

import json
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import nats
from nats.js import JetStreamContext

from receiver.sinks.base import Sink
from receiver.sinks.nats import NatsOptions
from tests.sinks.servers import LONG, OwnServer, first_line, program, until

SUBJECT = "runflow.verdicts"
STREAM = "verdicts"
LARGEST = 16 * 1024 * 1024


class NatsServer(OwnServer):
    """A `nats-server` of one's own, with JetStream. `settings` is more of its configuration."""

    def __init__(self, folder: Path, settings: str = "", *, jetstream: bool = True) -> None:
        super().__init__(folder)
        self.settings = settings
        self._jetstream = jetstream

    @property
    def url(self) -> str:
        """Its address."""
        return f"nats://127.0.0.1:{self.port}"

    def command(self, port: int) -> Sequence[str]:
        self._write()
        return [
            program("nats-server", "apt-get install nats-server"),
            "-a",
            "127.0.0.1",
            "-p",
            str(port),
            "-c",
            self._file,
        ]

    async def reload(self, settings: str) -> None:
        """Other settings, without a restart: users who are gone are cut off. It is done when the log says so."""
        self.settings = settings
        self._write()
        log = self.folder / "log"
        before = log.read_text().count("Reloaded server configuration")
        self.signal(signal.SIGHUP)
        await until(lambda: log.read_text().count("Reloaded server configuration") > before)

    @property
    def _file(self) -> str:
        return str(self.folder / "nats.conf")

    def _write(self) -> None:
        jetstream = f'jetstream {{ store_dir: "{self.folder}" }}' if self._jetstream else ""
        (self.folder / "nats.conf").write_text(f"{jetstream}\nmax_payload: {LARGEST}\n{self.settings}\n")

    async def answers(self, port: int) -> bool:
        return (await first_line(port)).startswith(b"INFO ")


class Stored(NamedTuple):
    """A message as the stream has it."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """By which the stream drops repeats."""
        return self.headers["Nats-Msg-Id"]


def sink_to(url: str, **changes: Any) -> Sink:
    """A sink that publishes there."""
    given = {"name": "it", "url": url, "subject": SUBJECT, "timeout": LONG, **changes}
    return NatsOptions.model_validate(given).open(None)


@asynccontextmanager
async def jetstream_at(url: str, **how: Any) -> AsyncIterator[JetStreamContext]:
    """JetStream for a client of the test's own."""
    client = await nats.connect(url, **how)
    try:
        yield client.jetstream(timeout=LONG)
    finally:
        await client.close()


async def make_stream(url: str, stream: str = STREAM, subject: str = SUBJECT, **settings: Any) -> None:
    """A stream that takes the subject."""
    async with jetstream_at(url) as jetstream:
        await jetstream.add_stream(name=stream, subjects=[subject], **settings)


async def stored(url: str, stream: str = STREAM, **how: Any) -> list[Stored]:
    """All that is in the stream, in order, as a consumer is given it."""
    async with jetstream_at(url, **how) as jetstream:
        count = (await jetstream.stream_info(stream)).state.messages
        consumer = await jetstream.subscribe(">", stream=stream, ordered_consumer=True)
        found = [await consumer.next_msg(timeout=LONG) for _ in range(count)]
        return [Stored(each.headers or {}, each.data) for each in found]


async def ids(url: str, **how: Any) -> list[str]:
    """The id of each message in the stream."""
    return [each.id for each in await stored(url, **how)]


def envelope(body: bytes) -> Any:
    """What a structured message holds."""
    return json.loads(body)
