"""Fresh databases for a measurement: made, described, counted, dropped."""

import asyncio
import os
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median

import asyncpg
from sqlalchemy import Connection, func, select

from receiver.store.database import open_database
from receiver.store.tables import events

SQLITE = "WAL, synchronous=FULL"
_POSTGRES_SETTINGS = (
    "server_version",
    "synchronous_commit",
    "fsync",
    "wal_sync_method",
    "full_page_writes",
    "shared_buffers",
)
_SYNCS = 200


@contextmanager
def database(kind: str, folder: Path, postgres_url: str) -> Iterator[str]:
    """The address of an empty database of this kind, gone afterwards."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'receiver.db'}"
        return
    name = f"receiver_bench_{secrets.token_hex(4)}"
    asyncio.run(_execute(postgres_url, f"CREATE DATABASE {name}"))
    try:
        yield f"{postgres_url.rpartition('/')[0]}/{name}"
    finally:
        asyncio.run(_execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)"))


async def _execute(url: str, statement: str) -> None:
    async with _connected(url) as connection:
        await connection.execute(statement)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


def stored(url: str) -> tuple[int, int]:
    """How many events are stored there, and how many of them the pipeline has not seen to."""
    return asyncio.run(_stored(url))


async def _stored(url: str) -> tuple[int, int]:
    opened = open_database(url)
    try:
        return await opened.read(_count)
    finally:
        await opened.close()


def _count(conn: Connection) -> tuple[int, int]:
    waiting = select(func.count()).select_from(events).where(events.c.waiting)
    return conn.execute(select(func.count()).select_from(events)).scalar_one(), conn.execute(waiting).scalar_one()


def postgres_settings(url: str) -> dict[str, str]:
    """The settings that durability rests on, as the server tells them. Raises OSError or asyncpg's errors."""
    return asyncio.run(_postgres_settings(url))


async def _postgres_settings(url: str) -> dict[str, str]:
    async with _connected(url) as connection:
        return {name: await connection.fetchval(f"SHOW {name}") for name in _POSTGRES_SETTINGS}


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
