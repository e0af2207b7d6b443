"""What a callback looks like behind the proxies of docs/https.md: the real Caddy and nginx in front of a real server."""

import hmac
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from receiver.cli.serving import KEEP_ALIVE_SECONDS
from tests.deploy.proxies import DEADLINE, DEPLOY, Proxy, post, running_proxy, silent_upstream

KINDS = ("caddy", "nginx")
LIMIT = 2 * 1024 * 1024  # bytes, as both configurations have it
RECEIVERS_LIMIT = 1024 * 1024
SECRET = "whsec_behind_a_proxy"
SIGNATURE = "0123456789abcdef" * 4
ODD = (
    b'\xef\xbb\xbf{ "event" :\t"evaluation.completed",\r\n\r\n'
    b' "name": "\xc3\xa9\xf0\x9f\x91\x8d \\u00e9", "raw": "\xff\x00\x1a" }  \n'
)


@dataclass(frozen=True)
class Seen:
    """One request as the upstream got it; `peer` is the port of the proxy's connection."""

    peer: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]


@dataclass
class Upstream:
    """An application that answers 202 to every request that it has read whole, and remembers it."""

    port: int = 0
    seen: list[Seen] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            body = await request.body()
        except ClientDisconnect:
            return
        assert request.client is not None
        self.seen.append(Seen(request.client.port, tuple(request.headers.items()), body))
        await Response(body, status_code=202)(scope, receive, send)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    app = Upstream()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app.port = listener.getsockname()[1]
        config = uvicorn.Config(app, lifespan="off", log_config=None, proxy_headers=False, ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield app
        finally:
            server.should_exit = True
            thread.join(DEADLINE)


@pytest.fixture(scope="module", params=KINDS)
def proxy(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    with running_proxy(request.param, tmp_path_factory.mktemp("proxy"), upstream.port) as running:
        yield running


def test_the_body_arrives_byte_for_byte(proxy: Proxy, upstream: Upstream) -> None:
    """A signature is over the raw bytes: a byte order mark, odd white space and broken UTF-8 must arrive as they were sent."""
    connection = proxy.connect()
    answer = post(connection, ODD, [("Content-Type", "application/json")])
    connection.close()
    assert (answer.status, answer.body, upstream.seen[-1].body) == (202, ODD, ODD)


def test_a_body_sent_in_chunks_arrives_whole(proxy: Proxy, upstream: Upstream) -> None:
    """A body without a declared length must arrive as the same bytes."""
    connection = proxy.connect()
    connection.request("POST", "/webhook/runflow", iter((ODD[:7], ODD[7:])), encode_chunked=True)
    assert connection.getresponse().read() == ODD
    connection.close()
    assert upstream.seen[-1].body == ODD


def test_runflows_headers_arrive_once_and_unchanged(proxy: Proxy, upstream: Upstream) -> None:
    """The signature and the request id must reach the receiver once each, and so must the content type."""
    sent = [
        ("Content-Type", "application/json"),
        ("Runflow-Signature", SIGNATURE),
        ("Runflow-Request-Id", "req_7f3a.B"),
    ]
    connection = proxy.connect()
    post(connection, b"{}", sent)
    connection.close()
    assert [(name, upstream.seen[-1].all(name)) for name, _ in sent] == [(name, [value]) for name, value in sent]


def test_a_repeated_signature_is_not_folded(proxy: Proxy, upstream: Upstream) -> None:
    """Two signatures must arrive as two, or as one value that is no signature: the receiver refuses either."""
    connection = proxy.connect()
    post(connection, b"{}", [("Runflow-Signature", SIGNATURE), ("Runflow-Signature", SIGNATURE)])
    connection.close()
    assert upstream.seen[-1].all("Runflow-Signature") in ([SIGNATURE, SIGNATURE], [f"{SIGNATURE}, {SIGNATURE}"])


def test_the_sender_is_told_by_the_proxy_and_by_nobody_else(proxy: Proxy, upstream: Upstream) -> None:
    """X-Forwarded-For and -Proto must be the proxy's own, also when the request brought some."""
    connection = proxy.connect()
    post(connection, b"{}", [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "http")])
    connection.close()
    seen = upstream.seen[-1]
    assert (seen.all("X-Forwarded-For"), seen.all("X-Forwarded-Proto")) == (["127.0.0.1"], ["https"])


def test_connections_are_kept_on_both_sides(proxy: Proxy, upstream: Upstream) -> None:
    """Requests on one connection must be answered on it, and share the proxy's connection to the receiver."""
    connection = proxy.connect()
    assert [post(connection, b"{}").status for _ in range(5)] == [202] * 5
    connection.close()
    assert len({seen.peer for seen in upstream.seen[-5:]}) < 5


def test_a_body_over_the_receivers_limit_is_left_to_the_receiver(proxy: Proxy, upstream: Upstream) -> None:
    """The receiver's own 413 has Runflow's shape of an error: the proxy must let the body through, and keep it off the disk."""
    body = b"x" * (RECEIVERS_LIMIT + 1)
    connection = proxy.connect()
    answer = post(connection, body)
    connection.close()
    assert (answer.status, len(upstream.seen[-1].body)) == (202, len(body))
    assert b"temporary file" not in proxy.log.read_bytes()


def test_a_body_over_the_proxys_limit_is_refused(proxy: Proxy, upstream: Upstream) -> None:
    """The first byte over the limit must be answered with 413 and never be a request of the receiver's."""
    before = len(upstream.seen)
    connection = proxy.connect()
    assert post(connection, b"x" * LIMIT).status == 202
    assert post(connection, b"x" * (LIMIT + 1)).status == 413
    connection.close()
    assert [len(seen.body) for seen in upstream.seen[before:]] == [LIMIT]


@pytest.mark.parametrize("kind", KINDS)
def test_a_callback_is_not_tried_twice(kind: str, tmp_path: Path) -> None:
    """A receiver that hangs up must have been asked once: a second try is Runflow's to make."""
    with silent_upstream() as (port, heads), running_proxy(kind, tmp_path, port) as proxy:
        connection = proxy.connect()
        answer = post(connection, b"{}")
        connection.close()
    assert (answer.status, heads) == (502, [b"POST /webhook/runflow HTTP/1.1\r\n"])


@pytest.mark.parametrize(("file", "setting"), [("Caddyfile", r"\bkeepalive"), ("nginx.conf", "keepalive_timeout")])
def test_the_proxy_closes_idle_connections_first(file: str, setting: str) -> None:
    """A callback sent into a connection that the receiver is closing would be lost to this try."""
    (seconds,) = re.findall(rf"{setting} (\d+)s", (DEPLOY / file).read_text())
    assert int(seconds) < KEEP_ALIVE_SECONDS


@pytest.fixture(scope="module")
def receiver_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a real receiver in a process of its own, on SQLite, that believes a proxy on loopback."""
    folder = tmp_path_factory.mktemp("receiver")
    settings = {"RUNFLOW_WEBHOOK_SECRET": SECRET, "RECEIVER_PORT": "0", "RECEIVER_TRUSTED_PROXIES": "127.0.0.1"}
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "receiver", "serve"],
            cwd=folder,
            env={"PATH": os.defpath, "PYTHONPATH": str(DEPLOY.parent), **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + DEADLINE
        while not (started := re.search(r"serve\.started.*http://127\.0\.0\.1:(\d+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield int(started[1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", KINDS)
def test_the_receiver_takes_a_callback_from_behind_the_proxy(
    kind: str, tmp_path: Path, samples: Path, receiver_port: int
) -> None:
    """A signed callback must be stored, its repeat known, a forged one refused, one too long refused by the receiver."""
    identity = {"caddy": "1", "nginx": "2"}[kind]
    sample = (samples / "callback_completed.json").read_bytes()
    evaluation = json.loads(sample)["evaluation_id"]
    body = sample.replace(evaluation.encode(), (evaluation[:-1] + identity).encode())
    signature = hmac.digest(SECRET.encode(), body, "sha256").hex()
    with running_proxy(kind, tmp_path, receiver_port) as proxy:
        connection = proxy.connect()
        answers = [
            post(connection, body, [("Runflow-Signature", signature)]),
            post(connection, body, [("Runflow-Signature", signature)]),
            post(connection, body, [("Runflow-Signature", SIGNATURE)]),
        ]
        connection.close()
        connection = proxy.connect()
        answers.append(post(connection, b"x" * (RECEIVERS_LIMIT + 1)))
        connection.close()
    assert [answer.status for answer in answers] == [202, 200, 401, 413]
    told = [json.loads(answer.body) for answer in answers]
    assert [told[0]["result"], told[1]["result"], told[2]["code"], told[3]["code"]] == [
        "accepted",
        "duplicate",
        "UNAUTHORIZED",
        "BODY_TOO_LARGE",
    ]
