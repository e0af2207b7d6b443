"""`http`: what each answer, and each way of not answering, means; what goes out, and its signature."""

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from standardwebhooks import Webhook

from receiver.core.envelope import CONTENT_TYPE
from receiver.sinks.base import Again, Done, Down, Never, Outcome, SinkError
from receiver.sinks.http import HttpOptions, HttpSink
from tests.sinks.destinations import PASSWORD, SIGNING_SECRET
from tests.sinks.messages import message
from tests.sinks.servers import (
    LONG,
    Behaviour,
    Connection,
    Request,
    TcpServer,
    WebServer,
    answering,
    nobody_listens,
    response,
)

NOT_PEM = "not a certificate in PEM, or not its key, or a key that wants a password"
PAUSES = {401, 403, 404, 410, 429}
MAY_PASS = {408, 425}
INTERIM = 100
"""Statuses from 100 to 199 are no answers: an answer follows them. 101 would change the protocol, which nobody asked for."""


def options(url: str, **changes: Any) -> HttpOptions:
    """Options that lead there."""
    return HttpOptions.model_validate({"name": "it", "url": url, "secret": SIGNING_SECRET, "timeout": LONG, **changes})


async def outcome_of(behaviour: Behaviour, **changes: Any) -> Outcome:
    """What one message comes to at a server that behaves so. It comes to something in any case."""
    async with asyncio.timeout(LONG), WebServer(behaviour) as server:
        sink = HttpSink(options(server.url, **changes))
        [outcome] = await sink.send([message()])
        await sink.close()
    return outcome


def expected(status: int) -> type[Outcome]:
    """The table of the interface, section 6."""
    if 200 <= status < 300:
        return Done
    if status in PAUSES or 300 <= status < 400:
        return Down
    if status in MAY_PASS or 500 <= status < 600:
        return Again
    return Never


async def test_every_status_has_its_outcome() -> None:
    """Every status from 200 to 599, and odd ones beyond, over one kept connection."""
    statuses = [*range(200, 600), 600, 799, 999]
    waiting = iter(statuses)

    async def next_status(_: Request, connection: Connection) -> None:
        await connection.say(response(next(waiting), b"{}"))

    async with WebServer(next_status) as server:
        sink = HttpSink(options(server.url, concurrency=1))
        outcomes = {status: (await sink.send([message()]))[0] for status in statuses}
        await sink.close()

    assert {status: type(outcome) for status, outcome in outcomes.items()} == {
        status: expected(status) for status in statuses
    }
    for status, outcome in outcomes.items():
        assert isinstance(outcome, Done) or str(status) in outcome.reason
    assert server.connections == 1


@pytest.mark.parametrize("status", [INTERIM, 102, 103, 199])
async def test_an_interim_answer_is_waited_through(status: int) -> None:
    """The answer is what comes after it."""

    async def behave(_: Request, connection: Connection) -> None:
        await connection.say(f"HTTP/1.1 {status} Wait\r\n\r\n")
        await connection.say(response(200))

    assert await outcome_of(behave) == Done()


async def test_a_switch_of_protocols_is_no_answer() -> None:
    """101, which nobody asked for, breaks the conversation: again."""
    assert isinstance(await outcome_of(answering(101, b"")), Again)


@pytest.mark.parametrize(
    ("status", "header", "kind", "after"),
    [
        (429, "7", Down, 7.0),
        (429, "", Down, None),
        (503, "120", Again, 120.0),
        (503, "Fri, 31 Dec 1999 23:59:59 GMT", Again, None),
        (503, "-5", Again, None),
        (500, "999999999999", Again, 3600.0),
        (408, "0.5", Again, None),
    ],
)
async def test_the_wait_that_is_asked_for_is_told(
    status: int, header: str, kind: type[Outcome], after: float | None
) -> None:
    """`Retry-After` in seconds, at most an hour; anything else is as if it were not there."""
    outcome = await outcome_of(answering(status, Retry_After=header) if header else answering(status))

    assert isinstance(outcome, kind)
    assert isinstance(outcome, Again | Down)
    assert outcome.after == after


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    """Nothing goes elsewhere, least of all round in a loop; the reason says so."""
    async with WebServer() as server:
        server.behaviour = answering(status, Location=server.url)
        sink = HttpSink(options(server.url))
        [outcome] = await sink.send([message()])
        await sink.close()

    assert isinstance(outcome, Down)
    assert "redirect" in outcome.reason
    assert len(server.requests) == 1


async def say_nothing(_: Request, connection: Connection) -> None:
    """Hangs before the answer's head."""
    await connection.hang()


async def drip_head(_: Request, connection: Connection) -> None:
    """An answer whose head never ends, a byte at a time: each read succeeds."""
    await connection.say("HTTP/1.1 200 OK\r\nx-endless: ")
    while True:
        await connection.say("a")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("behaviour", [say_nothing, drip_head])
async def test_the_timeout_bounds_the_whole_attempt(behaviour: Behaviour) -> None:
    """However the time is spent, an answer whose head is not there in time is none."""
    assert await outcome_of(behaviour, timeout=0.2) == Again("no answer in time")


async def drip_body(_: Request, connection: Connection) -> None:
    """A good head and a body that never ends."""
    await connection.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        await connection.say("1\r\na\r\n")
        await asyncio.sleep(0.01)


async def flood_body(_: Request, connection: Connection) -> None:
    """A good head and a body as fast as it goes, without an end."""
    await connection.say("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 99999999999\r\n\r\n")
    while True:
        await connection.say(b"\0" * 65536)


async def hold_body(_: Request, connection: Connection) -> None:
    """A good head that promises a body, and nothing more."""
    await connection.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
    await connection.hang()


async def break_body(_: Request, connection: Connection) -> None:
    """A good head and half a body."""
    await connection.say("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhalf")
    connection.writer.close()


async def bad_body(_: Request, connection: Connection) -> None:
    """A good head and a body that is not HTTP."""
    await connection.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n")
    connection.writer.close()


@pytest.mark.parametrize("behaviour", [drip_body, flood_body, hold_body, break_body, bad_body])
@pytest.mark.parametrize("seconds", [0.2, LONG])
async def test_the_body_of_a_2xx_decides_nothing(behaviour: Behaviour, seconds: float) -> None:
    """Done is said by the status, whatever comes after it or does not."""
    assert await outcome_of(behaviour, timeout=seconds) == Done()


async def reset(_: Request, connection: Connection) -> None:
    """A TCP reset in place of an answer."""
    connection.reset()


async def close(_: Request, connection: Connection) -> None:
    """An orderly end in place of an answer."""
    connection.writer.close()


async def half_close(_: Request, connection: Connection) -> None:
    """Says that it will say nothing, and goes on listening."""
    connection.writer.write_eof()
    await connection.hang()


async def half_a_head(_: Request, connection: Connection) -> None:
    """Breaks off in the answer's head."""
    await connection.say("HTTP/1.1 200 O")
    connection.writer.close()


async def not_http(_: Request, connection: Connection) -> None:
    """Another protocol."""
    await connection.say("220 mail.example ESMTP\r\n")
    connection.writer.close()


@pytest.mark.parametrize("behaviour", [reset, close, half_close, half_a_head, not_http])
async def test_a_connection_that_breaks_in_the_middle_is_tried_again(behaviour: Behaviour) -> None:
    """The message may have arrived or not: again, with the same key."""
    outcome = await outcome_of(behaviour)

    assert isinstance(outcome, Again)
    assert "broke" in outcome.reason


async def test_a_broken_connection_does_not_spoil_the_next_message() -> None:
    """After every kind of break the sink connects anew by itself."""
    broken = [reset, close, half_close, half_a_head, not_http]

    async def behave(request: Request, connection: Connection) -> None:
        await (broken.pop() if broken else answering(204))(request, connection)

    async with WebServer(behave) as server:
        sink = HttpSink(options(server.url))
        kinds = [type((await sink.send([message()]))[0]) for _ in range(6)]
        await sink.close()

    assert kinds == [Again] * 5 + [Done]


async def test_a_refused_connection_is_down() -> None:
    """Nobody listens: it is the sink's trouble, and the reason says no more of the address than it must."""
    with nobody_listens() as port:
        sink = HttpSink(options(f"http://127.0.0.1:{port}/{PASSWORD}"))
        [outcome] = await sink.send([message()])
        await sink.close()

    assert outcome == Down("cannot connect: refused")


async def test_an_unknown_name_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the resolver says it; it is not asked here, for a test reaches no other machine."""

    def resolve(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    sink = HttpSink(options("http://receiver.invalid/"))
    [outcome] = await sink.send([message()])
    with pytest.raises(SinkError) as caught:
        await sink.check()
    await sink.close()

    assert outcome == Down("cannot connect: its name is not known")
    assert str(caught.value) == "cannot connect: its name is not known"


async def test_an_address_that_cannot_be_reached_is_down() -> None:
    """The system refuses to connect to a broadcast address, without a packet."""
    sink = HttpSink(options("http://255.255.255.255/"))
    [outcome] = await sink.send([message()])
    await sink.close()

    assert outcome == Down("cannot connect")


async def test_a_certificate_that_nobody_vouches_for_is_down(tls: ssl.SSLContext) -> None:
    """Certificates are verified; nothing is sent to whom they do not name."""
    async with WebServer(tls=tls) as server:
        sink = HttpSink(options(server.url))
        [outcome] = await sink.send([message()])
        with pytest.raises(SinkError, match="certificate"):
            await sink.check()
        await sink.close()

    assert isinstance(outcome, Down)
    assert "certificate" in outcome.reason
    assert server.requests == []


async def test_a_certificate_that_is_vouched_for_is_good(
    tls: ssl.SSLContext, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over https a message arrives as over http, and the check goes through TLS."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setattr("certifi.where", lambda: str(tmp_path / "ca.pem"))
    async with WebServer(tls=tls) as server:
        sink = HttpSink(options(server.url))
        outcomes = await sink.send([message()])
        found = await sink.check()
        await sink.close()

    assert outcomes == [Done()]
    assert found == f"connected to https://127.0.0.1:{server.port}; nothing was posted"
    assert len(server.requests) == 1


class Files(NamedTuple):
    """PEM files: an authority, a certificate that it issued to us with its key, and a key of someone else's."""

    ca: str
    client: str
    other_key: str


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> Files:
    files = Files(*(str(tmp_path / f"{name}.pem") for name in Files._fields))
    authority.cert_pem.write_to_path(files.ca)
    authority.issue_cert("us.example.org").private_key_and_cert_chain_pem.write_to_path(files.client)
    authority.issue_cert("other.example.org").private_key_pem.write_to_path(files.other_key)
    return files


class Strict(ThreadingHTTPServer):
    """Lets in nobody without a certificate of its authority, and says so in TLS, as asyncio's servers do not."""

    daemon_threads = False

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.context = context
        self.url = f"https://127.0.0.1:{self.server_port}"
        self.taken = 0

    def finish_request(self, request: Any, client_address: Any) -> None:
        """The handshake here is in the thread of the connection."""
        request.settimeout(LONG)
        secure = self.context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        with suppress(OSError), secure:
            try:
                secure.do_handshake()
            except ssl.SSLError:
                # Closed with something unread, a connection is reset, and the alert may be lost with it.
                socket.socket.shutdown(secure, socket.SHUT_WR)
                while socket.socket.recv(secure, 4096):
                    pass
            else:
                super().finish_request(secure, client_address)


class Taking(BaseHTTPRequestHandler):
    """Takes every message, each on a connection of its own."""

    server: Strict

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.taken += 1
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def strict(tls: ssl.SSLContext, authority: trustme.CA) -> Iterator[Strict]:
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    with Strict(tls) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Tried(NamedTuple):
    """What a message came to, and what the check said."""

    outcome: Outcome
    check: str


async def tried_at(url: str, **changes: Any) -> Tried:
    """One message and one check."""
    sink = HttpSink(options(url, **changes))
    try:
        [outcome] = await sink.send([message()])
        return Tried(outcome, await sink.check())
    except SinkError as error:
        return Tried(outcome, str(error))
    finally:
        await sink.close()


async def test_certificates_are_verified_on_both_sides(strict: Strict, files: Files) -> None:
    """With the authority's file and a certificate of ours a message arrives."""
    outcome, check = await tried_at(strict.url, tls_ca=files.ca, tls_cert=files.client)
    assert (outcome, check) == (Done(), f"connected to {strict.url}; nothing was posted")
    assert strict.taken == 1


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_certificate_that_is_wanted_and_not_shown(strict: Strict, files: Files, newest: ssl.TLSVersion) -> None:
    """Down, and the check fails, with a hint at what is wanting; under TLS 1.3 it is heard only after the handshake."""
    strict.context.maximum_version = newest
    outcome, check = await tried_at(strict.url, tls_ca=files.ca)
    assert strict.taken == 0
    assert isinstance(outcome, Down)
    for reason in (outcome.reason, check):
        assert reason.startswith("cannot connect: ")
        assert reason.endswith("; it may want a certificate of ours (tls_cert)")


async def test_a_certificate_that_is_not_taken(strict: Strict, files: Files) -> None:
    """Who shows one of another authority's is told so."""
    trustme.CA().issue_cert("us.example.org").private_key_and_cert_chain_pem.write_to_path(files.client)
    outcome, check = await tried_at(strict.url, tls_ca=files.ca, tls_cert=files.client)
    assert strict.taken == 0
    assert outcome == Down(check)
    assert check == "cannot connect: TLS failed (TLSV1_ALERT_UNKNOWN_CA)"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "cannot connect: its certificate is not good (self-signed certificate in certificate chain)"),
        ({"tls_ca": "nowhere.pem"}, "tls_ca: cannot be read (No such file or directory)"),
        ({"tls_cert": "nowhere.pem"}, "tls_cert, tls_key: cannot be read (No such file or directory)"),
        ({"tls_key": "other_key"}, f"tls_cert, tls_key: {NOT_PEM}"),
        ({"tls_cert": "ca"}, f"tls_cert, tls_key: {NOT_PEM}"),
        ({"tls_ca": "other_key"}, f"tls_ca: {NOT_PEM}"),
    ],
)
async def test_files_that_are_not_as_they_should_be(
    strict: Strict, files: Files, changes: dict[str, str], reason: str
) -> None:
    """The authority is not known, a file is missing, a key is another's, a file holds something else: both say which."""
    named = {option: getattr(files, what, what) for option, what in changes.items()}
    trusted = {"tls_ca": files.ca, "tls_cert": files.client} if changes else {}
    outcome, check = await tried_at(strict.url, **{**trusted, **named})
    assert strict.taken == 0
    assert (outcome, check) == (Down(reason), reason)


async def test_files_are_read_at_each_connection(strict: Strict, files: Files) -> None:
    """A file that is mended or exchanged is used as soon as there is a new connection, by the same sink."""
    outcomes: list[Outcome] = []
    sink = HttpSink(options(strict.url, tls_ca=files.ca, tls_cert=files.client))
    for exchange in (False, True, True):
        if exchange:
            exchange_names(files.client, files.other_key)
        outcomes += await sink.send([message()])
    await sink.close()
    assert [type(outcome) for outcome in outcomes] == [Done, Down, Done]


def exchange_names(one: str, other: str) -> None:
    """Each has then what the other had."""
    contents = [Path(each).read_bytes() for each in (other, one)]
    for path, content in zip((one, other), contents, strict=True):
        Path(path).write_bytes(content)


async def test_https_where_only_http_is_spoken_is_down() -> None:
    """TLS that fails is the sink's trouble."""

    async def speak_plainly(connection: Connection) -> None:
        await connection.say(response(400))
        await connection.hang()

    async with TcpServer(speak_plainly) as server:
        sink = HttpSink(options(f"https://127.0.0.1:{server.port}/"))
        [outcome] = await sink.send([message()])
        await sink.close()

    assert isinstance(outcome, Down)
    assert outcome.reason.startswith("cannot connect: TLS failed")


async def test_what_is_posted_is_signed_and_verifies() -> None:
    """The Standard Webhooks library accepts it; the id is the message's key; the body is structured CloudEvents JSON."""
    async with WebServer() as server:
        sink = HttpSink(options(f"{server.url}?a=b", headers={"Authorization": "Bearer x", "User-Agent": "mine"}))
        await sink.send([message(client_ref="Ünïcödé 🙂"), message(replay_id="r1")])
        await sink.close()

    first, replayed = server.requests
    verified = Webhook(SIGNING_SECRET).verify(first.body, first.headers)
    assert verified == json.loads(message(client_ref="Ünïcödé 🙂").cloud_event)
    assert first.target == "/hook?a=b"
    assert first.headers["content-type"] == CONTENT_TYPE
    assert first.headers["webhook-id"] == message().id
    assert first.headers["authorization"] == "Bearer x"
    assert first.headers["user-agent"] == "mine"
    Webhook(SIGNING_SECRET).verify(replayed.body, replayed.headers)
    assert replayed.headers["webhook-id"] == f"{message().id}:r1"


async def test_the_time_of_a_signature_is_of_the_clock_that_is_passed_in() -> None:
    """Whole seconds of that clock, in the header and under the signature."""
    now = int(time.time()) - 60
    async with WebServer() as server:
        sink = HttpSink(options(server.url), clock=lambda: now + 0.999)
        await sink.send([message()])
        await sink.close()

    [request] = server.requests
    assert request.headers["webhook-timestamp"] == str(now)
    Webhook(SIGNING_SECRET).verify(request.body, request.headers)


async def test_a_message_over_the_limit_is_never_sent() -> None:
    """A dead letter that says its size; one of just the limit goes."""
    size = len(message().cloud_event)
    async with WebServer() as server:
        tight = HttpSink(options(server.url, max_bytes=size - 1))
        just = HttpSink(options(server.url, max_bytes=size))
        outcomes = [*await tight.send([message()]), *await just.send([message()])]
        await tight.close()
        await just.close()

    assert outcomes == [Never(f"the message has {size} bytes, more than max_bytes = {size - 1}"), Done()]
    assert len(server.requests) == 1


async def test_an_early_refusal_of_a_large_message_is_heard() -> None:
    """413 before the body is read."""

    async def refuse(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        await connection.say(response(413, connection="close"))
        await connection.hang()

    async with TcpServer(refuse) as server:
        sink = HttpSink(options(f"http://127.0.0.1:{server.port}/"))
        large = message(generation_prompt="x" * 5_000_000)
        [outcome] = await sink.send([large])
        await sink.close()

    assert outcome == Never(f"answered 413: the message has {len(large.cloud_event)} bytes, more than it takes")


async def test_a_check_that_is_not_answered_ends() -> None:
    """A server that accepts and never speaks TLS holds a check up no longer than the timeout."""
    async with TcpServer(Connection.hang) as server:
        sink = HttpSink(options(f"https://127.0.0.1:{server.port}/", timeout=0.2))
        with pytest.raises(SinkError, match="no connection in time"):
            await sink.check()
        await sink.close()
