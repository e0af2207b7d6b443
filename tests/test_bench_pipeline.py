"""`python -m bench.pipeline`, `bench.client`: that they run to their end. What they measured is no matter here."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("command", "row"),
    [
        ("bench.pipeline --rounds 1 --evaluations 20 --store sqlite --latency-ms 5", "| sqlite, 5 ms |"),
        ("bench.client --rounds 1 --count 5", "| 50 |"),
    ],
    ids=["pipeline", "client"],
)  # fmt: skip
def test_it_measures(command: str, row: str) -> None:
    """Every verdict is fetched and delivered once, which it looks at itself, and the table is printed."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-m", *command.split()],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert row in ended.stdout
