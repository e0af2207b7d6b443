"""The client for everything outgoing: what it raises where the other side hangs up, and what is said of it."""

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator

import httpx
import pytest
import uvloop

from receiver.httpclient import HTTPError, open_client, why

TRIES = 300
"""About one in ten meets the other side's reset before the loop has looked at the connection."""
RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def hangs_up() -> Iterator[str]:
    """The address of a server that resets each connection as soon as it has it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # it is over
                return
            with connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    listener.shutdown(socket.SHUT_RDWR)  # which ends the accept, as closing alone would not
    thread.join()
    listener.close()


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_that_is_reset_at_once(hangs_up: str, loop_factory: type[asyncio.AbstractEventLoop]) -> None:
    """Whatever a network does must be an `HTTPError`, under the loop of `receiver serve` as well."""

    async def ask() -> set[str]:
        said = set()
        async with open_client(timeout=60) as client:
            for _ in range(TRIES):
                with pytest.raises(HTTPError) as caught:
                    await client.get(hangs_up)
                said.add(why(caught.value))
        return said

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        said = runner.run(ask())
    assert said <= {"cannot connect", "the connection broke (ReadError)", "the connection broke (WriteError)",
                    "the connection broke (RemoteProtocolError)"}  # fmt: skip


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (httpx.ConnectTimeout("to http://host/secret"), "no connection in time"),
        (httpx.ReadTimeout("from http://host/secret"), "no answer in time"),
        (TimeoutError(), "no answer in time"),
        (httpx.ConnectError("to http://host/secret"), "cannot connect"),
        (httpx.RemoteProtocolError("http://host/secret"), "the connection broke (RemoteProtocolError)"),
    ],
)
def test_why(error: Exception, text: str) -> None:
    """What went wrong is said without the client's own words, in which an address may stand."""
    assert why(error) == text
