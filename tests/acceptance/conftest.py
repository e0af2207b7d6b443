"""What the acceptance tests share: installations, databases of their own, and the figures that they report at the end."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from receiver.store.database import Database, open_database
from tests.acceptance.books import LookInto
from tests.acceptance.processes import Install, Installation, Report


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Install]:
    """Makes an `Installation` of a `receiver.toml` and environment; its processes end with the test."""
    made: list[Installation] = []

    def make(config: str, **environ: str) -> Installation:
        made.append(Installation(tmp_path / f"receiver-{len(made)}", config, **environ))
        return made[-1]

    yield make
    for installation in made:
        installation.close()


@pytest.fixture
def sqlite_address(tmp_path: Path) -> str:
    """The address of a SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'receiver.db'}"


@pytest.fixture
async def postgres_address(postgres_url: str) -> AsyncIterator[str]:
    """The address of an empty database on the server that the tests may use."""
    async with _postgres_database(postgres_url) as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
async def address(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The address of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_address")
        return
    async with _postgres_database(request.getfixturevalue("postgres_url")) as address:
        yield address


@asynccontextmanager
async def _postgres_database(url: str) -> AsyncIterator[str]:
    name = f"receiver_test_{uuid.uuid4().hex}"
    await _on_server(url, f"CREATE DATABASE {name}")
    yield url.rpartition("/")[0] + f"/{name}"
    await _on_server(url, f"DROP DATABASE {name} WITH (FORCE)")


async def _on_server(url: str, statement: str) -> None:
    connection: Any = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def look_into() -> AsyncIterator[LookInto]:
    """Opens a database for a look from outside."""
    opened: list[Database] = []

    def open_(address: str) -> Database:
        opened.append(open_database(address))
        return opened[-1]

    yield open_
    for database in opened:
        await database.close()


@pytest.fixture
async def stream(redis_url: str) -> AsyncIterator[str]:
    """The name of a Redis stream of the test's own, removed afterwards with what remembers its messages."""
    name = f"test.{uuid.uuid4()}"
    yield name
    async with Redis.from_url(redis_url) as client:
        keys = [key async for key in client.scan_iter(f"{{{name}}}:seen:*", count=1000)]
        await client.delete(name, *keys)


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Keeps a measured figure for the end of the run."""
    return lambda text: record_property("measured", text)
