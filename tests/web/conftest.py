"""Databases for the web side's tests, migrated once and copied for each test, and a receiver on each kind."""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from receiver.store import schema
from receiver.store.database import open_database
from tests.web.logged import Lines, captured
from tests.web.receivers import SECRETS, Receiver, serving, settings_for


async def _migrate(url: str) -> None:
    database = open_database(url)
    try:
        await schema.upgrade(database)
    finally:
        await database.close()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _database_name() -> str:
    return f"receiver_test_{secrets.token_hex(8)}"


def _named(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite database."""
    path = tmp_path_factory.mktemp("migrated") / "receiver.db"
    asyncio.run(_migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def migrated_name(postgres_url: str) -> Iterator[str]:
    """The name of an empty PostgreSQL database, to make others from."""
    name = _database_name()
    asyncio.run(_execute(postgres_url, f"CREATE DATABASE {name}"))
    try:
        asyncio.run(_migrate(_named(postgres_url, name)))
        yield name
    finally:
        asyncio.run(_execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def sqlite(migrated_file: Path, tmp_path: Path) -> str:
    """The address of an empty SQLite database."""
    shutil.copy(migrated_file, tmp_path / "receiver.db")
    return f"sqlite:///{tmp_path / 'receiver.db'}"


@pytest.fixture
async def postgres(postgres_url: str, migrated_name: str) -> AsyncIterator[str]:
    """The address of an empty PostgreSQL database."""
    name = _database_name()
    await _execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {migrated_name}")
    try:
        yield _named(postgres_url, name)
    finally:
        await _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def unmigrated(postgres_url: str) -> AsyncIterator[str]:
    """The address of a PostgreSQL database without any table."""
    name = _database_name()
    await _execute(postgres_url, f"CREATE DATABASE {name}")
    try:
        yield _named(postgres_url, name)
    finally:
        await _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    """Both kinds, one after the other."""
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What is logged; no line may show a secret."""
    with captured(SECRETS) as captured_lines:
        yield captured_lines


@pytest.fixture
async def receiver(database: str, tmp_path: Path, lines: Lines) -> AsyncIterator[Receiver]:
    """A receiver on each kind of database, which stages and does not fetch."""
    async with serving(settings_for(database, tmp_path)) as running:
        yield running


@pytest.fixture
async def on_sqlite(sqlite: str, tmp_path: Path, lines: Lines) -> AsyncIterator[Receiver]:
    """The same on SQLite alone, for what has nothing to do with the database."""
    async with serving(settings_for(sqlite, tmp_path)) as running:
        yield running
