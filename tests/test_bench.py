"""`python -m bench`: that each part runs to its end and tells what it measured. What it measured is no matter here."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.join import read
from bench.parts import PARTS
from bench.quote import quoted, sections_of
from bench.startup import Startup

ROOT = Path(__file__).parent.parent
QUICK = ["--rounds", "1", "--seconds", "0.2", "--warm-up", "0.1", "--connections", "4"]
SMALL = [
    "--latency-seconds",
    "0.2",
    "--pressure-seconds",
    "0.5",
    "--burst",
    "200",
    "--rows",
    "1000",
    "--verdicts",
    "100",
]


def bench(folder: Path, *options: str) -> tuple[dict[str, Any], str]:
    """The report of a run, and its tables."""
    command = [sys.executable, "-W", "error", "-m", "bench", *QUICK, *SMALL, *options, "--out", str(folder)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    tables = (folder / "newest.md").read_text()
    assert tables == ended.stdout.removesuffix("\n")
    return json.loads((folder / "newest.json").read_text()), tables


def test_it_measures_and_writes_its_tables(tmp_path: Path) -> None:
    """Every callback that was answered 202 is in the database, and the table is written."""
    report, tables = bench(tmp_path, "--only", "rates", "--variants", "sqlite,naive-wal")
    measured = report["parts"]["rates"]["rounds"][0]["sqlite"]
    answers, before = measured["outcome"]["answers"], measured["outcome"]["answers_before"]
    assert answers.keys() == {"202"}
    assert measured["stored"] == answers["202"] + before["202"]
    assert "| empty Starlette route, reads the body |" in tables
    assert tables.count("| SQLite, durable |") == 1
    assert "times as many" in tables
    assert "WAL, synchronous=FULL" in tables


@pytest.mark.long
@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("layers", "| HMAC |"),
        ("latency", "| SQLite, durable |"),
        ("memory", "| SQLite | 200 |"),
        ("growth", "| SQLite | version 4 | 1,000 |"),
        ("ids", "| ids of version 4 |"),
        ("pressure", "| 4 times the connections |"),
        ("several", "| SQLite |"),
        ("storage", "| `verdicts` |"),
        ("tries", "| SQLite |"),
        ("sql", "| Dead letters and their reasons |"),
        ("export", "| SQLite | 1,000 | GET, ndjson |"),
    ],
)
def test_each_part_answers_its_question(tmp_path: Path, part: str, said: str) -> None:
    """It measures, and what it found is in the tables."""
    report, tables = bench(tmp_path, "--only", part)
    assert report["failed"] == {}
    assert said in tables


@pytest.mark.parametrize(
    "module", [["bench.lanes", "--quick", "--part", "drain", "--part", "beside"], ["bench.startup"]]
)
def test_a_part_by_itself(module: list[str]) -> None:
    """What has a table of its own runs to its end as well, and every figure is of something."""
    command = [sys.executable, "-W", "error", "-m", *module, "--store", "sqlite", "--rounds", "1", "--json"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    figures = re.findall(r'"middle": ([0-9.]+)', ended.stdout)
    assert len(figures) >= 6
    assert all(float(each) > 0 for each in figures)


@pytest.mark.redis
def test_brokers(redis_url: str) -> None:
    """The sink and the bare client both send all, and a broker that is down is watched."""
    few = ["--brokers", "redis,kafka", "--rounds", "1", "--count", "200", "--waiting", "200", "--seconds", "0.2"]
    command = [sys.executable, "-W", "error", "-m", "bench.brokers", *few]
    environ = os.environ | {"BENCH_REDIS_URL": redis_url}
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env=environ)
    assert ended.returncode == 0, ended.stderr
    for broker in ("redis", "kafka"):
        assert re.search(rf"^\| {broker} \| refuses \| sqlite \| 200 \|", ended.stdout, re.MULTILINE)
        assert re.search(rf"^\| {broker} \| [1-9][0-9,]* \| [1-9]", ended.stdout, re.MULTILINE)


def test_reports_are_joined(tmp_path: Path) -> None:
    """The parts of a later run stand in place of the earlier ones; the others stay as they were, figure for figure."""
    kept = ROOT / "bench" / "results"
    whole, later = read(kept), tmp_path / "later"
    ready = {"startup": Startup.model_validate(whole.parts["startup"].model_dump() | {"ready": []})}
    assert ready["startup"] != whole.parts["startup"]
    one = {"parts": ready, "machine": _another(whole.machine)}
    report.write(whole.model_copy(update=one), PARTS, later)
    shutil.copytree(kept, tmp_path / "kept")
    command = [sys.executable, "-W", "error", "-m", "bench.join", str(later), "--into", str(tmp_path / "kept")]
    subprocess.run(command, cwd=ROOT, check=True)
    found = read(tmp_path / "kept")
    assert found.parts == {**whole.parts, **ready}
    assert list(found.parts) == [name for name in PARTS if name in whole.parts]
    assert found.machine.processor == "another"
    assert "another, " in (tmp_path / "kept" / "newest.md").read_text()


def _another(machine: report.Machine) -> report.Machine:
    return machine.model_copy(update={"processor": "another"})


def test_pages_quote_the_newest_report() -> None:
    """A page gets the section that it names, and keeps what it has where the report has no such section."""
    sections = sections_of("## One\n\n| a |\n| b |\n\n## Two\n\nmore\n")
    assert sections == {"One": "| a |\n| b |", "Two": "more"}
    page = "<!-- newest: {} -->\n\nold\n\n<!-- end -->"
    assert quoted(page.format("One"), sections) == "<!-- newest: One -->\n\n| a |\n| b |\n\n<!-- end -->"
    assert quoted(page.format("Three"), sections) == page.format("Three")
