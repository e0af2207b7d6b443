"""Databases for the web side's tests, migrated once and copied for each test, and a receiver on each kind."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.store.places import at_database, copied, execute, migrate, new_postgres_database
from tests.web.logged import Lines, captured
from tests.web.receivers import SECRETS, Receiver, serving, settings_for


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite database."""
    path = tmp_path_factory.mktemp("migrated") / "receiver.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_name(postgres_url: str) -> Iterator[str]:
    """The name of an empty PostgreSQL database, to make others from."""
    with new_postgres_database(postgres_url) as url:
        migrate(url)
        yield urlsplit(url).path.strip("/")


@pytest.fixture
def sqlite(migrated_file: Path, tmp_path: Path) -> str:
    """The address of an empty SQLite database."""
    return f"sqlite:///{copied(migrated_file, tmp_path)}"


@pytest.fixture
async def postgres(postgres_url: str, migrated_name: str) -> AsyncIterator[str]:
    """The address of an empty PostgreSQL database."""
    async with _created(postgres_url, f"TEMPLATE {migrated_name}") as url:
        yield url


@pytest.fixture
async def unmigrated(postgres_url: str) -> AsyncIterator[str]:
    """The address of a PostgreSQL database without any table."""
    async with _created(postgres_url) as url:
        yield url


@asynccontextmanager
async def _created(maintenance_url: str, how: str = "") -> AsyncIterator[str]:
    name = f"receiver_test_{uuid4().hex}"
    # Whether a commit outlives a power cut is not what these tests look at, and waiting for the disk is half their time.
    quick = f"ALTER DATABASE {name} SET synchronous_commit = off"
    await execute(maintenance_url, f"CREATE DATABASE {name} {how}", quick)
    try:
        yield at_database(maintenance_url, name)
    finally:
        await execute(maintenance_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    """The address of an empty database of each kind."""
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What is logged; no line may show a secret."""
    with captured(SECRETS) as captured_lines:
        yield captured_lines


@pytest.fixture(scope="module")
async def sqlite_receiver(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Receiver]:
    """One for all tests of a module."""
    folder = tmp_path_factory.mktemp("sqlite")
    async with serving(settings_for(f"sqlite:///{copied(migrated_file, folder)}", folder)) as running:
        yield running


@pytest.fixture(scope="module")
async def postgres_receiver(
    postgres_url: str, migrated_name: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Receiver]:
    """One for all tests of a module."""
    async with (
        _created(postgres_url, f"TEMPLATE {migrated_name}") as url,
        serving(settings_for(url, tmp_path_factory.mktemp("postgres"))) as running,
    ):
        yield running


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def each_receiver(request: pytest.FixtureRequest) -> Receiver:
    """Both kinds, one after the other."""
    running: Receiver = request.getfixturevalue(f"{request.param}_receiver")
    return running


@pytest.fixture
async def receiver(each_receiver: Receiver, lines: Lines) -> Receiver:
    """A receiver on each kind of database, empty, which stages and does not fetch."""
    await each_receiver.forget()
    return each_receiver


@pytest.fixture
async def on_sqlite(sqlite_receiver: Receiver, lines: Lines) -> Receiver:
    """The same on SQLite alone, for what has nothing to do with the database."""
    await sqlite_receiver.forget()
    return sqlite_receiver
