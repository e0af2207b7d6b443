"""What the pipeline's tests share: a clock that is set by hand, databases of their own, an offline Runflow, the log."""

import io
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import LogCapture
from structlog.typing import EventDict

from receiver import logs, wiring
from receiver.offline import OfflineRunflow
from receiver.pipeline import pipeline as pipelines
from receiver.runflow.client import RunflowClient
from receiver.store.database import Database, open_database
from tests.pipeline.clock import DEADLINE, Clock
from tests.pipeline.desk import KEY, Desk, client_of
from tests.pipeline.gate import Gate, gated
from tests.pipeline.outage import Interrupted
from tests.store.places import postgres_like
from tests.web.logged import logging_as_before


@pytest.fixture(autouse=True)
def time_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, it is waited for at the start, and what is under way at a stop may end.

    A test that wants less says so.
    """
    for name in ("STOP_GRACE", "LAST_WORDS", "CLOSE_SECONDS"):
        monkeypatch.setattr(pipelines, name, DEADLINE)
    for name in ("PREPARE_SECONDS", "INTAKE_SECONDS", "CLOSE_SECONDS"):
        monkeypatch.setattr(wiring, name, DEADLINE)


@pytest.fixture
def clock() -> Clock:
    """The time, which stands still until a test moves it."""
    return Clock()


@pytest.fixture
async def database(migrated_file: Path, tmp_path: Path, clock: Clock) -> AsyncIterator[Interrupted]:
    """A SQLite database that can be made to go away."""
    database = Interrupted(str(shutil.copy(migrated_file, tmp_path)), clock)
    yield database
    await database.close()


@pytest.fixture
async def postgres_address(postgres_url: str, migrated_name: str) -> AsyncIterator[str]:
    """The address of a migrated PostgreSQL database of the test's own."""
    async with postgres_like(postgres_url, migrated_name) as address:
        yield address


@pytest.fixture
async def postgres(postgres_address: str, clock: Clock) -> AsyncIterator[tuple[Database, Database]]:
    """The same PostgreSQL database twice, as two processes have it, at a time that is set by hand."""
    both = open_database(postgres_address, clock=clock), open_database(postgres_address, clock=clock)
    yield both
    for each in both:
        await each.close()


@pytest.fixture
async def runflow() -> AsyncIterator[OfflineRunflow]:
    """A Runflow that asks for the key."""
    async with OfflineRunflow(secret="whsec_pipeline_tests", api_key=KEY, decide_delay=0) as running:
        yield running


@pytest.fixture
async def client(runflow: OfflineRunflow) -> AsyncIterator[RunflowClient]:
    """A client with the right key."""
    client = client_of(runflow)
    yield client
    await client.close()


@pytest.fixture
async def gate(runflow: OfflineRunflow) -> AsyncIterator[tuple[Gate, RunflowClient]]:
    """A gate before that Runflow's API, and a client that asks through it."""
    async with gated(runflow) as (gate, url):
        client = RunflowClient(url, KEY, timeout=DEADLINE)
        yield gate, client
        await client.close()


@pytest.fixture
def desk(database: Interrupted, runflow: OfflineRunflow) -> Desk:
    """Everything that is released goes to `log`."""
    return Desk(database, runflow)


@pytest.fixture
def logged() -> Iterator[list[EventDict]]:
    """What is logged during the test, by loggers that others have used before too: they all share one list of processors."""
    with logging_as_before():
        logs.configure("debug", "json", io.StringIO())
        processors, capture = structlog.get_config()["processors"], LogCapture()
        before = processors[:]
        processors[:] = [capture]
        try:
            yield capture.entries
        finally:
            processors[:] = before
