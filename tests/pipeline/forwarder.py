"""A way to PostgreSQL that is not there, there, cut, or silent, as a test wants it."""

import asyncio
import socket
from contextlib import suppress
from types import TracebackType
from typing import Self

from sqlalchemy.engine import make_url

CHUNK = 64 * 1024


class Forwarder:
    """A port of 127.0.0.1 that refuses connections until `open`; then they lead to `address`."""

    def __init__(self, address: str) -> None:
        self._there = make_url(address)
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))  # bound and not listening: nobody else takes it, and it refuses
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.talks = asyncio.Event()
        """While it is not set nothing goes through, though the connections stay."""
        self.talks.set()

    @property
    def address(self) -> str:
        """The address that leads through here."""
        host, port = self._socket.getsockname()
        return self._there.set(host=host, port=port).render_as_string(hide_password=False)

    async def open(self) -> None:
        """Takes connections from now on."""
        self._server = await asyncio.start_server(self._accept, sock=self._socket)

    def cut(self) -> None:
        """Breaks the connections that there are."""
        for writer in self._writers:
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.talks.set()
        if self._server is not None:
            self._server.close()
        self.cut()
        await asyncio.gather(*self._serving)
        self._socket.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._there.host, self._there.port or 5432)
        self._writers |= {writer, there_writer}
        await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer))
        self._writers -= {writer, there_writer}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self.talks.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
