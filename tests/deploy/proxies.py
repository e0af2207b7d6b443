"""The real Caddy and nginx with this repository's configuration, on free ports in front of an upstream, for one test module."""

import http.client
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

DEPLOY = Path(__file__).parents[2] / "deploy"
REMEDY = {"caddy": "apt-get install caddy", "nginx": "apt-get install nginx"}
DEADLINE = 30.0  # seconds in which a proxy must be up, or down
TRIES = 5  # a free port may be taken by someone else before the proxy has it
# Read at import, as in tests/conftest.py: nobody may be missing a proxy in CI.
_IN_CI = os.environ.get("CI") == "true"
_NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr info;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/receiver.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    """A running proxy: its https port on loopback, the certificate authority to trust, and what it has written of itself."""

    port: int
    authority: Path
    log: Path

    def connect(self) -> http.client.HTTPConnection:
        """A kept-alive HTTP/1.1 connection over TLS whose certificate was checked for `localhost`."""
        context = ssl.create_default_context(cafile=self.authority)
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)
        try:
            secure = context.wrap_socket(plain, server_hostname="localhost")
        except (OSError, ssl.SSLError):
            plain.close()
            raise
        connection = http.client.HTTPConnection("localhost")
        connection.sock = secure
        connection.auto_open = 0
        return connection


@dataclass(frozen=True)
class Answer:
    """What came back through a proxy."""

    status: int
    body: bytes


Headers = Sequence[tuple[str, str]]


def post(
    connection: http.client.HTTPConnection, body: bytes, headers: Headers = (), path: str = "/webhook/runflow"
) -> Answer:
    """One POST with just these headers, in this order and as often as given."""
    connection.putrequest("POST", path, skip_accept_encoding=True)
    for name, value in (*headers, ("Content-Length", str(len(body)))):
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    return Answer(response.status, response.read())


@contextmanager
def running_proxy(kind: str, folder: Path, upstream: int) -> Iterator[Proxy]:
    """The proxy `kind` in front of the port `upstream`, its files in `folder`; ends with the block.

    Without the program the test is skipped with the remedy, and fails in CI."""
    program = shutil.which(
        kind, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    )
    if program is None:
        message = f"no {kind} on this machine: {REMEDY[kind]}"
        if _IN_CI:
            pytest.fail(message)
        pytest.skip(message)
    for attempt in range(TRIES):
        place = folder / f"{kind}{attempt}"
        place.mkdir()
        ports = _free_ports(3)
        command, environment, authority = _PREPARE[kind](program, place, ports, upstream)
        proxy = Proxy(ports[0], authority, place / "log")
        with proxy.log.open("wb") as log:
            process = subprocess.Popen(
                command, env=environment, cwd=place, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            if _up(process, proxy):
                yield proxy
                return
        finally:
            _end(process)
    pytest.fail(f"{kind} did not start: {proxy.log.read_text(errors='replace')}")


def _caddy(program: str, folder: Path, ports: Sequence[int], upstream: int) -> tuple[list[str], dict[str, str], Path]:
    """The Caddyfile as it is, told by its own variables; Caddy makes a certificate authority for `localhost` by itself."""
    environment = {
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "CADDY_ADMIN": f"127.0.0.1:{ports[2]}",
        "SITE_ADDRESS": "localhost",
        "UPSTREAM": f"127.0.0.1:{upstream}",
        "HTTPS_PORT": str(ports[0]),
        "HTTP_PORT": str(ports[1]),
    }
    command = [program, "run", "--config", str(DEPLOY / "Caddyfile"), "--adapter", "caddyfile"]
    return command, environment, folder / "caddy/pki/authorities/local/root.crt"


def _nginx(program: str, folder: Path, ports: Sequence[int], upstream: int) -> tuple[list[str], dict[str, str], Path]:
    """The server block with the name, the ports and the upstream replaced, as docs/https.md has it done by sed."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "root.crt")
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(folder / "privkey.pem")
    for part in issued.cert_chain_pems:
        part.write_to_path(folder / "fullchain.pem", append=True)
    text = (DEPLOY / "nginx.conf").read_text()
    for old, new in {
        "/etc/letsencrypt/live/receiver.example.com/": f"{folder}/",
        "receiver.example.com": "localhost",
        "listen 443 ssl;": f"listen 127.0.0.1:{ports[0]} ssl;",
        "listen 80;": f"listen 127.0.0.1:{ports[1]};",
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{upstream};",
    }.items():
        assert old in text, f"deploy/nginx.conf has no {old!r}"
        text = text.replace(old, new)
    (folder / "receiver.conf").write_text(text)
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder))
    return [program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")], {}, folder / "root.crt"


_PREPARE = {"caddy": _caddy, "nginx": _nginx}


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports


def _up(process: subprocess.Popen[bytes], proxy: Proxy) -> bool:
    """Whether the proxy came to answer with its own certificate, and not a stranger on the same port."""
    deadline = time.monotonic() + DEADLINE
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):  # not listening yet, or no authority yet; TLS errors are OSErrors too
            proxy.connect().close()
            return True
        time.sleep(0.05)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def silent_upstream() -> Iterator[tuple[int, list[bytes]]]:
    """A server that reads the head of each request and hangs up without an answer: its port, and the heads it has read."""
    heads: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as stream:
                head = stream.readline()
            if not head:  # nobody's request: the block below has ended
                return
            heads.append(head)

    thread = threading.Thread(target=serve)
    with listener:
        thread.start()
        try:
            yield int(listener.getsockname()[1]), heads
        finally:
            socket.create_connection(listener.getsockname()).close()
            thread.join(DEADLINE)
