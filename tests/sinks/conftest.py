"""What the sinks' tests share: a Redis of a test's own, certificates that nobody trusts."""

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.sinks.destinations import PASSWORD
from tests.sinks.kafka_side import KafkaCluster
from tests.sinks.servers import RedisServer
from tests.sinks.sqs_side import SqsServer


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Not started yet. It keeps what it is given through a kill."""
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always", "--save", "")
    yield server
    server.kill()


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaCluster]:
    """A broker, on which each test has a topic of its own."""
    cluster = KafkaCluster()
    yield cluster
    cluster.end()


@pytest.fixture
def sqs(sqs_server: SqsServer, aws: None) -> SqsServer:
    """The same, with credentials in the environment."""
    return sqs_server


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in the environment, and nothing there of whoever runs the test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that nobody trusts by itself."""
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate of that authority for 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context
