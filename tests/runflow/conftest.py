"""A server that answers with whatever bytes a test wants, and keeps what it was asked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from receiver.runflow.client import RunflowClient

KEY = "rf_live_client_tests"
PATIENCE = 60.0


class RawServer:
    """Reads one request a connection, writes `answer` (or what it makes of it) and closes, or hangs while `hangs` is set."""

    def __init__(self) -> None:
        self.answer: bytes | Callable[[], bytes] = b""
        self.hangs = False
        self.requests: list[str] = []
        self.left = asyncio.Event()
        """Set when a client has left while it hung."""
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    @property
    def url(self) -> str:
        """Its address."""
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}"

    async def close(self) -> None:
        """Takes no more connections, and waits for the end of those that there are: their clients are closed."""
        self._server.close()
        await self._server.wait_closed()
        await asyncio.gather(*self._serving)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.create_task(self._answer(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(self.answer() if callable(self.answer) else self.answer)
            await writer.drain()
            if self.hangs:
                await reader.read()
                self.left.set()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def http(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    """An answer."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    """Answers nothing until it is told what."""
    server = RawServer()
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def client(server: RawServer) -> AsyncIterator[RunflowClient]:
    """A client of that server."""
    client = RunflowClient(server.url, KEY, timeout=PATIENCE)
    yield client
    await client.close()
