"""When nothing can be stored: 503 with `Retry-After`, the reason on `/readyz`, and recovery without a hand."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from receiver.errors import SchemaError, StoreUnavailable, Unstorable
from receiver.store import schema
from receiver.store.database import open_database
from receiver.store.tables import events
from receiver.web.hook import PATH
from tests.web.gateway import Gateway
from tests.web.logged import Lines
from tests.web.receivers import OPERATOR, Receiver, callback, guarded, serving, settings_for, signed, until
from tests.web.seeds import key
from tests.web.wire import LONG, Answer, Wire, request

UNAVAILABLE = {
    "code": "UNAVAILABLE",
    "message": "cannot store or read just now, try again later",
    "errors": None,
}


def is_unavailable(answer: Answer) -> bool:
    return (answer.status, answer.json, answer.all("retry-after")) == (503, UNAVAILABLE, ["5"])


async def readiness(receiver: Receiver) -> tuple[int, object]:
    """The answer of `/readyz`, which is open to all."""
    answer = await receiver.get("/readyz", token=None)
    assert answer.all("retry-after") == ([] if answer.status == 200 else ["5"])
    return answer.status, answer.json


async def until_ready(receiver: Receiver) -> None:
    async def is_ready() -> bool:
        return (await readiness(receiver)) == READY

    await until(is_ready, "a receiver that is ready")


def not_ready(reason: Unstorable) -> tuple[int, object]:
    return 503, {"status": "unavailable", "reason": reason}


READY = (200, {"status": "ready"})


async def test_ready(receiver: Receiver) -> None:
    """`/readyz` is 200 where a callback could be stored; `/healthz` is 200 as long as anything is answered."""
    assert await readiness(receiver) == READY
    answer = await receiver.get("/healthz", token=None)
    assert (answer.status, answer.json) == (200, {"status": "ok"})


@pytest.fixture
def patient_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock on the file is waited for, however slow the machine."""
    monkeypatch.setattr("receiver.store.sqlite.BUSY_MILLISECONDS", 60_000)


@pytest.mark.parametrize("reason", ["database", "disk", "queue_full", "stopping", "schema"])
async def test_whatever_the_reason(on_sqlite: Receiver, lines: Lines, reason: Unstorable) -> None:
    """The answer to a callback is the same 503 for every reason; `/readyz` and the log tell which, and the API goes on."""
    _, body = callback()
    on_sqlite.service.intake.close_for(StoreUnavailable(reason, "in the words of the inside"))
    try:
        assert is_unavailable(await on_sqlite.post(body))
        assert await readiness(on_sqlite) == not_ready(reason)
        assert (await on_sqlite.get("/healthz")).status == 200
        assert (await on_sqlite.get("/v1/verdicts")).status == 200
        assert (await on_sqlite.post(body, ("Runflow-Signature", "bad"))).status == 401
    finally:
        on_sqlite.service.intake.close_for(None)
    assert on_sqlite.service._hook.turned_away == {reason: 1, "Unauthorized": 1}
    assert lines.of("callback.turned_away")[0]["turned_away"] == {reason: 1}
    assert (await on_sqlite.post(body)).status == 202


async def test_the_database_goes_and_comes_back(postgres: str, tmp_path: Path, lines: Lines) -> None:
    """With PostgreSQL away nothing is acknowledged and the API says so too; when it is back all goes on by itself."""
    async with Gateway(postgres) as gateway, serving(settings_for(gateway.url, tmp_path)) as receiver:
        _, first = callback()
        assert (await receiver.post(first)).status == 202
        await gateway.cut()
        _, second = callback()
        assert is_unavailable(await receiver.post(second))
        assert is_unavailable(await receiver.get("/v1/verdicts"))
        assert is_unavailable(await receiver.get(f"/v1/verdicts/{key(1)}/timeline"))
        assert is_unavailable(await receiver.get("/v1/deliveries"))
        operator = ("Authorization", f"Bearer {OPERATOR}")
        assert is_unavailable(await receiver.ask("POST", "/v1/deliveries/1/retry", [operator]))
        thumb = [operator, ("Content-Type", "application/json")]
        target = f"/v1/verdicts/{key(1)}/feedback"
        assert is_unavailable(await receiver.ask("PATCH", target, thumb, b'{"is_positive":true}'))
        assert await readiness(receiver) == not_ready("database")
        assert (await receiver.get("/healthz")).status == 200
        await gateway.mend()
        await until_ready(receiver)
        assert [(await receiver.post(body)).status for body in (first, second)] == [200, 202]
        assert {row.body for row in await receiver.rows(events)} == {first, second}


async def test_the_database_does_not_answer(postgres: str, tmp_path: Path, lines: Lines) -> None:
    """A connection on which nothing comes any more must not keep Runflow, or who asks for readiness, waiting."""
    async with Gateway(postgres) as gateway, serving(settings_for(gateway.url, tmp_path)) as receiver:
        _, body = callback()
        assert (await receiver.post(body)).status == 202
        gateway.stall()
        receiver.service.intake.longest_wait = 0.3
        _, other = callback()
        assert is_unavailable(await receiver.post(other))
        assert await readiness(receiver) == not_ready("database")
        await gateway.mend()
        receiver.service.intake.longest_wait = LONG
        await until_ready(receiver)
        assert (await receiver.post(body)).status == 200


@pytest.mark.usefixtures("patient_sqlite")
async def test_a_callback_that_was_given_up_may_be_stored_all_the_same(
    sqlite: str, tmp_path: Path, lines: Lines
) -> None:
    """503 means: not known to be stored. If it was, the next try of Runflow's is a repeat, and nothing is lost or doubled."""
    async with serving(settings_for(sqlite, tmp_path)) as receiver:
        _, body = callback()
        async with locked(tmp_path):
            receiver.service.intake.longest_wait = 0.3
            assert is_unavailable(await receiver.post(body))
        receiver.service.intake.longest_wait = LONG

        async def is_stored() -> bool:
            return await receiver.count(events) == 1

        await until(is_stored, "the event")
        assert (await receiver.post(body)).status == 200


@asynccontextmanager
async def locked(folder: Path) -> AsyncIterator[None]:
    """Meanwhile nobody else can write to the SQLite file."""
    with closing(sqlite3.connect(folder / "receiver.db", isolation_level=None, timeout=60)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@pytest.mark.usefixtures("patient_sqlite")
@pytest.mark.parametrize("limits", ["queue_rows = 1", "queue_bytes = 2048\nbody_bytes = 2048"])
async def test_the_queue_is_full(sqlite: str, tmp_path: Path, lines: Lines, limits: str) -> None:
    """Past the queue's bound callers are sent away at once; what had a place in it is stored and answered."""
    _, first = callback()
    _, second = callback()
    async with (
        serving(settings_for(sqlite, tmp_path, f"[limits]\n{limits}\n")) as receiver,
        Wire(receiver.port) as wire,
    ):
        async with locked(tmp_path):
            body = first.ljust(2048)
            await wire.send(request("POST", PATH, [signed(body)], body))

            await until_full(receiver)
            assert await readiness(receiver) == not_ready("queue_full")
            assert is_unavailable(await receiver.post(second))
            assert receiver.service._hook.turned_away == {"queue_full": 1}
        assert guarded(await wire.answer()).status == 202
        assert await readiness(receiver) == READY
        assert (await receiver.post(second)).status == 202


async def until_full(receiver: Receiver) -> None:
    async def refuses() -> bool:
        return receiver.service.intake.refuses is not None

    await until(refuses, "a full queue")


async def test_the_disk_is_full(sqlite: str, tmp_path: Path, lines: Lines) -> None:
    """SQLite's own answer to a full disk must be a 503, and the next callback be stored once there is room."""
    async with serving(settings_for(sqlite, tmp_path)) as receiver:
        database = receiver.service.database
        _, large = callback(note="x" * 100_000)
        await database.write(lambda conn: conn.exec_driver_sql("PRAGMA max_page_count = 1").close())
        assert is_unavailable(await receiver.post(large))
        assert receiver.service._hook.turned_away == {"disk": 1}
        assert "full" in lines.of("callback.turned_away")[0]["reason"]
        await database.write(lambda conn: conn.exec_driver_sql("PRAGMA max_page_count = 1000000").close())
        assert (await receiver.post(large)).status == 202


async def test_the_disk_cannot_be_written(sqlite: str, tmp_path: Path, lines: Lines) -> None:
    """`/readyz` must try a write for real: a database that can be read and not written is not ready."""
    async with serving(settings_for(sqlite, tmp_path)) as receiver:
        database = receiver.service.database
        await database.write(lambda conn: conn.exec_driver_sql("PRAGMA query_only = ON").close())
        assert await readiness(receiver) == not_ready("disk")
        assert is_unavailable(await receiver.post(callback()[1]))
        assert (await receiver.get("/v1/verdicts")).status == 200


async def test_stopping(sqlite: str, tmp_path: Path, lines: Lines) -> None:
    """A process that is about to end takes nothing more, and says so while its last connections are open."""
    async with serving(settings_for(sqlite, tmp_path)) as receiver:
        await receiver.service.intake.stop()
        assert is_unavailable(await receiver.post(callback()[1]))
        assert await readiness(receiver) == not_ready("stopping")


async def test_the_database_is_away_at_the_start(postgres: str, tmp_path: Path, lines: Lines) -> None:
    """A database that cannot be reached is no reason to end: start, answer 503, keep trying."""
    async with Gateway(postgres) as gateway:
        await gateway.cut()
        async with serving(settings_for(gateway.url, tmp_path)) as receiver:
            assert is_unavailable(await receiver.post(callback()[1]))
            assert await readiness(receiver) == not_ready("database")
            await gateway.mend()
            await until_ready(receiver)
            assert (await receiver.post(callback()[1])).status == 202
            assert len(lines.of("database.unavailable")) == len(lines.of("database.back")) == 1


async def test_a_database_that_comes_back_without_tables(unmigrated: str, tmp_path: Path, lines: Lines) -> None:
    """What is found wrong with the schema after the start is told as such, and is over when somebody has migrated it."""
    async with Gateway(unmigrated) as gateway:
        await gateway.cut()
        async with serving(settings_for(gateway.url, tmp_path)) as receiver:
            await gateway.mend()

            async def schema_is_missed() -> bool:
                return await readiness(receiver) == not_ready("schema")

            await until(schema_is_missed, "a missing schema")
            assert is_unavailable(await receiver.post(callback()[1]))
            assert "receiver db upgrade" in lines.of("database.schema")[0]["error"]
            migrating = open_database(unmigrated)
            await schema.upgrade(migrating)
            await migrating.close()
            await until_ready(receiver)
            assert (await receiver.post(callback()[1])).status == 202


async def test_tables_that_go_away(postgres: str, tmp_path: Path, lines: Lines) -> None:
    """A database that loses its tables while we run is `schema`, and nothing is acknowledged."""
    async with serving(settings_for(postgres, tmp_path)) as receiver:
        database = receiver.service.database
        await database.write(lambda conn: conn.exec_driver_sql("DROP TABLE events, lanes CASCADE").close())
        assert is_unavailable(await receiver.post(callback()[1]))
        assert await readiness(receiver) == not_ready("schema")


async def test_a_database_without_tables_at_the_start(unmigrated: str, tmp_path: Path, lines: Lines) -> None:
    """PostgreSQL is not migrated by itself: the start must fail, say what to do, and leave nothing open."""
    with pytest.raises(SchemaError, match="receiver db upgrade"):
        async with serving(settings_for(unmigrated, tmp_path)):
            pass
    assert lines.above_info() == []
    settings = settings_for(unmigrated, tmp_path, DATABASE_AUTO_UPGRADE="on")
    async with asyncio.timeout(60), serving(settings) as receiver:
        assert await readiness(receiver) == READY
