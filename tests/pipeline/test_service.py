"""The whole service: it starts without its database, refuses what it cannot work with, and ends in order."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text
from structlog.typing import EventDict

from receiver import wiring
from receiver.errors import PipelineTaken, SchemaError, SettingsError
from receiver.offline import OfflineRunflow
from receiver.pipeline import pipeline as pipelines
from receiver.store import schema
from receiver.store.database import Database, open_database
from receiver.wiring import Service, open_service
from tests.pipeline.clock import DEADLINE, Clock, until, until_awaited
from tests.pipeline.desk import KEY, Desk, leased, living
from tests.pipeline.forwarder import Forwarder
from tests.pipeline.serving import Asked, arrived, asked, execute, file_sink, settings_for


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away is looked for often."""
    monkeypatch.setattr(wiring, "DATABASE_RETRY_SECONDS", 0.02)


@pytest.fixture
async def forwarder(postgres_address: str) -> AsyncIterator[Forwarder]:
    """A way to the test's PostgreSQL that is not there yet."""
    async with Forwarder(postgres_address) as forwarder:
        yield forwarder


def sqlite_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'receiver.db'}"


async def says(client: Asked, word: str) -> bool:
    return await client.ready() == word


async def is_ready(service: Service) -> bool:
    async with asked(service) as client:
        return await says(client, "ready")


async def is_taken(client: Asked, body: bytes) -> bool:
    return await client.post(body) in (200, 202)


async def test_it_serves_and_delivers_and_ends(tmp_path: Path, runflow: OfflineRunflow) -> None:
    """On a new SQLite file, with nothing else, a callback goes all the way; at the end no process is left in the database."""
    settings = settings_for(
        tmp_path, sqlite_of(tmp_path), file_sink("log", tmp_path), RUNFLOW_API_URL=runflow.url, RUNFLOW_API_KEY=KEY
    )
    key = runflow.add(kind="passed")
    async with open_service(settings) as service, asked(service) as client:
        assert await client.ready() == "ready"
        assert await client.post(runflow.callback_body(key)) == 202
        await until(lambda: arrived("log", tmp_path) == [f"{key}:evaluation.completed:1"])
        assert (await client.verdict(key))["tree"] == "complete"
        assert len(await living(service.database)) == 1
    database = open_database(sqlite_of(tmp_path))
    assert (await living(database), await leased(database)) == ([], 0)
    await database.close()


@pytest.mark.postgres
async def test_a_database_that_comes_late(
    forwarder: Forwarder, tmp_path: Path, runflow: OfflineRunflow, logged: list[EventDict]
) -> None:
    """It starts and says 503 with the reason while PostgreSQL is away; when it comes, all works without a hand."""
    settings = settings_for(tmp_path, forwarder.address, file_sink("log", tmp_path))
    key = runflow.add(kind="passed")
    async with open_service(settings) as service, asked(service) as client:
        assert (await client.ready(), await client.post(runflow.callback_body(key))) == ("database", 503)
        await forwarder.open()
        await until_awaited(lambda: says(client, "ready"))
        await until_awaited(partial(is_taken, client, runflow.callback_body(key)))
        await until(lambda: arrived("log", tmp_path) == [f"{key}:evaluation.completed:1"])
    events = [entry["event"] for entry in logged]
    assert "database.unavailable" in events
    assert events.count("database.back") == 1


@pytest.mark.postgres
async def test_a_database_that_comes_late_and_is_not_migrated(
    postgres_address: str,
    forwarder: Forwarder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logged: list[EventDict],
) -> None:
    """Then it says `schema` until somebody migrates it, does not tell the log at each try, and goes on by itself."""
    require = schema.require_current
    tries = 0

    async def counted(database: Database) -> None:
        nonlocal tries
        tries += 1
        await require(database)

    monkeypatch.setattr(schema, "require_current", counted)
    there = open_database(postgres_address)
    await there.write(execute, "ALTER TABLE alembic_version RENAME TO set_aside_version")
    async with open_service(settings_for(tmp_path, forwarder.address)) as service, asked(service) as client:
        await forwarder.open()
        await until_awaited(lambda: says(client, "schema"))
        before = tries
        await until(lambda: tries > before + 10)
        await there.write(execute, "ALTER TABLE set_aside_version RENAME TO alembic_version")
        await until_awaited(lambda: says(client, "ready"))
    await there.close()
    assert 1 <= len([entry for entry in logged if entry["event"] == "database.schema"]) < 5


@pytest.mark.postgres
async def test_a_database_that_is_cut_off_for_a_moment(
    forwarder: Forwarder, tmp_path: Path, runflow: OfflineRunflow
) -> None:
    """When all its connections break it makes new ones; what was taken in before and after arrives."""
    await forwarder.open()
    settings = settings_for(tmp_path, forwarder.address, file_sink("log", tmp_path))
    keys = [runflow.add(kind="passed") for _ in range(6)]
    async with open_service(settings) as service, asked(service) as client:
        for number, key in enumerate(keys):
            if number % 2:
                forwarder.cut()
            await until_awaited(partial(is_taken, client, runflow.callback_body(key)))
        await until(lambda: {each.partition(":")[0] for each in arrived("log", tmp_path)} == {str(key) for key in keys})


@pytest.mark.postgres
async def test_it_ends_though_its_database_is_silent(
    forwarder: Forwarder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[EventDict]
) -> None:
    """A database that takes connections and answers nothing does not keep a process alive."""
    for module, name in ((pipelines, "STOP_GRACE"), (pipelines, "LAST_WORDS"), (wiring, "INTAKE_SECONDS")):
        monkeypatch.setattr(module, name, 0.1)
    monkeypatch.setattr(wiring, "CLOSE_SECONDS", 1.0)
    await forwarder.open()
    service = Service(settings_for(tmp_path, forwarder.address), runs_pipeline=True)
    await service.start()
    forwarder.talks.clear()
    async with asyncio.timeout(DEADLINE):
        await service.stop()
    assert "pipeline.left_without_word" in {entry["event"] for entry in logged}


@pytest.mark.postgres
async def test_no_connection_is_left(postgres_address: str, tmp_path: Path) -> None:
    """At the end the server has none of ours, the one that listens included."""
    async with open_service(settings_for(tmp_path, postgres_address)) as service:
        assert service.intake.refuses is None
    database = open_database(postgres_address)
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

    async def are_gone() -> bool:  # the server notices a closed connection in its own time
        return await database.read(lambda conn: conn.execute(text(others)).scalar_one() == 0)

    await until_awaited(are_gone)
    await database.close()


async def test_a_second_pipeline_on_sqlite_is_refused(tmp_path: Path) -> None:
    """One process runs it; another may serve beside it, and may take over when the first has ended."""
    settings = settings_for(tmp_path, sqlite_of(tmp_path))
    async with open_service(settings):
        with pytest.raises(PipelineTaken, match=r"on SQLite one may"):
            async with open_service(settings):
                pass
        async with open_service(settings, runs_pipeline=False) as beside:
            assert await is_ready(beside)
    async with open_service(settings) as after:
        assert await is_ready(after)


async def test_a_newer_database_is_refused_by_name(tmp_path: Path) -> None:
    """A program that is older than its database does not touch it."""
    settings = settings_for(tmp_path, sqlite_of(tmp_path))
    async with open_service(settings) as service:
        await service.database.write(execute, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match=r"^DATABASE_URL: .*9999, newer than this program"):
        async with open_service(settings):
            pass


@pytest.mark.postgres
async def test_a_database_that_is_not_migrated_is_refused_by_name(postgres_address: str, tmp_path: Path) -> None:
    """PostgreSQL is migrated by a command, or where a setting says so."""
    database = open_database(postgres_address)
    await database.write(execute, "DROP SCHEMA public CASCADE")
    await database.write(execute, "CREATE SCHEMA public")
    with pytest.raises(SchemaError, match="receiver db upgrade"):
        async with open_service(settings_for(tmp_path, postgres_address)):
            pass
    async with open_service(settings_for(tmp_path, postgres_address, DATABASE_AUTO_UPGRADE="on")) as service:
        assert (await service.database.read(schema.schema_state)).is_current
    await database.close()


async def test_a_file_in_a_folder_that_is_not_there_is_a_wrong_setting(tmp_path: Path) -> None:
    """Waiting would not make the folder."""
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        async with open_service(settings_for(tmp_path, sqlite_of(tmp_path / "nowhere"))):
            pass


async def test_without_its_pipeline_it_shows_what_is_pending(tmp_path: Path, runflow: OfflineRunflow) -> None:
    """`serve --no-pipeline` stages what comes, fetches and delivers nothing, and is no process that shares the rate."""
    settings = settings_for(
        tmp_path, sqlite_of(tmp_path), file_sink("log", tmp_path), RUNFLOW_API_URL=runflow.url, RUNFLOW_API_KEY=KEY
    )
    key = runflow.add(kind="passed")
    async with open_service(settings, runs_pipeline=False) as service, asked(service) as client:
        assert await client.post(runflow.callback_body(key)) == 202

        async def is_shown() -> bool:
            return isinstance(await client.verdict(key), dict)

        await until_awaited(is_shown)
        verdict = await client.verdict(key)
        assert (verdict["tree"], verdict["revision"], verdict["overall_passed"]) == ("pending", 0, True)
        assert await living(service.database) == []
    assert len(runflow.requests) == 0
    assert arrived("log", tmp_path) == []
    async with open_service(settings):
        await until(lambda: arrived("log", tmp_path) == [f"{key}:evaluation.completed:1"])


async def test_what_a_dead_process_held_is_free_at_once_on_sqlite(
    tmp_path: Path, runflow: OfflineRunflow, clock: Clock
) -> None:
    """The only process that may run the pipeline need not wait for leases: whoever held them is gone."""
    settings = settings_for(tmp_path, sqlite_of(tmp_path), file_sink("log", tmp_path))
    async with open_service(settings, runs_pipeline=False) as service:
        desk = Desk(service.database, runflow)
        await desk.release(3)
        far_away = (
            "UPDATE deliveries SET state = 'leased', due_at = '2999-01-01T00:00:00.000000Z', claim = 1, attempts = 1"
        )
        await service.database.write(execute, far_away)
    async with open_service(settings) as service:
        await until(lambda: len(arrived("log", tmp_path)) == 3)


async def test_a_stop_before_the_database_has_come(postgres_url: str, tmp_path: Path) -> None:
    """A service that waits for its database ends like any other, and a reload or a stop after that does nothing."""
    forwarder = Forwarder(postgres_url)
    settings = settings_for(tmp_path, forwarder.address)
    async with forwarder:
        service = Service(settings, runs_pipeline=True)
        await service.start()
        async with asyncio.timeout(DEADLINE):
            await service.stop()
            await service.reload(settings)
            await service.stop()
        assert not service._is_prepared
