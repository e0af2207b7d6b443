"""What the sinks' tests send to: a raw HTTP server that does as a test says, a proxy, and servers that a test may kill."""

import asyncio
import os
import random
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from signal import SIGKILL, SIGSTOP, SIGTERM, Signals
from types import TracebackType
from typing import NamedTuple, Self

import pytest

LONG = 30.0
"""Seconds that a wait may take on a slow machine."""
MOMENTS = 5
"""Turns of the event loop in which a conversation begins with a connection that was accepted just now."""


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
        """Breaks the connection with a TCP reset, if it is not at its end anyway."""
        if self.writer.transport.is_closing():
            return
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
    """Holds one conversation with each connection, on a port of 127.0.0.1, a free one if none is given; ends them all when it
    ends."""

    def __init__(
        self, converse: Callable[[Connection], Awaitable[None]], *, tls: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        self.connections = 0
        self.port = port
        self._converse = converse
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for _ in range(MOMENTS):
            await asyncio.sleep(0)
        self.drop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # what was aborted is closed in the next turn
        await self._server.wait_closed()

    async def listen(self) -> None:
        """Takes connections, at first and again."""
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Breaks all connections, and takes no new ones."""
        self._server.close()
        self.drop()

    def drop(self) -> None:
        """Breaks all connections."""
        for task in self._tasks:
            task.cancel()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not writer.is_closing():  # one that was dropped before its conversation began
                writer.transport.abort()

        task.add_done_callback(ended)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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


class OwnServer:
    """A server of one's own, which can be killed and started again on its port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def command(self, port: int) -> Sequence[str]:
        """What starts it on this port."""
        raise NotImplementedError

    async def answers(self, port: int) -> bool:
        """Whether it is there."""
        raise NotImplementedError

    async def start(self, *arguments: str) -> None:
        """Starts it, on a free port or on its port of before, and waits until it answers."""
        async with asyncio.timeout(3 * LONG):
            while not await self._started(self.port or free_port(), arguments):
                pass

    async def _started(self, port: int, arguments: tuple[str, ...]) -> bool:
        process = self._process = self._launched([*self.command(port), *arguments])
        while process.poll() is None:
            if await self.answers(port):
                self.port = port
                return True
            await asyncio.sleep(0.01)
        return False  # the port was taken meanwhile

    def _launched(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            # In a group of its own: some are started by a script.
            return subprocess.Popen(command, stdout=log, stderr=log, env=self.environment(), start_new_session=True)

    def environment(self) -> dict[str, str] | None:
        """What it is started with; None is ours."""
        return None

    def signal(self, number: Signals) -> None:
        """SIGSTOP makes it hang, SIGCONT go on."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
            if number == SIGSTOP:
                os.waitpid(self._process.pid, os.WUNTRACED)  # until it has stopped

    def kill(self) -> None:
        """SIGKILL, and waits until it is dead."""
        self._end(SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, and waits until it has ended in good order."""
        await asyncio.to_thread(self._end, SIGTERM)

    def _end(self, number: Signals) -> None:
        if self._process is not None:
            self.signal(number)
            self._process.wait()
            while _listens(self.port):  # what a script has started is no child of ours
                time.sleep(0.01)


class RedisServer(OwnServer):
    """A `redis-server` of one's own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        super().__init__(folder)
        self._arguments = arguments

    @property
    def url(self) -> str:
        """The address of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self, port: int) -> Sequence[str]:
        where = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        return [redis_program(), *where, *self._arguments]

    async def answers(self, port: int) -> bool:
        """Also one that wants a password answers a PING."""
        return (await first_line(port, b"PING\r\n")).startswith((b"+PONG", b"-NOAUTH"))


async def first_line(port: int, sent: bytes = b"") -> bytes:
    """What is said there at once, or after that was sent; nothing where nobody is."""
    with suppress(OSError):
        async with connected(port) as connection:
            await connection.say(sent)
            return await connection.reader.readline()
    return b""


def _listens(port: int) -> bool:
    with socket.socket() as candidate:
        return candidate.connect_ex(("127.0.0.1", port)) == 0


async def listens(port: int) -> bool:
    """Whether somebody is there."""
    with suppress(OSError):
        async with connected(port):
            return True
    return False


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    """A connection to this port of 127.0.0.1, which is broken at the end. Raises OSError if there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


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
    """The path of `redis-server`."""
    return program("redis-server", "apt-get install redis-server")


def program(name: str, remedy: str) -> str:
    """The path of a server's program. Without it the test is skipped, or fails where CI is set."""
    path = shutil.which(name, path=f"/usr/lib/rabbitmq/bin:{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if path is None:
        message = f"no {name} to start: {remedy}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path
