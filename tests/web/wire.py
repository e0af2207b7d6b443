"""A client that sends what it is told, byte for byte, and shows each answer as it came."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self, cast

LONG = 60.0
"""Seconds that a wait may take on a slow machine."""

Header = tuple[str, str]


class Answer(NamedTuple):
    """One answer; names of headers in lower case."""

    status: int
    headers: Sequence[Header]
    body: bytes

    def all(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key == name]

    @property
    def json(self) -> Any:
        """The body, which says that it is JSON."""
        assert self.all("content-type") == ["application/json"]
        return json.loads(self.body)


def request(
    method: str, target: str, headers: Iterable[Header] = (), body: bytes | None = None, version: str = "1.1"
) -> bytes:
    """A request. With a body, its length is declared, unless the headers say how it comes."""
    lines = [f"{method} {target} HTTP/{version}", "Host: receiver.test", *(f"{key}: {value}" for key, value in headers)]
    names = {key.lower() for key, _ in headers}
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def chunked(*chunks: bytes) -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


class Wire:
    """One connection to a port of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        async with asyncio.timeout(LONG):
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Sends it all."""
        self._writer.write(data)
        async with asyncio.timeout(LONG):
            await self._writer.drain()

    def stop_reading(self) -> None:
        """Takes nothing more from the connection."""
        cast("asyncio.Transport", self._writer.transport).pause_reading()

    async def answer(self, *, to: str = "GET") -> Answer:
        """The next answer; `to` is the method it answers to, for one to HEAD has no body."""
        async with asyncio.timeout(LONG):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status_line, *lines = head.strip().split("\r\n")
            pairs = [line.partition(": ") for line in lines]
            headers = [(name.lower(), value) for name, _, value in pairs]
            status = int(status_line.split(" ")[1])
            has_body = to != "HEAD" and status not in (204, 304)
            body = await self._reader.readexactly(int(dict(headers)["content-length"])) if has_body else b""
        return Answer(status, headers, body)

    async def ask(self, data: bytes, *, to: str = "GET") -> Answer:
        """Sends a request and returns the answer."""
        await self.send(data)
        return await self.answer(to=to)

    async def ended(self) -> bytes:
        """What still comes until the other side closes."""
        async with asyncio.timeout(LONG):
            return await self._reader.read()
