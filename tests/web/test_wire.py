"""What happens on the connection itself: kept-alive, pipelined, given up half way, or not HTTP at all."""

import asyncio
import json
from typing import cast

import pytest

from receiver.store.tables import events, set_aside
from receiver.web import protocol
from receiver.web.hook import PATH
from receiver.web.protocol import LARGEST_HEAD, HttpProtocol
from tests.web.logged import Lines
from tests.web.receivers import WAYS, Receiver, callback, guarded, signed, until
from tests.web.wire import Answer, Wire, request

ERROR = {"code": "BAD_REQUEST", "message": "the request is not HTTP/1.1", "errors": None}


async def idle(receiver: Receiver) -> None:
    """Waits until the server has noticed that no client is there any more."""

    async def is_idle() -> bool:
        return not receiver.server.server_state.connections and not receiver.server.server_state.tasks

    await until(is_idle, "a server without connections")


async def test_pipelined_requests(on_sqlite: Receiver) -> None:
    """Requests sent without waiting must be answered each, in order."""
    _, first = callback()
    bad = request("POST", PATH, [("Runflow-Signature", "x")], first)
    requests = [
        request("POST", PATH, [signed(first)], first),
        request("POST", PATH, [signed(first)], first),
        bad,
        request("PUT", PATH, [], b"x"),
        request("GET", "/healthz"),
        request("POST", PATH, [signed(b"{}")], b"{}"),
    ]
    async with Wire(on_sqlite.port) as wire:
        await wire.send(b"".join(requests))
        answers = [guarded(await wire.answer()).status for _ in requests]
    assert answers == [202, 200, 401, 405, 200, 202]


async def test_many_requests_on_one_connection(on_sqlite: Receiver) -> None:
    """A connection is kept, whatever the answers on it are."""
    async with Wire(on_sqlite.port) as wire:
        for number in range(100):
            _, body = callback()
            headers = [signed(body)] if number % 2 else []
            answer = await wire.ask(request("POST", PATH, headers, body))
            assert answer.status == (202 if number % 2 else 401)
    assert await on_sqlite.count(events) == 50


async def test_a_connection_that_is_to_be_closed(on_sqlite: Receiver) -> None:
    """A client that asks for it has its connection closed after the answer."""
    _, body = callback()
    async with Wire(on_sqlite.port) as wire:
        answer = await wire.ask(request("POST", PATH, [signed(body), ("Connection", "close")], body))
        assert (answer.status, await wire.ended()) == (202, b"")


@pytest.fixture
def hasty(on_sqlite: Receiver, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """A receiver that ends connections that are idle for a tenth of a second."""
    monkeypatch.setattr(on_sqlite.server.config, "timeout_keep_alive", 0.1)
    return on_sqlite


@pytest.mark.parametrize("way", WAYS)
async def test_an_idle_connection_is_ended(hasty: Receiver, way: str) -> None:
    """After an answer the server waits for the next request for as long as it was told to, and then hangs up."""
    _, body = callback()
    async with Wire(hasty.port) as wire:
        assert (await wire.ask(request("POST", way, [signed(body)], body))).status == 202
        assert await wire.ended() == b""
        await idle(hasty)


UNFINISHED = {
    "nothing": b"",
    "empty lines": b"\r\n\r\n",
    "half a head": b"POST /webhook/runflow HTTP/1.1\r\nHost: x",
    "half a body": b"POST /webhook/runflow HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
    "half a body by ASGI": b"POST /webhook/runflow?asgi HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
}


@pytest.mark.parametrize("sent", UNFINISHED)
async def test_a_request_that_does_not_come_to_its_end(
    on_sqlite: Receiver, monkeypatch: pytest.MonkeyPatch, sent: str
) -> None:
    """The connection is ended, on which nothing else was ever to come; at first, and behind a whole request."""
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 0.1)
    async with Wire(on_sqlite.port) as wire:
        await wire.send(UNFINISHED[sent])
        assert await wire.ended() == b""
    monkeypatch.setattr(on_sqlite.server.config, "timeout_keep_alive", 0.5)
    async with Wire(on_sqlite.port) as wire:
        assert (await wire.ask(request("GET", "/healthz"))).status == 200
        await wire.send(UNFINISHED[sent])
        assert await wire.ended() == b""
    await idle(on_sqlite)


async def test_a_request_that_comes_slowly(on_sqlite: Receiver) -> None:
    """Byte by byte it is a request like any other."""
    _, body = callback()
    async with Wire(on_sqlite.port) as wire:
        for byte in request("POST", PATH, [signed(body)], body):
            await wire.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await wire.answer()).status == 202


@pytest.mark.parametrize("endless", ["GET /xxxxxx", "GET / HTTP/1.1\r\nX: xxxxxx", "GET / HTTP/1.1\r\nX: x\r\n"])
async def test_a_head_without_end(on_sqlite: Receiver, endless: str) -> None:
    """An address, a header or headers that go on and on are refused, and no more of them is kept."""
    head = endless.encode()
    more = head[-6:] * 1000
    async with Wire(on_sqlite.port) as wire:
        await wire.send(head)
        for _ in range(LARGEST_HEAD // len(more)):
            await wire.send(more)
        answering = asyncio.create_task(wire.answer())
        while not answering.done():  # how it is cut into pieces on its way nobody knows
            await wire.send(more)
            await asyncio.wait([answering], timeout=0.2)
        answer = await answering
        assert (answer.status, answer.json["code"], await wire.ended()) == (431, "BAD_REQUEST", b"")
    await idle(on_sqlite)


async def test_a_large_head(on_sqlite: Receiver) -> None:
    """Within the limit it is taken."""
    large = request("GET", "/healthz", [(f"X-{number}", "x" * 1000) for number in range(60)])
    async with Wire(on_sqlite.port) as wire:
        for start in range(0, len(large), 10_000):
            await wire.send(large[start : start + 10_000])
            await asyncio.sleep(0.001)
        assert (await wire.answer()).status == 200


async def test_a_request_that_begins_before_the_answer_to_another(
    on_sqlite: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That answer is no reason to take the connection for idle, once the head has come."""
    monkeypatch.setattr(on_sqlite.server.config, "timeout_keep_alive", 1)
    _, body = callback()
    later = request("POST", PATH, [signed(body)], body)
    async with Wire(on_sqlite.port) as wire:
        assert (await wire.ask(request("GET", "/healthz") + later[:20])).status == 200
        await wire.send(later[20 : -len(body)])
        await asyncio.sleep(1.5)
        assert (await wire.ask(later[-len(body) :])).status == 202


@pytest.mark.parametrize("way", WAYS)
async def test_a_request_that_takes_its_time_is_not_idle(hasty: Receiver, way: str) -> None:
    """A caller whose body comes late is waited for, and its connection lasts."""
    _, body = callback()
    head = request("POST", way, [signed(body), ("Content-Length", str(len(body)))])
    async with Wire(hasty.port) as wire:
        await wire.ask(head + body)
        await wire.send(head + body[:100])
        await asyncio.sleep(0.5)
        assert (await wire.ask(body[100:])).status == 200


@pytest.mark.parametrize("way", WAYS)
async def test_a_connection_in_use_is_kept(on_sqlite: Receiver, way: str) -> None:
    """The timer of the first answer, when it has run out, finds a connection that was used since, and waits for the rest."""
    _, body = callback()
    asked = request("POST", way, [signed(body)], body)
    async with Wire(on_sqlite.port) as wire:
        await wire.ask(asked)
        [one] = on_sqlite.server.server_state.connections
        connection = cast("HttpProtocol", one)
        timer = connection.timeout_keep_alive_task
        for _ in range(3):
            await wire.ask(asked)
        assert connection.timeout_keep_alive_task is timer
        connection.timeout_keep_alive_handler()
        assert connection.timeout_keep_alive_task is not timer
        assert (await wire.ask(asked)).status == 200


@pytest.mark.parametrize("sent", [0, 1, 100])
@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_hangs_up_within_the_body(on_sqlite: Receiver, lines: Lines, sent: int, way: str) -> None:
    """A body of which the end never comes must leave nothing behind: no row, no error in the log."""
    _, body = callback()
    async with Wire(on_sqlite.port) as wire:
        await wire.send(request("POST", way, [signed(body), ("Content-Length", str(len(body)))]) + body[:sent])

        async def is_under_way() -> bool:
            return bool(on_sqlite.server.server_state.connections)

        await until(is_under_way, "a connection")
    await idle(on_sqlite)
    assert (await on_sqlite.get("/readyz")).status == 200
    assert await on_sqlite.count(events, set_aside) == 0
    assert lines.above_info() == []


async def test_a_client_that_does_not_wait_for_the_answer(receiver: Receiver, lines: Lines) -> None:
    """What came whole and genuine must be stored even if nobody is there to be told."""
    _, body = callback()
    async with Wire(receiver.port) as wire:
        await wire.send(request("POST", PATH, [signed(body)], body))

        async def is_stored() -> bool:
            return await receiver.count(events) == 1

        await until(is_stored, "the event")
    await idle(receiver)
    assert (await receiver.post(body)).status == 200
    assert lines.above_info() == []


GARBAGE = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
    "nothing like it": b"hello\r\n\r\n",
    "unknown method": b"FETCH / HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "NUL in a header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
    "no colon": b"GET /healthz HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n",
    "space before a colon": b"GET /healthz HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n",
    "not ASCII in the path": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "two lengths": b"POST /webhook/runflow HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "a length and chunks": (
        b"POST /webhook/runflow HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "bad chunk": b"POST /webhook/runflow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    **{
        f"length {value}": b"POST /webhook/runflow HTTP/1.1\r\nHost: x\r\nContent-Length: %s\r\n\r\nx" % value.encode()
        for value in ("-1", "+1", "1.0", "1e3", "0x10", "1,1", "abc", "", "9" * 30, "1_0")
    },
}  # fmt: skip


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
async def test_what_is_not_http(on_sqlite: Receiver, data: bytes) -> None:
    """It must be answered with an error of the usual shape, the connection closed, and the next client served."""
    async with Wire(on_sqlite.port) as wire:
        answers = await answers_until_the_end(wire, data)
    assert answers[-1].status == 400
    assert answers[-1].json == ERROR
    assert all(answer.status == 401 for answer in answers[:-1])
    assert (await on_sqlite.get("/healthz")).status == 200
    assert await on_sqlite.count(events, set_aside) == 0


async def answers_until_the_end(wire: Wire, data: bytes) -> list[Answer]:
    await wire.send(data)
    answers: list[Answer] = []
    while not answers or answers[-1].status != 400:
        answers.append(guarded(await wire.answer()))
    assert await wire.ended() == b""
    return answers


async def test_an_upgrade_that_is_not_offered(on_sqlite: Receiver) -> None:
    """A client that would rather speak WebSocket is answered in HTTP."""
    asked = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "x"),
    ]
    assert (await on_sqlite.ask("GET", "/healthz", asked)).status == 200
    assert json.loads((await on_sqlite.ask("GET", PATH, asked)).body)["code"] == "METHOD_NOT_ALLOWED"
