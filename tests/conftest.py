"""What all tests share: the event loop's backend, the samples, the services, and walls against the caller's environment."""

import os
import socket
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.sinks.amqp_side import RabbitServer
    from tests.sinks.nats_side import NatsServer
    from tests.sinks.sqs_side import SqsServer

SAMPLES = Path(__file__).parent / "samples"
SERVICES = {
    "postgres": ("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres", "apt-get install postgresql"),
    "redis": ("TEST_REDIS_URL", "redis://127.0.0.1:6379/9", "apt-get install redis-server"),
}
# Read before the wall goes up: the tests' own settings, and whether a missing service is a failure.
_ADDRESSES = {kind: os.environ.get(name, default) for kind, (name, default, _) in SERVICES.items()}
_IN_CI = os.environ.get("CI") == "true"
_OURS = ("RECEIVER_", "RUNFLOW_", "DATABASE_", "SLACK_", "TEST_")


# The same examples on every run, however slow the machine, and no file left behind.
settings.register_profile(
    "receiver",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("receiver")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test reads no setting and no file of whoever runs it."""
    for name in [name for name in os.environ if name.startswith(_OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of signed sample bodies and the full tree."""
    return SAMPLES


def _service(kind: str) -> str:
    name, _, remedy = SERVICES[kind]
    address = _ADDRESSES[kind]
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 0), timeout=5).close()
    except OSError as error:
        message = f"no {kind} at {address} ({error}): start one ({remedy}) or name another with {name}"
        if _IN_CI:
            pytest.fail(message)
        pytest.skip(message)
    return address


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """The address of a PostgreSQL server's maintenance database, where the tests may create databases."""
    return _service("postgres")


@pytest.fixture(scope="session")
def redis_url() -> str:
    """The address of a Redis database that the tests may fill."""
    return _service("redis")


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite database, to be copied: migrating takes longer than most tests."""
    from tests.store.places import migrate

    path = tmp_path_factory.mktemp("migrated") / "receiver.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_name(postgres_url: str) -> Iterator[str]:
    """The name of an empty PostgreSQL database, to make others like it."""
    from tests.store.places import migrate, new_postgres_database

    with new_postgres_database(postgres_url) as url:
        migrate(url)
        yield urlsplit(url).path.strip("/")


@pytest.fixture(scope="session")
async def nats_server(tmp_path_factory: pytest.TempPathFactory) -> "AsyncIterator[NatsServer]":
    """A NATS with JetStream, for streams of a test's own."""
    from tests.sinks.nats_side import NatsServer

    server = NatsServer(tmp_path_factory.mktemp("nats"))
    await server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
async def rabbit(tmp_path_factory: pytest.TempPathFactory) -> "AsyncIterator[RabbitServer]":
    """A RabbitMQ, for queues of a test's own; one for all tests, as it takes seconds to start."""
    from tests.sinks.amqp_side import RabbitServer

    server = RabbitServer(tmp_path_factory.mktemp("rabbit"))
    try:
        await server.start()
        yield server
    finally:
        server.end()


@pytest.fixture(scope="session")
def sqs_server() -> "Iterator[SqsServer]":
    """An SQS, on which each test has queues of its own."""
    from tests.sinks.sqs_side import SqsServer

    server = SqsServer()
    yield server
    server.end()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests measured, in whichever process they ran."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    calls = [report for report in reports if isinstance(report, pytest.TestReport) and report.when == "call"]
    figures = [
        f"{call.location[2]}: {text}" for call in calls for name, text in call.user_properties if name == "measured"
    ]
    if figures:
        terminalreporter.section("measured")
        for figure in figures:
            terminalreporter.write_line(figure)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Lines count as tested where a test was written for them, not where a random example or a whole process came by.

    Tracing more than doubles the time of these tests.
    """
    is_random = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    if not is_random and "acceptance" not in item.path.parts:
        return (yield)
    traced = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(traced)
