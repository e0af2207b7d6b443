"""How HTTP is spoken: uvicorn's protocol, with two changes."""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_NOT_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 76\r\n\r\n"
    b'{"code":"BAD_REQUEST","message":"the request is not HTTP/1.1","errors":null}'
)


class Protocol(HttpToolsProtocol):
    """What is not HTTP at all gets an error of the same shape as all others, and an answer's head goes out with its body."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection is open."""
        super().connection_made(cast("asyncio.Transport", Joined(transport)))

    def send_400_response(self, msg: str) -> None:
        """Answers and hangs up, for nobody knows where the next request would begin."""
        self.transport.write(_NOT_HTTP)
        self.transport.close()


class Joined:
    """A transport that sends what is written in one turn of the event loop at once.

    Uvicorn writes an answer's head and body apart, and uvloop sends each the moment it is written: a second packet, which costs
    as much as reading the whole request does.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._call_soon = asyncio.get_running_loop().call_soon
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        """All else is the transport's."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Sends it, with all that follows in this turn."""
        if not self._held:
            self._call_soon(self._send)
        self._held.append(data)

    def close(self) -> None:
        """Ends the connection when all that was written is sent."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        data, self._held = b"".join(self._held), []
        if data and not self._transport.is_closing():  # the other side may have gone in this turn
            self._transport.write(data)
