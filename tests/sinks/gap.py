"""A TCP proxy in front of a server, whose cable a test pulls, cuts and makes slow."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from tests.sinks.servers import Connection, TcpServer, connected, free_port


@dataclass(eq=False)
class _Line:
    """One connection of a client, and what of it goes through."""

    client: Connection
    asks: bool
    answers: bool


class Gap:
    """Passes on what is said. What it swallows it tells neither side of; new connections are as it is at their time."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        """With `tls` it is spoken to the client; it is taken off before the server."""
        self._behind = port
        self._asks = self._answers = True
        self._delay = 0.0
        self._lines: set[_Line] = set()
        self._server = TcpServer(self._relay, tls=tls, port=free_port())

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        self.port = self._server.port
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.__aexit__(kind, error, trace)

    @property
    def connections(self) -> int:
        """How many there have been."""
        return self._server.connections

    def pull(self) -> None:
        """Cuts all connections that are and will be, without a word."""
        self._asks = False
        self.pull_answers()
        for line in self._lines:
            line.asks = False

    def pull_answers(self) -> None:
        """The same in one direction: the server hears all, and nobody hears its answers."""
        self._answers = False
        for line in self._lines:
            line.answers = False

    def slow(self, seconds: float) -> None:
        """So long takes each piece of 64 KiB or less, each way."""
        self._delay = seconds

    def drop(self) -> None:
        """Breaks all connections, for both sides to notice."""
        self._server.drop()

    def reset(self) -> None:
        """The same by TCP resets."""
        for line in self._lines:
            line.client.reset()

    async def refuse(self) -> None:
        """Breaks all connections and takes no new ones, until it is told to listen."""
        await self._server.refuse()

    async def listen(self) -> None:
        """The end of `refuse`."""
        await self._server.listen()

    def mend(self) -> None:
        """New connections go through, and quickly; those that were cut stay dead, as at a firewall that has forgotten them."""
        self._asks = self._answers = True
        self._delay = 0.0

    async def _relay(self, client: Connection) -> None:
        line = _Line(client, self._asks, self._answers)
        if not line.asks:
            await client.hang()
            return
        self._lines.add(line)
        try:
            async with connected(self._behind) as server:
                await pass_on(
                    client,
                    server,
                    asks=lambda: self._passes(line, "asks"),
                    answers=lambda: self._passes(line, "answers"),
                )
        finally:
            self._lines.discard(line)

    async def _passes(self, line: _Line, way: Literal["asks", "answers"]) -> bool:
        if self._delay:
            await asyncio.sleep(self._delay)
        return line.asks if way == "asks" else line.answers


async def _always() -> bool:
    return True


Passes = Callable[[], Awaitable[bool]]
"""Whether the next piece goes through."""


async def pass_on(client: Connection, server: Connection, *, asks: Passes = _always, answers: Passes = _always) -> None:
    """Both ways, until one of them has had enough."""
    ways = [
        asyncio.create_task(_pump(client.reader, server.writer, asks)),
        asyncio.create_task(_pump(server.reader, client.writer, answers)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, passes: Passes) -> None:
    while data := await source.read(65536):
        if await passes():
            target.write(data)
            await target.drain()
