"""Places for databases: a fresh migrated file or a PostgreSQL database of the tests' own, and what looks into both."""

import asyncio
import contextlib
import shutil
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from sqlalchemy import Connection, Table, insert, select, text

from receiver.store import schema
from receiver.store.database import Database, open_database
from receiver.store.tables import metadata

LONG = 120.0
"""Seconds that a test waits for what must come; it is never reached but on failure."""


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 18, 14, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, **by: float) -> None:
        """Sets it forward."""
        self.time += timedelta(**by)


def at_database(url: str, name: str) -> str:
    """The address of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def run_sql(url: str, *statements: str) -> None:
    """Runs statements on PostgreSQL, each in a transaction of its own, from code that is not async."""
    asyncio.run(execute(url, *statements))


async def execute(url: str, *statements: str) -> None:
    """Runs statements on PostgreSQL, each in a transaction of its own."""
    conn = await asyncpg.connect(url)
    try:
        for statement in statements:
            await conn.execute(statement)
    finally:
        await conn.close()


async def ask(url: str, query: str, *args: Any) -> list[Any]:
    """The rows of a query on PostgreSQL, over a connection of its own."""
    conn = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await conn.fetch(query, *args)]
    finally:
        await conn.close()


@contextmanager
def new_postgres_database(server: str) -> Iterator[str]:
    """The address of an empty database, which is dropped at the end."""
    name = _a_name()
    run_sql(server, *_creation(name, "template1"))
    try:
        yield at_database(server, name)
    finally:
        run_sql(server, _end_of(name))


@asynccontextmanager
async def postgres_like(server: str, template: str = "template1") -> AsyncIterator[str]:
    """The address of a copy of the database of that name, which nobody may be connected to; it is dropped at the end."""
    name = _a_name()
    await execute(server, *_creation(name, template))
    try:
        yield at_database(server, name)
    finally:
        await execute(server, _end_of(name))


def _a_name() -> str:
    return f"receiver_test_{uuid.uuid4().hex}"


def _creation(name: str, template: str) -> tuple[str, str]:
    # Whether a commit outlives a power cut is the acceptance tests' matter; waiting for the disk is half of the others' time.
    quick = f"ALTER DATABASE {name} SET synchronous_commit = off"
    return f"CREATE DATABASE {name} TEMPLATE {template}", quick


def _end_of(name: str) -> str:
    return f"DROP DATABASE {name} WITH (FORCE)"


def migrate(url: str) -> None:
    """Brings the schema of a database up to date, from code that is not async."""

    async def work() -> None:
        async with opened(url) as database:
            await schema.upgrade(database)

    asyncio.run(work())


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Database]:
    """A database, closed at the end."""
    database = open_database(url, **options)
    try:
        yield database
    finally:
        await database.close()


def copied(template: Path, folder: Path) -> Path:
    """A copy of a SQLite file that nobody has open."""
    return Path(shutil.copy(template, folder / "receiver.db"))


def emptied(url: str) -> None:
    """Ends whatever a former test left connected to this PostgreSQL database, and empties all tables."""
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    deletions = "; ".join(f"DELETE FROM {table}" for table in metadata.tables)  # quicker than TRUNCATE on few rows
    run_sql(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}", deletions)


# What the tests look at or put there themselves, as functions over a connection.


def rows(conn: Connection, /, table: Table, *columns: str) -> list[tuple[Any, ...]]:
    """All rows, in the order of the columns that are asked for."""
    wanted = [table.c[name] for name in columns]
    return [tuple(row) for row in conn.execute(select(*wanted).order_by(*wanted))]


def put(conn: Connection, table: Table, *added: dict[str, Any]) -> None:
    """Inserts rows."""
    conn.execute(insert(table), list(added))


def sql(conn: Connection, /, statement: str, **values: Any) -> int:
    """Runs a statement of plain SQL; tells how many rows it touched."""
    return conn.execute(text(statement), values).rowcount


def scalar(conn: Connection, /, query: str, **values: Any) -> Any:
    """The one value that a query of plain SQL answers."""
    return conn.execute(text(query), values).scalar_one()


async def until(
    condition: Callable[[], Coroutine[Any, Any, bool]], *, seconds: float = LONG, between: float = 0.02
) -> None:
    """Returns when the condition holds; fails when it does not within `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(between)


async def all_of(coroutines: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """All results, in order, of what runs at once; fails as soon as one does."""
    async with asyncio.timeout(LONG), asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in coroutines]
    return [task.result() for task in tasks]


def python(program: str, *arguments: str) -> "subprocess.Popen[str]":
    """Another process that runs this program with this package."""
    return subprocess.Popen(
        [sys.executable, "-B", "-c", program, *arguments],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def holding(path: str | Path) -> Iterator[sqlite3.Connection]:
    """Holds the write lock of a SQLite file, as another process would."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as conn:
        conn.execute("BEGIN IMMEDIATE")
        yield conn
