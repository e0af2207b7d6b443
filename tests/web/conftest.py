"""Databases for the web side's tests, migrated once and copied for each test, and a receiver on each kind."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.store.places import copied, postgres_like
from tests.web.logged import Lines, captured
from tests.web.receivers import SECRETS, Receiver, serving, settings_for


@pytest.fixture
def sqlite(migrated_file: Path, tmp_path: Path) -> str:
    """The address of an empty SQLite database."""
    return f"sqlite:///{copied(migrated_file, tmp_path)}"


@pytest.fixture
async def postgres(postgres_url: str, migrated_name: str) -> AsyncIterator[str]:
    """The address of an empty PostgreSQL database."""
    async with postgres_like(postgres_url, migrated_name) as url:
        yield url


@pytest.fixture
async def unmigrated(postgres_url: str) -> AsyncIterator[str]:
    """The address of a PostgreSQL database without any table."""
    async with postgres_like(postgres_url) as url:
        yield url


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
        postgres_like(postgres_url, migrated_name) as url,
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
