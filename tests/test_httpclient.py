"""The client for everything outgoing: what goes out with each request, what it raises, and what is said of that."""

import asyncio
import gc
import gzip
import socket
import struct
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import aclosing

import httpx
import pytest
import uvloop

from receiver import __version__
from receiver.httpclient import Client, HTTPError, why
from tests.sinks.servers import LONG, Connection, Request, TcpServer, WebServer, answering, response

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
        async with aclosing(Client(timeout=60)) as client:
            for _ in range(TRIES):
                with pytest.raises(HTTPError) as caught:
                    await client.send("GET", hangs_up, {})
                said.add(why(caught.value))
        return said

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        said = runner.run(ask())
    assert said <= {"cannot connect", "the connection broke (ReadError)", "the connection broke (WriteError)",
                    "the connection broke (RemoteProtocolError)"}  # fmt: skip


async def test_each_request_is_by_itself() -> None:
    """It says who asks, and nothing of what was answered before: no cookie goes back, no redirect is followed."""
    behaviour = answering(302, set_cookie="who=you; Path=/", location="/other")
    async with WebServer(behaviour) as server, aclosing(Client(timeout=60)) as client:
        for _ in range(2):
            assert (await client.post(server.url, {"content-type": "text/plain"}, b"hello")).status_code == 302
    for request in server.requests:
        assert request.headers == {
            "host": f"127.0.0.1:{server.port}",
            "user-agent": f"runflow-receiver/{__version__}",
            "accept": "*/*",
            "accept-encoding": "gzip, deflate",
            "content-type": "text/plain",
            "content-length": "5",
        }
        assert (request.target, request.body) == ("/hook", b"hello")
    assert (len(server.requests), server.connections) == (2, 1)


async def test_an_address_with_a_name() -> None:
    """It goes by basic authentication, and not in the request's target."""
    async with WebServer() as server, aclosing(Client(timeout=60)) as client:
        address = server.url.replace("://", "://us%40here:s%3Acret@")
        await client.post(address, {}, b"")
    [request] = server.requests
    assert request.headers["authorization"] == "Basic " + b64encode(b"us@here:s:cret").decode()
    assert (request.headers["host"], request.target) == (f"127.0.0.1:{server.port}", "/hook")


async def test_what_is_given_stands_in_place_of_the_usual() -> None:
    """So Runflow is asked for JSON, and a destination for an answer as it is."""
    async with WebServer() as server, aclosing(Client(timeout=60)) as client:
        answer = await client.send("GET", server.url, {"accept": "application/json", "user-agent": "mine"})
        await answer.aclose()
    [request] = server.requests
    assert (request.headers["accept"], request.headers["user-agent"]) == ("application/json", "mine")


async def test_a_connection_that_was_ended_is_not_used_again() -> None:
    """What the other side ended after its answer, without a word, is noticed before the next request."""

    async def once(_: Request, connection: Connection) -> None:
        await connection.say(response())
        connection.writer.close()

    async with WebServer(once) as server, aclosing(Client(timeout=60)) as client:
        for _ in range(20):
            assert (await client.post(server.url, {}, b"")).status_code == 200
            await asyncio.sleep(0.01)
    assert server.connections == 20


async def test_a_handshake_that_is_cancelled() -> None:
    """The connection ends with it, and not when the garbage collector comes by."""
    greeted, ended = asyncio.Event(), asyncio.Event()

    async def say_nothing(connection: Connection) -> None:
        await connection.reader.read(1)
        greeted.set()
        await connection.hang()
        ended.set()

    async with TcpServer(say_nothing) as server, aclosing(Client(timeout=60)) as client:
        asking = asyncio.create_task(client.send("GET", f"https://127.0.0.1:{server.port}/", {}))
        await greeted.wait()
        gc.disable()
        try:
            asking.cancel()
            await asyncio.wait([asking])
            async with asyncio.timeout(LONG):
                await ended.wait()
        finally:
            gc.enable()
    assert asking.cancelled()


async def test_an_answer_that_is_compressed() -> None:
    """It is read as what it was before."""
    behaviour = answering(body=gzip.compress(b"long" * 99), content_encoding="gzip")
    async with WebServer(behaviour) as server, aclosing(Client(timeout=60)) as client:
        assert (await client.post(server.url, {}, b"")).content == b"long" * 99


async def test_a_closed_client_connects_no_more() -> None:
    """Nobody would end that connection."""
    async with WebServer() as server:
        client = Client(timeout=60)
        await client.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await client.send("GET", server.url, {})
    assert server.connections == 0


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
