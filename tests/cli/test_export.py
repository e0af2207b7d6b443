"""`receiver verdicts export`: each format whole, interrupted in every way and gone on with, and what is refused."""

import csv
import fcntl
import io
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import receiver.cli
from receiver.cli import export, parquet
from receiver.core.flat import COLUMNS
from receiver.core.verdict import Action, GateFailure, Issue, Judge, Verdict
from receiver.store.export import Span
from receiver.store.reading import Position
from tests.cli.installation import ROOT, SECRETS, Installation, Result
from tests.store.places import migrate, sql
from tests.web.logged import shows_no_secret
from tests.web.seeds import NOON, key, stored, verdict

MANY = 60
PROGRAM = """
import os, resource, signal, sqlite3, sys
from receiver.cli import export, receiver
from receiver.store import export as stored

stored.CHUNK_ROWS = stored._FIRST_ROWS = 7
export.NOTE_SECONDS = 0
what, at, *arguments = sys.argv[1:]
add = export._Export._add

async def interrupted(self, chunk):
    await add(self, chunk)
    if not self._notes.verdicts > int(at):
        return
    if what == "SIGKILL":
        self._partial.write(b"torn by its end")
    if what == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._partial.place.stat().st_size + 1000,) * 2)
    elif what == "database":
        stored._chunk = lambda conn, *_: conn.exec_driver_sql("SELECT document FROM gone")
    else:
        os.kill(os.getpid(), getattr(signal, what))

export._Export._add = interrupted
receiver(arguments)
"""
"""The program, which reads little at a time, and to which something happens on the way."""


def whole(number: int) -> Verdict:
    return verdict(
        number, client_ref="=1+1" if number % 2 else "é", cost="0.050000", weighted_pass_rate=0.1, eval_duration_ms=-1,
        top_issues=["hands"], check_summary={"a": [1]}, issues=[Issue(category="hands")], tree="complete",
        judges=[Judge(name="anatomy", evidence=["a", "b"], sub_point_results={"x": None}), Judge()] * (number % 3),
    )  # fmt: skip


@pytest.fixture
def migrated(on_postgres: Installation) -> Installation:
    migrate(on_postgres.url)
    return on_postgres


@pytest.fixture(params=["here", pytest.param("migrated", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest) -> Installation:
    """An installation with verdicts, on each kind of database."""
    installation: Installation = request.getfixturevalue(request.param)
    installation.write(stored, [whole(n) for n in range(MANY)])
    return installation


def interrupted(place: Installation, what: str, at: int, *arguments: str) -> Result:
    """How the command ended to which that happened behind so many verdicts."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, what, str(at), "verdicts", "export", *arguments], check=False,
        cwd=place.folder, env=place.process_environ(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    shows_no_secret(ended.stdout + ended.stderr, SECRETS)
    return Result(ended.returncode, ended.stdout, ended.stderr)


def ids(path: Path) -> list[str]:
    """Of all verdicts in a whole file, in their order."""
    if path.suffix == ".parquet":
        found: list[str] = pa.parquet.read_table(path).column("evaluation_id").to_pylist()
        return found
    if path.suffix == ".csv":
        head, *rows = csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
        assert tuple(head) == COLUMNS
        return [row[1] for row in rows]
    return [orjson.loads(line)["evaluation_id"] for line in path.read_bytes().splitlines()]


ALL = [str(key(n)) for n in range(MANY)]


@pytest.mark.parametrize("format_", ["ndjson", "csv", "parquet"])
def test_into_a_file(place: Installation, format_: str) -> None:
    """All verdicts, the oldest first; nothing else is left in the folder; what it did is told, as JSON too."""
    path = place.folder / f"verdicts.{format_}"
    before = {each.name for each in place.folder.iterdir()}
    said = place.run("verdicts", "export", "--format", format_, "--output", path)
    assert (said.status, said.out) == (0, f"{MANY} verdicts, {path.stat().st_size} bytes: {path}\n")
    assert ids(path) == ALL
    told = place.run("verdicts", "export", "--format", format_, "--output", path, "--client-ref", "é", "--json").json
    assert ids(path) == ALL[::2]
    assert told | {"seconds": 0} == {
        "file": str(path), "format": format_, "verdicts": MANY // 2, "there_before": 0, "bytes": path.stat().st_size,
        "seconds": 0,
    }  # fmt: skip
    assert {each.name for each in place.folder.iterdir()} - before <= {path.name, "receiver.db-wal", "receiver.db-shm"}


@pytest.mark.parametrize("format_", ["ndjson", "csv"])
def test_to_standard_output(place: Installation, format_: str) -> None:
    """The same as into a file, without a word beside it."""
    path = place.folder / f"verdicts.{format_}"
    place.run("verdicts", "export", "--format", format_, "--output", path)
    said = place.run("verdicts", "export", "--format", format_)
    assert said == (0, path.read_bytes().decode().replace("\r\n", "\n"), "")  # as the runner reads it


@pytest.mark.parametrize("format_", ["ndjson", "csv", "parquet"])
def test_nothing_stored(here: Installation, format_: str) -> None:
    """A file without verdicts, which is a good one."""
    path = here.folder / f"verdicts.{format_}"
    assert here.run("verdicts", "export", "--format", format_, "--output", path).status == 0
    assert ids(path) == []


ENDS = {"SIGKILL": -signal.SIGKILL, "SIGINT": 1, "SIGTERM": 1, "database": 1, "full": 1}
QUICK = [("SIGKILL", "csv"), ("SIGTERM", "ndjson"), ("full", "ndjson"), ("database", "ndjson")]
"""In `make test`; and one for each database and for Parquet."""


@pytest.mark.parametrize(("what", "format_"), QUICK)
def test_interrupted(here: Installation, what: str, format_: str) -> None:
    """Whatever ends it, `--continue` brings each verdict exactly once; nothing that is not whole bears the file's name."""
    here.write(stored, [whole(n) for n in range(MANY)])
    goes_on(here, what, format_)


def test_killed(place: Installation) -> None:
    """The same on each kind of database, into Parquet, by `kill -9`."""
    goes_on(place, "SIGKILL", "parquet")


@pytest.mark.long
@pytest.mark.parametrize("what", ENDS)
@pytest.mark.parametrize("format_", ["ndjson", "csv", "parquet"])
def test_interrupted_in_every_way(place: Installation, what: str, format_: str) -> None:
    """The same, all of it."""
    goes_on(place, what, format_)


def goes_on(place: Installation, what: str, format_: str) -> None:
    path = place.folder / f"verdicts.{format_}"
    arguments = ("--format", format_, "--output", str(path))
    for at in (10, 30):
        ended = interrupted(place, what, at, *arguments, *(("--continue",) if at == 30 else ()))
        assert ended.status == ENDS[what], ended.err
        assert not path.exists()
        if what == "full":
            assert ended.told == [f"cannot write {path}: File too large"]
        elif what != "SIGKILL":
            assert ended.told[-1].endswith(
                f"what is there is in {path}.partial: the same command with --continue goes on"
            )
    refused = place.run("verdicts", "export", *arguments)
    assert (refused.status, refused.told[-1].endswith("remove it to begin anew")) == (2, True)
    place.write(stored, [whole(MANY + 1)])  # what comes later is not part of what was begun
    said = place.run("verdicts", "export", *arguments, "--continue", "--json")
    assert said.status == 0, said.err
    assert ids(path) == ALL
    assert said.json["verdicts"] == MANY
    assert said.json["there_before"] > 10
    assert list(place.folder.glob("*.partial*")) == []


def test_another_one_cannot_go_on(here: Installation) -> None:
    """What was begun with another filter or format, is written by another process, or was cut short, is left alone."""
    here.write(stored, [whole(n) for n in range(MANY)])
    path = here.folder / "verdicts"
    interrupted(here, "SIGTERM", 10, "--output", str(path))
    partial = here.folder / "verdicts.partial"
    content = partial.read_bytes()
    for arguments, told in (
        (("--status", "failed"), "begun with filter {}"),
        (("--format", "csv"), "begun with format 'ndjson'"),
    ):
        said = here.run("verdicts", "export", "--output", path, "--continue", *arguments)
        assert (said.status, told in said.err) == (2, True), said.err
    with partial.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said = here.run("verdicts", "export", "--output", path, "--continue")
        assert (said.status, "another process" in said.err) == (2, True)
    assert partial.read_bytes() == content
    partial.write_bytes(content[:-1])
    said = here.run("verdicts", "export", "--output", path, "--continue")
    assert (said.status, "shorter than was noted" in said.err) == (2, True)
    (here.folder / "verdicts.partial.json").write_text("{}")
    said = here.run("verdicts", "export", "--output", path, "--continue")
    assert (said.status, "is not what an export noted" in said.err) == (2, True)


@pytest.mark.parametrize("goes_on", [[], ["--continue"]])
def test_what_was_begun_is_removed(here: Installation, goes_on: list[str]) -> None:
    """As the message says: an export begins anew, whatever the notes say, which no message names."""
    here.write(stored, [whole(n) for n in range(MANY)])
    path = here.folder / "verdicts"
    interrupted(here, "SIGTERM", 10, "--output", str(path))
    (here.folder / "verdicts.partial").unlink()
    said = here.run("verdicts", "export", "--output", path, *goes_on)
    assert said.status == 0, said.err
    assert ids(path) == ALL
    assert list(here.folder.glob("*.partial*")) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--format", "parquet"], "--format parquet needs --output FILE"),
        (["--continue"], "--continue needs --output FILE"),
        (["--json"], "--json needs --output FILE"),
        (["--overall-passed", "maybe"], "overall_passed: must be true, false or null"),
    ],
)
def test_wrong_use(here: Installation, arguments: list[str], told: str) -> None:
    """A line that says what would be right, and status 2."""
    said = here.run("verdicts", "export", *arguments)
    assert (said.status, said.out, said.told) == (2, "", [told])


def test_no_such_folder(here: Installation) -> None:
    """A line, and status 1."""
    said = here.run("verdicts", "export", "--output", here.folder / "none" / "verdicts")
    assert said.status == 1
    assert said.told == [f"cannot write {here.folder}/none/verdicts.partial: No such file or directory"]


def test_without_pyarrow(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is told. Nothing else needs it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "receiver.cli.parquet")
    monkeypatch.delattr(receiver.cli, "parquet")
    said = here.run("verdicts", "export", "--format", "parquet", "--output", "x")
    assert (said.status, said.told) == (2, ['--format parquet needs pyarrow: pip install "runflow-receiver[parquet]"'])
    assert list(here.folder.glob("x*")) == []


def test_pyarrow_is_not_imported(here: Installation) -> None:
    """It takes longer to import than all else together."""
    program = "import sys; import receiver.cli.verdicts; print('pyarrow' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, text=True)
    assert ended.stdout == "False\n"


def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal: how much of the time is done, and how many verdicts."""
    shown = io.StringIO()
    monkeypatch.setattr(export, "progress_console", lambda: Console(file=shown, force_terminal=True, width=100))
    span = Span(Position(NOON, key(0)), Position(NOON + timedelta(hours=4), key(9)))
    with export.progress(span, 1000) as show:
        show(Position(NOON + timedelta(hours=1), key(5)), 1234)
    assert "1,234 verdicts" in shown.getvalue()
    assert " 25 %" in shown.getvalue()


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
MAYBE = st.none() | TEXT
RATES = st.none() | st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.none() | st.integers(-(2**63), 2**63 - 1)
MOMENTS = st.datetimes(timezones=st.just(UTC))
OPEN = st.none() | st.dictionaries(TEXT, st.none() | TEXT | st.booleans() | st.lists(st.integers(0, 9)), max_size=3)
VERDICTS = st.builds(
    Verdict,
    evaluation_id=st.uuids(), event=TEXT, status=MAYBE, overall_passed=st.none() | st.booleans(), weighted_pass_rate=RATES,
    top_issues=st.lists(TEXT, max_size=3), client_ref=MAYBE, generation_prompt=MAYBE, eval_duration_ms=WHOLE,
    cost=st.none() | st.from_regex(r"[+-]?[0-9]{1,20}\.[0-9]{1,18}", fullmatch=True, alphabet=st.characters(codec="ascii")),
    completed_at=st.none() | MOMENTS, received_at=MOMENTS, check_summary=OPEN,
    judges=st.lists(
        st.builds(Judge, name=MAYBE, passed=st.none() | st.booleans(), weight=RATES, evidence=st.lists(TEXT, max_size=2),
                  sub_point_results=OPEN),
        max_size=3,
    ),
    issues=st.lists(st.builds(Issue, judge=MAYBE, detail=MAYBE), max_size=2),
    gate_failures=st.lists(st.builds(GateFailure, module=MAYBE), max_size=2),
    action=st.none() | st.builds(Action, primary_action=MAYBE), tree=st.just("complete"), revision=st.integers(0, 9),
)  # fmt: skip


def told_again(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the verdict is."""
    for part in (row, *row["judges"]):
        for name in ("check_summary", "sub_point_results"):
            if part.get(name) is not None:
                part[name] = orjson.loads(part[name])
    return row | {"evaluation_id": UUID(row["evaluation_id"])}


@given(st.lists(VERDICTS, min_size=1, max_size=4))
def test_any_verdict_as_a_batch(verdicts: list[Verdict]) -> None:
    """Every field comes back with its type; a cost is exact."""
    batches = parquet.Batches(pytest.fail)
    content = batches.head() + batches.lines([each.model_dump_json() for each in verdicts])
    rows = pa.ipc.open_stream(content).read_all().to_pylist()
    for row, each in zip(rows, verdicts, strict=True):
        cost = None if each.cost is None else Decimal(each.cost)
        assert told_again(row) == each.model_dump() | {"cost": cost}


@pytest.mark.parametrize("cost", ["100000000000000000000", "0.0000000000000000001", "-1" + "0" * 40])
def test_a_cost_with_too_many_digits(cost: str) -> None:
    """It is null there rather than another number, and that is told."""
    told: list[str] = []
    batches = parquet.Batches(told.append)
    content = batches.head() + batches.lines(
        [verdict(1, cost=cost).model_dump_json(), verdict(2, cost="1").model_dump_json()]
    )
    assert pa.ipc.open_stream(content).read_all().column("cost").to_pylist() == [None, Decimal(1)]
    assert told == [f"{key(1)}: the cost {cost} has too many digits for Parquet, and is null"]


def test_row_groups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, a group is written when it is large."""
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 10_000)
    batches = parquet.Batches(pytest.fail)
    source, path = tmp_path / "batches", tmp_path / "verdicts.parquet"
    lines = [batches.lines([whole(n).model_dump_json() for n in range(start, start + 5)]) for start in range(0, 100, 5)]
    source.write_bytes(batches.head() + b"".join(lines))
    parquet.to_parquet(source, path)
    file = pa.parquet.ParquetFile(path)
    assert (file.metadata.num_rows, file.metadata.num_row_groups > 3) == (100, True)
    assert file.schema_arrow.equals(parquet.SCHEMA)


def test_a_moment_of_the_schema() -> None:
    """Times are of microseconds, in UTC."""
    batches = parquet.Batches(pytest.fail)
    at = datetime(2026, 11, 25, 12, 0, 0, 7, UTC)
    content = batches.head() + batches.lines([verdict(1, completed_at=at).model_dump_json()])
    assert pa.ipc.open_stream(content).read_all().column("completed_at").to_pylist() == [at]


def test_gone_is_gone(here: Installation) -> None:
    """A table that is not there is told in a line."""
    here.write(sql, "ALTER TABLE verdicts RENAME TO gone")
    said = here.run("verdicts", "export")
    assert (said.status, said.out) == (1, "")


def test_the_page_has_every_column() -> None:
    """docs/export.md names the columns of CSV in their order, and those of Parquet each with its type."""
    page = (ROOT / "docs" / "export.md").read_text()
    listed = page.split("in this order: ")[1].split(".")[0].replace("\n", " ").split(", ")
    assert listed == [f"`{name}`" for name in COLUMNS]
    rows = [line.split(" | ") for line in page.split("| column | type |")[1].splitlines() if line.startswith("| `")]
    kinds = {name: kind for names, kind in rows for name in re.findall(r"`(\w+)`", names)}
    assert sorted(kinds) == sorted(parquet.SCHEMA.names)
    for field in parquet.SCHEMA:
        told = kinds[field.name]
        if pa.types.is_list(field.type) and pa.types.is_struct(field.type.value_type):
            assert told.startswith("list of struct: ")
            parts = field.type.value_type
        elif pa.types.is_struct(field.type):
            assert told.startswith("struct: ")
            parts = field.type
        elif pa.types.is_list(field.type):
            assert told.startswith("list of `string`")
            continue
        else:
            assert told.startswith(f"`{field.type}`"), field
            continue
        found = [name for name in re.findall(r"`(\w+)`", told) if name not in ("string", "bool", "double")]
        assert found == [part.name for part in parts]
