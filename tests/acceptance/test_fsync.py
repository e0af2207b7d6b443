"""The callback is on the disk before the 2xx is sent. SIGKILL cannot show that, for the system keeps what was written."""

from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import Connection, text

from receiver.offline import OfflineRunflow
from receiver.store.postgres import PostgresDatabase
from receiver.store.sqlite import SqliteDatabase
from tests.acceptance.books import LookInto
from tests.acceptance.collector import sink
from tests.acceptance.load import Callback, Load
from tests.acceptance.processes import SECRET, Install
from tests.acceptance.trace import Call, calls_in, log_writes, under_strace, was_committed, was_synced

CALLBACKS = 60


async def test_sqlite_syncs_before_the_answer(install: Install, sqlite_address: str, tmp_path: Path) -> None:
    """SQLite's log with the callback in it is synced after the callback was read and before the 202 is written."""
    callbacks, calls = await _traced(install, sqlite_address, tmp_path)
    assert [callback for callback in callbacks if not was_synced(calls, str(callback.key))] == []


async def test_the_trace_can_tell(install: Install, sqlite_address: str, tmp_path: Path) -> None:
    """The same look at a receiver that does not wait for the disk finds that it does not."""
    callbacks, calls = await _traced(install, sqlite_address, tmp_path, altered="no-sync")
    assert all(log_writes(calls, str(callback.key)) for callback in callbacks)
    assert [callback for callback in callbacks if was_synced(calls, str(callback.key))] == []


async def test_postgresql_has_committed_before_the_answer(
    install: Install, postgres_address: str, tmp_path: Path
) -> None:
    """PostgreSQL's word that the callback is committed was read before the 202 is written."""
    callbacks, calls = await _traced(install, postgres_address, tmp_path)
    port = urlsplit(postgres_address).port or 5432
    assert [callback for callback in callbacks if not was_committed(calls, str(callback.key), port)] == []


async def test_postgresql_waits_for_its_disk(postgres_address: str, look_into: LookInto) -> None:
    """The connections of the intake, and all others, ask PostgreSQL to sync before it says so."""

    def settings(conn: Connection) -> list[str]:
        return [str(conn.execute(text(f"SHOW {name}")).scalar_one()) for name in ("fsync", "synchronous_commit")]

    database = look_into(postgres_address)
    assert isinstance(database, PostgresDatabase)
    assert await database.write(settings) == ["on", "on"]
    assert await database._run(database._rest, settings) == ["on", "on"]
    direct = [await database._intake.fetch(f"SHOW {name}", []) for name in ("fsync", "synchronous_commit")]
    assert [value for [[value]] in direct] == ["on", "on"]


async def test_sqlite_is_told_to_wait_for_its_disk(sqlite_address: str, look_into: LookInto) -> None:
    """The connection that writes is in the mode in which a commit that returned survives a power cut."""

    def pragmas(conn: Connection) -> list[object]:
        return [conn.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("journal_mode", "synchronous")]

    database = look_into(sqlite_address)
    assert isinstance(database, SqliteDatabase)
    assert await database.write(pragmas) == ["wal", 2]  # 2 is FULL


async def _traced(
    install: Install, address: str, folder: Path, *, altered: str = ""
) -> tuple[list[Callback], list[Call]]:
    """Callbacks that a receiver acknowledged under strace, some alone and the rest together, and what it did."""
    place = install(sink("out", "file", path="out.ndjson"), DATABASE_URL=address, DATABASE_AUTO_UPGRADE="on")
    output = folder / "trace"
    server = await place.serve(altered=altered, under=under_strace(output))
    runflow = OfflineRunflow(secret=SECRET)
    callbacks = [Callback(runflow) for _ in range(CALLBACKS)]
    load = Load(server.address)
    await load.post(callbacks[:10], connections=1)
    await load.post(callbacks[10:], connections=10)
    await server.stop()
    await runflow.close()
    return callbacks, calls_in(output)
