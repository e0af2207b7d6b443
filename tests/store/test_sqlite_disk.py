"""SQLite on a disk that is full: nothing is lost or half stored, callers are told `disk`, and it goes on by itself."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Connection

from receiver.errors import StoreUnavailable
from receiver.store import lanes
from receiver.store.database import Database
from receiver.store.intake import Taken
from receiver.store.tables import events
from receiver.store.tables import lanes as lanes_table
from tests.store.building import NOW, arrival, key
from tests.store.places import LONG, opened, python, rows, scalar, sql

BIG = "x" * 200_000


def may_grow(conn: Connection, *, pages: int) -> None:
    """Lets the file grow by so many pages and no more: SQLite then answers as it does when a disk is full."""
    there = scalar(conn, "PRAGMA page_count")
    assert scalar(conn, f"PRAGMA max_page_count = {there + pages}") == there + pages


async def refused(database: Database, number: int) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await database.accept([arrival(number, filler=BIG)])
    return caught.value.reason


async def test_full_and_back(on_sqlite: Database) -> None:
    """With the disk full a callback is refused as a whole; with room again the same connection stores."""
    await on_sqlite.accept([arrival(1)])
    await on_sqlite.write(may_grow, pages=5)
    assert [await refused(on_sqlite, 2), await refused(on_sqlite, 2)] == ["disk", "disk"]
    assert await on_sqlite.read(rows, events, "evaluation_id") == [(key(1),)]
    assert await on_sqlite.accept([arrival(1)]) == [Taken.REPEAT]  # what needs no room goes on
    await on_sqlite.write(may_grow, pages=1000)
    assert await on_sqlite.accept([arrival(2, filler=BIG)]) == [Taken.NEW]
    assert await on_sqlite.read(scalar, "PRAGMA integrity_check") == "ok"


@pytest.mark.parametrize("before", [0, 2])
async def test_full_for_a_group(on_sqlite: Database, before: int) -> None:
    """When the disk is full in the middle of a group nothing of the group is stored, and all are told that it is the disk."""
    await on_sqlite.write(may_grow, pages=5)

    async def mark(name: str) -> None:
        await on_sqlite.write(lanes.pause, name, until=NOW, reason="", now=NOW)

    def works() -> list[asyncio.Task[object]]:
        marks = [mark(f"n{n}") for n in range(3)]
        coroutines = [*marks[:before], on_sqlite.accept([arrival(1, filler=BIG)]), *marks[before:]]
        return [asyncio.create_task(each) for each in coroutines]

    reached, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(_conn: Connection) -> None:
        loop.call_soon_threadsafe(reached.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(LONG)

    holder = asyncio.create_task(on_sqlite.write(hold))
    await reached.wait()
    group = works()
    for _ in range(3):
        await asyncio.sleep(0)
    go_on.set()
    await holder
    outcomes = await asyncio.gather(*group, return_exceptions=True)
    assert [getattr(each, "reason", None) for each in outcomes] == 4 * ["disk"]
    assert await on_sqlite.read(rows, lanes_table, "name") == []
    await on_sqlite.write(may_grow, pages=1000)
    await asyncio.gather(*works())
    assert len(await on_sqlite.read(rows, lanes_table, "name")) == 3


LIMITED = """
import asyncio, resource, signal, sys
from receiver.errors import StoreUnavailable
from receiver.store.database import open_database
from tests.store.building import arrival

async def main():
    database = open_database(sys.argv[1])
    await database.accept([arrival(0)])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    stored, reasons = 0, set()
    for number in range(1, 20):
        try:
            await database.accept([arrival(number, filler="x" * 100_000)])
            stored += 1
        except StoreUnavailable as error:
            reasons.add(error.reason)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await database.accept([arrival(100, filler="x" * 100_000)])
    await database.close()
    print(stored, *reasons)

asyncio.run(main())
"""


async def test_write_refused_by_the_system(on_sqlite: Database, sqlite_place: str) -> None:
    """When the operating system refuses to let the files grow, what was acknowledged is stored, and all goes on afterwards."""
    with python(LIMITED, sqlite_place) as process:
        out, _ = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0
    stored, *reasons = out.split()
    assert reasons == ["disk"]
    found = [number for [number] in await on_sqlite.read(rows, events, "evaluation_id")]
    assert found == [key(0), *(key(number) for number in range(1, 1 + int(stored))), key(100)]


@pytest.fixture
def corrupt_place(sqlite_place: str) -> str:
    """The address of a file of which only the first page is what it was."""
    path = Path(sqlite_place.removeprefix("sqlite:///"))
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\x55" * (len(content) - 4096))
    return sqlite_place


async def test_corrupt(corrupt_place: str) -> None:
    """A file that has been corrupted is told as a failing disk, by reads and by writes."""
    async with opened(corrupt_place) as database:
        for attempt in (database.accept([arrival(1)]), database.read(sql, "SELECT * FROM events")):
            with pytest.raises(StoreUnavailable) as caught:
                await attempt
            assert caught.value.reason == "disk"
