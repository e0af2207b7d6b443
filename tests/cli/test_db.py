"""`receiver db`: which schema there is, and bringing it up."""

import subprocess
import sys

import pytest

from receiver.store.schema import versions
from tests.cli.installation import Installation

NEWEST = versions()[-1]
CURRENT = {"current": NEWEST, "newest": NEWEST, "is_current": True}


def test_sqlite(fresh: Installation) -> None:
    """From an empty file to a migrated one, and again without a change."""
    (fresh.folder / "receiver.db").touch()
    assert fresh.run("db", "current") == (0, f"{fresh.url}: schema none, this program needs {NEWEST}\n", "")
    for _ in range(2):
        assert fresh.run("db", "upgrade") == (0, f"{fresh.url}: schema {NEWEST}\n", "")
    assert fresh.run("db", "current") == (0, f"{fresh.url}: schema {NEWEST}, this program needs {NEWEST}\n", "")
    assert fresh.run("verdicts", "list").status == 0


def test_as_json(fresh: Installation) -> None:
    """`--json` says the same."""
    (fresh.folder / "receiver.db").touch()
    assert fresh.run("db", "current", "--json").json == {"current": None, "newest": NEWEST, "is_current": False}
    assert fresh.run("db", "upgrade", "--json").json == CURRENT
    assert fresh.run("db", "current", "--json").json == CURRENT


def test_a_command_before_the_migration(fresh: Installation) -> None:
    """What needs tables says how to get them, also on SQLite, and makes no file."""
    path = fresh.folder / "receiver.db"
    for command in (["verdicts", "list"], ["audit"], ["db", "current"]):
        told = f"DATABASE_URL: there is no file {path}; `receiver serve` or `receiver db upgrade` makes it\n"
        assert fresh.run(*command) == (2, "", told)
    assert not path.exists()
    path.touch()
    said = fresh.run("verdicts", "list")
    assert (said.status, said.out) == (2, "")
    assert "run `receiver db upgrade`" in said.told[-1]


def test_no_file_at_all(fresh: Installation) -> None:
    """`upgrade` makes the file."""
    assert fresh.run("db", "upgrade").status == 0
    assert (fresh.folder / "receiver.db").stat().st_size > 0


def test_postgresql(on_postgres: Installation) -> None:
    """The same on PostgreSQL; its address is shown without user and password."""
    shown = on_postgres.url.replace("postgres@", "")
    assert on_postgres.run("db", "current").out == f"{shown}: schema none, this program needs {NEWEST}\n"
    assert on_postgres.run("db", "upgrade") == (0, f"{shown}: schema {NEWEST}\n", "")
    assert on_postgres.run("db", "upgrade") == (0, f"{shown}: schema {NEWEST}\n", "")


@pytest.mark.parametrize("kind", ["fresh", "on_postgres"])
def test_several_at_once(request: pytest.FixtureRequest, kind: str) -> None:
    """Several processes that migrate at once do no harm."""
    here: Installation = request.getfixturevalue(kind)
    command = [sys.executable, "-m", "receiver", "db", "upgrade", "--json"]
    processes = [
        subprocess.Popen(
            command, env=here.process_environ(), cwd=here.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    ended = [process.communicate() for process in processes]
    assert [(process.returncode, err) for process, (_, err) in zip(processes, ended, strict=True)] == [(0, b"")] * 2
    assert here.run("db", "current", "--json").json == CURRENT


def test_a_file_that_is_no_database(fresh: Installation) -> None:
    """What is there and is no database must be told, and left as it is."""
    path = fresh.folder / "receiver.db"
    path.write_text("not a database, by all means" * 100)
    said = fresh.run("db", "upgrade")
    assert (said.status, said.out) == (1, "")
    assert "not a database" in said.told[-1]
    assert path.read_text().startswith("not a database, by all means")
