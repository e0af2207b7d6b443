"""`python -m bench`: that it runs to its end and tells what it measured. What it measured is no matter here."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
QUICK = ["--rounds", "1", "--seconds", "0.2", "--warm-up", "0.1", "--latency-seconds", "0.2", "--connections", "4"]


def test_it_measures_and_writes_its_tables(tmp_path: Path) -> None:
    """Every callback that was answered 202 is in the database, and both tables are written."""
    command = [sys.executable, "-W", "error", "-m", "bench", *QUICK, "--variants", "sqlite", "--out", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    report = json.loads((tmp_path / "newest.json").read_text())
    measured = report["rounds"][0]["sqlite"]
    answers, before = measured["outcome"]["answers"], measured["outcome"]["answers_before"]
    assert answers.keys() == {"202"}
    assert measured["stored"] == answers["202"] + before["202"]
    table = (tmp_path / "newest.md").read_text()
    assert table == ended.stdout.removesuffix("\n")
    assert "| empty Starlette route, reads the body |" in table
    assert table.count("| SQLite, durable |") == 2
    assert "WAL, synchronous=FULL" in table


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
