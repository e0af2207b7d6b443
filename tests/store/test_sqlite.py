"""SQLite's own: one writer that commits for all who wait, settings of the file, one pipeline, other processes at the file."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, text

from receiver.errors import PipelineTaken, ReceiverError, SettingsError, StoreUnavailable
from receiver.store import lanes, sqlite
from receiver.store.database import Database
from receiver.store.intake import Taken
from receiver.store.tables import events
from receiver.store.tables import lanes as lanes_table
from tests.store.building import NOW, arrival
from tests.store.places import LONG, all_of, holding, opened, python, rows, scalar, sql


class Gate:
    """A work that keeps the writer busy until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, _conn: Connection) -> None:
        self.entered.set()
        assert self.opened.wait(LONG)


@pytest.fixture
async def gate(on_sqlite: Database) -> AsyncIterator[Gate]:
    """The writer is at a work that does not end: what is written meanwhile waits together."""
    gate = Gate()
    busy = asyncio.create_task(on_sqlite.write(gate))
    await asyncio.to_thread(gate.entered.wait, LONG)
    yield gate
    gate.opened.set()
    await busy


@pytest.fixture
def commits() -> Iterator[list[None]]:
    """One entry for each transaction that any engine commits."""
    seen: list[None] = []

    def count(_conn: Connection) -> None:
        seen.append(None)

    event.listen(Engine, "commit", count)
    yield seen
    event.remove(Engine, "commit", count)


def beat(conn: Connection, name: str) -> str:
    lanes.pause(conn, name, until=NOW, reason="", now=NOW)
    return name


def fail(conn: Connection, name: str, error: Exception) -> None:
    beat(conn, name)
    raise error


async def queued(*writes: asyncio.Task[object]) -> None:
    """Returns when these have been handed to the writer."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert not any(each.done() for each in writes)


async def names(database: Database) -> list[str]:
    return [name for [name] in await database.read(rows, lanes_table, "name")]


async def test_group_commit(on_sqlite: Database, gate: Gate, commits: list[None]) -> None:
    """What waits while the writer is busy goes into one transaction, and each gets its own result."""
    writes = [asyncio.create_task(on_sqlite.write(beat, f"n{n}")) for n in range(20)]
    await queued(*writes)
    gate.opened.set()
    assert await asyncio.gather(*writes) == [f"n{n}" for n in range(20)]
    assert len(commits) == 2  # the gate's, and one for the 20
    assert len(await names(on_sqlite)) == 20


async def test_one_error_undoes_one(on_sqlite: Database, gate: Gate, commits: list[None]) -> None:
    """An error of one work undoes that one alone, and is told to the one who waits for it."""
    good = [asyncio.create_task(on_sqlite.write(beat, f"n{n}")) for n in range(2)]
    bad = asyncio.create_task(on_sqlite.write(fail, "bad", KeyError("mine")))
    good += [asyncio.create_task(on_sqlite.write(beat, "n2"))]
    await queued(bad, *good)
    gate.opened.set()
    with pytest.raises(KeyError, match="mine"):
        await bad
    assert await asyncio.gather(*good) == ["n0", "n1", "n2"]
    assert len(commits) == 2
    assert await names(on_sqlite) == ["n0", "n1", "n2"]


async def test_broken_rule_undoes_one(on_sqlite: Database, gate: Gate) -> None:
    """A row that the schema forbids is an error of its own work, not of the database."""
    forbidden = "INSERT INTO lanes (name, failures) VALUES ('twice', 0)"
    writes = [asyncio.create_task(on_sqlite.write(sql, forbidden)) for _ in range(2)]
    writes.append(asyncio.create_task(on_sqlite.write(sql, "INSERT INTO lanes (name, failures) VALUES ('other', 0)")))
    await queued(*writes)
    gate.opened.set()
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert [outcomes[0], outcomes[2]] == [1, 1]
    assert "UNIQUE" in str(outcomes[1])
    assert not isinstance(outcomes[1], ReceiverError)
    assert await names(on_sqlite) == ["other", "twice"]


@pytest.mark.parametrize(
    "error", [sqlite3.OperationalError("disk I/O error"), sqlite3.DatabaseError("database disk image is malformed")]
)
async def test_database_error_undoes_all(on_sqlite: Database, gate: Gate, error: Exception) -> None:
    """When the database cannot be used all that waited is undone, and all who waited are told the same."""
    good = [asyncio.create_task(on_sqlite.write(beat, f"n{n}")) for n in range(2)]
    bad = asyncio.create_task(on_sqlite.write(fail, "bad", error))
    await queued(bad, *good)
    gate.opened.set()
    outcomes = await asyncio.gather(*good, bad, return_exceptions=True)
    assert [type(each) for each in outcomes] == 3 * [StoreUnavailable]
    assert await names(on_sqlite) == []
    assert await on_sqlite.write(beat, "after") == "after"


async def test_error_alone(on_sqlite: Database) -> None:
    """The error of a work that is alone in its transaction undoes it and is told."""
    with pytest.raises(KeyError):
        await on_sqlite.write(fail, "bad", KeyError())
    assert await names(on_sqlite) == []


async def test_caller_gone(on_sqlite: Database, gate: Gate) -> None:
    """A work whose caller has given up waiting is passed over, and the others are done."""
    gone = asyncio.create_task(on_sqlite.write(beat, "gone"))
    stays = asyncio.create_task(on_sqlite.write(beat, "stays"))
    await queued(gone, stays)
    gone.cancel()
    await asyncio.wait([gone])
    gate.opened.set()
    assert await stays == "stays"
    assert await names(on_sqlite) == ["stays"]


async def test_close_finishes(sqlite_place: str) -> None:
    """Closing finishes what waits; what comes afterwards is refused because the store is closed."""
    async with opened(sqlite_place) as database:
        gate = Gate()
        busy = asyncio.create_task(database.write(gate))
        await asyncio.to_thread(gate.entered.wait, LONG)
        waiting = asyncio.create_task(database.write(beat, "waited"))
        await queued(waiting)
        closing = asyncio.create_task(database.close())
        await asyncio.sleep(0)
        gate.opened.set()
        await closing
        await busy
        assert await waiting == "waited"
        for late in (database.write(beat, "late"), database.read(lanes.troubled), database.accept([arrival(1)])):
            with pytest.raises(StoreUnavailable) as caught:
                await late
            assert caught.value.reason == "stopping"
    async with opened(sqlite_place) as database:
        assert await names(database) == ["waited"]


@pytest.mark.parametrize("side", ["write", "read"])
async def test_pragmas(on_sqlite: Database, side: str) -> None:
    """A commit that returned survives a power cut (WAL, synchronous FULL), and another process is waited for."""
    run: Callable[..., Awaitable[object]] = getattr(on_sqlite, side)
    found = {name: await run(scalar, f"PRAGMA {name}") for name in ("journal_mode", "synchronous", "foreign_keys")}
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    assert await run(scalar, "PRAGMA busy_timeout") == sqlite.BUSY_MILLISECONDS
    assert await run(scalar, "PRAGMA query_only") == (side == "read")


async def test_writes_begin_at_once(on_sqlite: Database, sqlite_place: str) -> None:
    """A write holds the file's write lock from its start, so that nothing it has read can change meanwhile."""
    path = sqlite_place.removeprefix("sqlite:///")

    def locked(conn: Connection) -> bool:
        conn.execute(text("SELECT count(*) FROM lanes"))
        other = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
        finally:
            other.close()
        return True

    assert await on_sqlite.write(locked)


async def test_one_moment(on_sqlite: Database) -> None:
    """What is read in one transaction is of one moment, whatever is written meanwhile."""
    started, written = threading.Event(), threading.Event()

    def twice(conn: Connection) -> tuple[int, int]:
        before = scalar(conn, "SELECT count(*) FROM lanes")
        started.set()
        assert written.wait(LONG)
        return before, scalar(conn, "SELECT count(*) FROM lanes")

    reading = asyncio.create_task(on_sqlite.read(twice))
    await asyncio.to_thread(started.wait, LONG)
    await on_sqlite.write(beat, "meanwhile")
    written.set()
    assert await reading == (0, 0)


async def test_readers_do_not_wait(on_sqlite: Database, gate: Gate) -> None:
    """Reads go on while a write is under way."""
    assert await all_of([on_sqlite.read(lanes.troubled) for _ in range(20)]) == 20 * [[]]
    assert not gate.opened.is_set()


async def test_one_pipeline(sqlite_place: str) -> None:
    """Only one may run the pipeline on a file; another may when it has closed."""
    async with opened(sqlite_place) as first, opened(sqlite_place) as second:
        assert first.take_pipeline() is True
        with pytest.raises(PipelineTaken, match="another process runs the pipeline"):
            second.take_pipeline()
        await first.close()
        assert second.take_pipeline() is True


async def test_pipeline_of_a_dead_process(on_sqlite: Database, sqlite_place: str) -> None:
    """A process that is killed leaves the pipeline to others."""
    program = (
        "import sys; from receiver.store.database import open_database; "
        "it = open_database(sys.argv[1]); it.take_pipeline(); print('taken', flush=True); sys.stdin.read()"
    )
    with python(program, sqlite_place) as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "taken\n"
        with pytest.raises(PipelineTaken):
            on_sqlite.take_pipeline()
        process.kill()
    assert on_sqlite.take_pipeline() is True


async def test_pipeline_without_a_folder(tmp_path: Path) -> None:
    """A file in a folder that is not there is a wrong setting, which the message names."""
    async with opened(f"sqlite:///{tmp_path}/none/receiver.db") as database:
        with pytest.raises(SettingsError, match=r"DATABASE_URL: .*none/receiver\.db"):
            database.take_pipeline()
        with pytest.raises(StoreUnavailable) as caught:
            await database.write(beat, "x")
        assert caught.value.reason == "database"


async def test_busy_for_a_moment(sqlite_place: str) -> None:
    """Another process that holds the file for a moment is waited for, while reads go on."""
    async with opened(sqlite_place) as database:
        with holding(sqlite_place.removeprefix("sqlite:///")) as other:
            write = asyncio.create_task(database.accept([arrival(1)]))
            await queued(write)
            assert await database.read(rows, events, "event") == []
            await asyncio.to_thread(other.execute, "COMMIT")
            assert await write == [Taken.NEW]


async def test_busy_for_long(sqlite_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that holds the file for longer than the timeout: nothing is stored, and later all is well."""
    monkeypatch.setattr(sqlite, "BUSY_MILLISECONDS", 50)
    async with opened(sqlite_place) as database:
        with holding(sqlite_place.removeprefix("sqlite:///")):
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="locked") as caught:
                    await database.accept([arrival(1)])
                assert caught.value.reason == "database"
        assert await database.accept([arrival(1)]) == [Taken.NEW]


async def test_busy_while_it_is_new(tmp_path: Path) -> None:
    """A new file that another process is just writing to is waited for too, though SQLite itself does not wait there."""
    path = tmp_path / "new.db"
    async with opened(f"sqlite:///{path}") as database:
        with holding(path) as other:
            read = asyncio.create_task(database.read(scalar, "PRAGMA journal_mode"))
            write = asyncio.create_task(database.write(scalar, "PRAGMA journal_mode"))
            await asyncio.wait([read, write], timeout=0.3)  # it would have failed at once
            await asyncio.to_thread(other.execute, "COMMIT")
        assert [await read, await write] == ["wal", "wal"]


async def test_nobody_to_ring(on_sqlite: Database) -> None:
    """There is one process, so ringing tells nobody and listening returns at once."""
    assert on_sqlite.hears_others is False
    await on_sqlite.ring("events")
    await on_sqlite.listen(pytest.fail)
