"""Migrations: from nothing, again, many at once, newer than the program; what they make is what the models say."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from receiver.errors import SchemaError
from receiver.store import schema
from receiver.store.database import Database
from receiver.store.migrations.views import VIEWS
from receiver.store.schema import SchemaState
from receiver.store.tables import metadata
from tests.store.places import LONG, all_of, opened, python, scalar, sql

NEWEST = schema.versions()[-1]


def test_versions() -> None:
    """What the names of the steps' files say is what Alembic finds in them."""
    steps = ScriptDirectory(str(Path(schema.__file__).parent / "migrations"))
    assert schema.versions() == [step.revision for step in steps.walk_revisions()][::-1]
    assert steps.get_current_head() == NEWEST


async def test_from_empty_and_again(empty_place: str) -> None:
    """An empty database is brought up to date; a second time changes nothing."""
    async with opened(empty_place) as database:
        assert await database.read(schema.schema_state) == SchemaState(None, NEWEST)
        for _ in range(2):
            assert await schema.upgrade(database) == SchemaState(NEWEST, NEWEST)
        await schema.require_current(database)
        assert (await database.read(schema.schema_state)).is_current


async def test_many_at_once(empty_place: str) -> None:
    """Eight that start at once, each with connections of its own, migrate once and all find it done."""
    async with asyncio.timeout(LONG):
        states = await all_of([_upgraded(empty_place) for _ in range(8)])
    assert states == 8 * [SchemaState(NEWEST, NEWEST)]
    async with opened(empty_place) as database:
        assert await database.read(scalar, "SELECT count(*) FROM alembic_version") == 1


async def _upgraded(url: str) -> SchemaState:
    async with opened(url) as database:
        return await schema.upgrade(database)


PROGRAM = """
import asyncio, sys
from receiver.store import schema, sqlite
from receiver.store.database import open_database

sqlite.BUSY_MILLISECONDS = 60_000

async def main():
    database = open_database(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    print((await schema.upgrade(database)).current, flush=True)
    await database.close()

asyncio.run(main())
"""


async def test_processes_at_once(empty_place: str) -> None:
    """The same with processes: none fails, and all end up with the same schema."""
    processes = [python(PROGRAM, empty_place) for _ in range(2)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
        outs = await asyncio.gather(*(asyncio.to_thread(process.communicate, "go\n", LONG) for process in processes))
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [out for out, _ in outs] == 2 * [f"{NEWEST}\n"]


async def test_newer(database: Database) -> None:
    """A database that a newer program made is refused by the name of its version, and left as it is."""
    await database.write(sql, "UPDATE alembic_version SET version_num = 'f00d'")
    for refused in (schema.upgrade(database), schema.require_current(database), database.read(schema.schema_state)):
        with pytest.raises(SchemaError, match=f"DATABASE_URL: .*schema f00d, newer than .* {NEWEST}: run the newer"):
            await refused
    assert await database.read(scalar, "SELECT version_num FROM alembic_version") == "f00d"


async def test_not_migrated(empty_place: str) -> None:
    """A database that is not migrated is refused with what to do."""
    async with opened(empty_place) as database:
        with pytest.raises(SchemaError, match=f"DATABASE_URL: .*schema none, .*{NEWEST}: run `receiver db upgrade`"):
            await schema.require_current(database)


async def test_failed_halfway(empty_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that fails leaves nothing behind, and works when it is tried again."""

    def fails(*_: object) -> None:
        raise KeyError("halfway")

    async with opened(empty_place) as database:
        with monkeypatch.context() as patched:
            patched.setattr("receiver.store.schema.create_views", fails)  # which is the last thing to be done
            with pytest.raises(KeyError, match="halfway"):
                await schema.upgrade(database)
        assert await database.read(lambda conn: inspect(conn).get_table_names()) == []
        assert (await schema.upgrade(database)).is_current


async def test_nothing_to_generate(database: Database) -> None:
    """Alembic, asked for a migration from the migrated schema to the models, finds nothing to do."""

    def differences(conn: Connection) -> list[Any]:
        context = MigrationContext.configure(
            conn, opts={"compare_type": True, "compare_server_default": True, "target_metadata": metadata}
        )
        return list(compare_metadata(context, metadata))

    assert await database.read(differences) == []


def catalogue(conn: Connection) -> dict[str, Any]:
    """What the database itself says of its tables and indexes, conditions included."""
    if conn.dialect.name == "sqlite":
        ours = "name NOT LIKE 'alembic%' AND m.name NOT LIKE 'sqlite%'"
        tables = f"SELECT m.name, '' FROM sqlite_master AS m WHERE m.type = 'table' AND m.{ours}"
        indexes = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        columns = (
            'SELECT m.name, t.name, t.type, t."notnull", t.dflt_value, t.pk FROM sqlite_master AS m'
            f" JOIN pragma_table_info(m.name) AS t WHERE m.type = 'table' AND m.{ours}"
        )
    else:
        tables = "SELECT tablename, '' FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'alembic%'"
        indexes = (
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename NOT LIKE 'alembic%'"
        )
        columns = (
            "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name NOT LIKE 'alembic%' AND table_name NOT LIKE 'v\\_%'"
        )
    return {
        name: sorted(tuple(" ".join(str(value).split()) for value in row) for row in conn.execute(text(query)))
        for name, query in (("tables", tables), ("indexes", indexes), ("columns", columns))
    }


async def test_catalogues_agree(empty_place: str) -> None:
    """What the migrations make and what the models would make are the same to the letter, also where alembic does not look."""
    async with opened(empty_place) as database:
        await database.migrate(metadata.create_all)
        modelled = await database.read(catalogue)
        await database.migrate(metadata.drop_all)
        await schema.upgrade(database)
        made = await database.read(catalogue)
    assert made == modelled
    assert len(made["tables"]) == len(metadata.tables)
    assert len(made["indexes"]) >= 10


async def test_views(database: Database) -> None:
    """The views are there, and can be read where there is nothing."""
    assert set(await database.read(lambda conn: inspect(conn).get_view_names())) == set(VIEWS)
    for view in VIEWS:
        assert await database.read(scalar, f"SELECT count(*) FROM {view}") == 0


def test_wheel(tmp_path: Path) -> None:
    """What is installed has every file of the migrations, the template included, and no list of files to forget one in."""
    root = Path(__file__).parents[2]
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=root, check=True, capture_output=True)
    [wheel] = tmp_path.iterdir()
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("receiver/store/migrations/")}
    there = (root / "receiver" / "store" / "migrations").rglob("*")
    assert packed == {str(path.relative_to(root)) for path in there if path.suffix in (".py", ".mako")}
    assert "receiver/store/migrations/script.py.mako" in packed
