"""What the store's tests share: one suite over two databases."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from receiver.store import postgres, sqlite
from receiver.store.database import Database
from tests.store.places import LONG, Clock, copied, emptied, migrate, new_postgres_database, opened


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, a connection, a lock or a busy file is waited for, unless the test is about that."""
    monkeypatch.setattr(postgres, "CONNECT_SECONDS", LONG)
    monkeypatch.setattr(postgres, "_INTAKE_SETTINGS", {"lock_timeout": f"{LONG:g}s"})
    monkeypatch.setattr(sqlite, "BUSY_MILLISECONDS", int(LONG * 1000))


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> Iterator[str]:
    """The address of a migrated PostgreSQL database."""
    with new_postgres_database(postgres_url) as url:
        migrate(url)
        yield url


@pytest.fixture
def sqlite_place(migrated_file: Path, tmp_path: Path) -> str:
    """The address of a fresh migrated SQLite file."""
    return f"sqlite:///{copied(migrated_file, tmp_path)}"


@pytest.fixture
def postgres_place(migrated_postgres: str) -> str:
    """The address of a migrated PostgreSQL database with nothing in it."""
    emptied(migrated_postgres)
    return migrated_postgres


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest) -> str:
    """The address of a fresh migrated database, of each kind."""
    fixture = "sqlite_place" if request.param == "sqlite" else "postgres_place"
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database, of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
    else:
        with new_postgres_database(request.getfixturevalue("postgres_url")) as url:
            yield url


@pytest.fixture
def clock() -> Clock:
    """The time of `database`, to be set by the test."""
    return Clock()


@pytest.fixture
async def database(place: str, clock: Clock) -> AsyncIterator[Database]:
    """A fresh migrated database, of each kind."""
    async with opened(place, clock=clock) as it:
        yield it


@pytest.fixture
async def another(place: str) -> AsyncIterator[Callable[[], Any]]:
    """Opens the same data once more, as another process would. On SQLite that is another writer."""
    async with AsyncExitStack() as stack:

        async def open_it() -> Database:
            return await stack.enter_async_context(opened(place))

        yield open_it


@pytest.fixture
async def on_postgres(postgres_place: str) -> AsyncIterator[Database]:
    """A fresh migrated PostgreSQL database."""
    async with opened(postgres_place) as it:
        yield it


@pytest.fixture
async def another_on_postgres(postgres_place: str) -> AsyncIterator[Database]:
    """The same data as `on_postgres`, as another process has it."""
    async with opened(postgres_place) as it:
        yield it


@pytest.fixture
async def on_sqlite(sqlite_place: str) -> AsyncIterator[Database]:
    """A fresh migrated SQLite database."""
    async with opened(sqlite_place) as it:
        yield it
