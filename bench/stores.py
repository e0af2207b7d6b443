"""Databases for a measurement: made, described, asked, dropped."""

import asyncio
import os
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Literal

import asyncpg

from receiver.store import schema
from receiver.store.database import open_database

Kind = Literal["sqlite", "postgresql"]

SQLITE = "WAL, synchronous=FULL"
_POSTGRES_SETTINGS = (
    "server_version",
    "synchronous_commit",
    "fsync",
    "wal_sync_method",
    "full_page_writes",
    "shared_buffers",
    "max_wal_size",
)
_SYNCS = 200


@contextmanager
def database(kind: Kind, folder: Path, postgres_url: str) -> Iterator[str]:
    """The address of an empty database of this kind, gone afterwards."""
    name = f"receiver_bench_{secrets.token_hex(4)}"
    if kind == "sqlite":
        yield f"sqlite:///{folder / name}.db"
        return
    execute(postgres_url, f"CREATE DATABASE {name}")
    try:
        yield f"{postgres_url.rpartition('/')[0]}/{name}"
    finally:
        execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


def file_of(url: str) -> Path:
    """The file of a SQLite database."""
    return Path(url.removeprefix("sqlite:///"))


def migrate(url: str) -> None:
    """Gives an empty database the receiver's tables."""
    asyncio.run(_migrate(url))


async def _migrate(url: str) -> None:
    opened = open_database(url)
    try:
        await schema.upgrade(opened)
    finally:
        await opened.close()


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows that a statement finds, on either kind."""
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(file_of(url), timeout=60)) as connection:
            return connection.execute(statement).fetchall()
    return asyncio.run(_query(url, statement))


async def _query(url: str, statement: str) -> list[tuple[Any, ...]]:
    async with _connected(url) as connection:
        return [tuple(row) for row in await connection.fetch(statement)]


def execute(url: str, *statements: str) -> None:
    """Runs statements on either kind, each for itself."""
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(file_of(url), timeout=60, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)
    else:
        asyncio.run(_execute(url, statements))


async def _execute(url: str, statements: tuple[str, ...]) -> None:
    async with _connected(url) as connection:
        for statement in statements:
            await connection.execute(statement)


def load(url: str, tables: dict[str, list[tuple[Any, ...]]]) -> None:
    """Makes these tables on PostgreSQL, `name (column, …)`, of the types of what goes into them."""
    asyncio.run(_load(url, tables))


async def _load(url: str, tables: dict[str, list[tuple[Any, ...]]]) -> None:
    async with _connected(url) as connection:
        for head, rows in tables.items():
            name, _, columns = head.rstrip(")").partition(" (")
            names = columns.split(", ")
            types = (_type_of([row[number] for row in rows]) for number in range(len(names)))
            declared = (f"{each} {kind}" for each, kind in zip(names, types, strict=True))
            await connection.execute(f"CREATE UNLOGGED TABLE {name} ({', '.join(declared)})")
            await connection.copy_records_to_table(name, records=rows, columns=names)


def _type_of(values: list[Any]) -> str:
    kinds = {type(value) for value in values if value is not None}
    return next((_TYPES[kind] for kind in (bool, float, int) if kind in kinds), "text")


_TYPES = {bool: "boolean", float: "double precision", int: "bigint"}


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


def count(url: str, table: str, where: str = "true") -> int:
    """How many rows a table has."""
    [(rows,)] = query(url, f"SELECT count(*) FROM {table} WHERE {where}")
    return int(rows)


def evaluation_ids(url: str) -> set[bytes]:
    """The ids of all events, 16 bytes each."""
    found = query(url, "SELECT evaluation_id FROM events")
    return {key if isinstance(key, bytes) else key.bytes for (key,) in found}


def postgres_settings(url: str) -> dict[str, str]:
    """The settings that durability rests on, as the server tells them. Raises OSError or asyncpg's errors."""
    return {name: str(query(url, f"SHOW {name}")[0][0]) for name in _POSTGRES_SETTINGS}


def sqlite_version() -> str:
    """The version of the library that is in use."""
    return sqlite3.sqlite_version


def sync_ms(folder: Path) -> float:
    """Milliseconds that appending 4 KiB and fdatasync take on the disk of `folder`; the median of many."""
    times = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return median(times) * 1000
