"""What the sinks' tests send to: a raw HTTP server that does as a test says, and a Redis that a test may kill."""

import asyncio
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pytest

LONG = 30.0
"""Seconds that a wait may take on a slow machine."""


class Request(NamedTuple):
    """One request as it came; names of headers in lower case."""

    target: str
    headers: dict[str, str]
    body: bytes


class Connection(NamedTuple):
    """One connection of a client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, text: str | bytes) -> None:
        """Sends it at once."""
        self.writer.write(text.encode() if isinstance(text, str) else text)
        await self.writer.drain()

    async def hang(self) -> None:
        """Says nothing more until the client has gone."""
        while await self.reader.read(4096):
            pass

    def reset(self) -> None:
        """Breaks the connection with a TCP reset."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.writer.transport.abort()


Behaviour = Callable[[Request, Connection], Awaitable[None]]
"""Answers one request. The connection is kept, unless this closes it."""


def response(status: int = 200, body: bytes = b"ok", **headers: str) -> bytes:
    """A whole answer. 204 and 304 have no body; underscores in names of headers become hyphens."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    if status not in (204, 304):
        fields["content-length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Word\r\n{head}\r\n".encode() + (b"" if status in (204, 304) else body)


def answering(status: int = 200, body: bytes = b"ok", **headers: str) -> Behaviour:
    """The same answer to every request."""

    async def answer(_: Request, connection: Connection) -> None:
        await connection.say(response(status, body, **headers))

    return answer


class TcpServer:
    """Holds one conversation with each connection, on a free port of 127.0.0.1; ends them all when it ends."""

    def __init__(self, converse: Callable[[Connection], Awaitable[None]], *, tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self._converse = converse
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            await self._converse(Connection(reader, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            if not writer.is_closing():  # what was said last must still go out where the behaviour closed
                writer.transport.abort()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


class WebServer(TcpServer):
    """Speaks HTTP/1.1 as far as a test's behaviour does; `requests` is all that came."""

    def __init__(self, behaviour: Behaviour | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(self._take_requests, tls=tls)
        self.behaviour = behaviour or answering()
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        """Its address, with a path."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/hook"

    async def _take_requests(self, connection: Connection) -> None:
        while not connection.writer.is_closing():
            head = (await connection.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await connection.reader.readexactly(int(headers.get("content-length", 0)))
            request = Request(head[0].split(" ")[1], headers, body)
            self.requests.append(request)
            await self.behaviour(request, connection)


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what nobody announces."""
    for _ in range(int(LONG * 100)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


@contextmanager
def nobody_listens() -> Iterator[int]:
    """A port of 127.0.0.1 where a connection is refused; held, so that nothing else takes it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


class RedisServer:
    """A `redis-server` of one's own, which can be killed and started again on its port."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._folder = folder
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """The address of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self, *arguments: str) -> None:
        """Starts it, on a free port or on its port of before, and waits until it answers."""
        async with asyncio.timeout(LONG):
            while not await self._started(self.port or free_port(), arguments):
                pass

    async def _started(self, port: int, arguments: tuple[str, ...]) -> bool:
        process = self._process = self._launched(port, arguments)
        while process.poll() is None:
            if await _answers(port):
                self.port = port
                return True
            await asyncio.sleep(0.01)
        return False  # the port was taken meanwhile

    def _launched(self, port: int, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        command = [redis_program(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        with (self._folder / "redis.log").open("ab") as log:
            return subprocess.Popen([*command, *self._arguments, *arguments], stdout=log, stderr=log)

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP makes it hang, SIGCONT go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and waits until it is dead."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


async def _answers(port: int) -> bool:
    """Whether a Redis is there: also one that wants a password answers a PING."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        line = await reader.readline()
    except OSError:
        return False
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
    return line.startswith((b"+PONG", b"-NOAUTH"))


def free_port() -> int:
    """A port that was free just now, below those that the system gives to outgoing connections."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def redis_program() -> str:
    """The path of `redis-server`. Without it the test is skipped, or fails where CI is set."""
    program = shutil.which("redis-server")
    if program is None:
        message = "no redis-server to start: apt-get install redis-server"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return program
