"""schemathesis asks the running service everything that its own OpenAPI document allows, and much that it does not.

All of its checks hold: no 5xx, and no status, media type, header or body that the document does not tell of; what the document
refuses is refused, what it allows is taken, other methods are 405, and nothing is answered without a token that needs one.
"""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.web.logged import Lines
from tests.web.receivers import FIRST, OPERATOR, Receiver
from tests.web.seeds import store, verdict
from tests.web.test_list import STORED

HERE = Path(__file__).parent
SEED = "20261126"


async def run(receiver: Receiver, folder: Path, *options: str) -> str:
    """What schemathesis says. Fails unless all its checks hold."""
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"), "--no-color", "run",
        f"http://127.0.0.1:{receiver.port}/openapi.json", "--exclude-path", "/v1/verdicts/stream", *options,
    ]  # fmt: skip
    environ = os.environ | {
        "TOKEN": OPERATOR,
        "SECRET": FIRST,
        "SCHEMATHESIS_HOOKS": "tests.web.schemathesis_hooks",
        "PYTHONPATH": str(HERE.parents[1]),
    }
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_any_request(on_sqlite: Receiver, lines: Lines, tmp_path: Path) -> None:
    """A bounded number of requests, the same in each run."""
    await store(on_sqlite, *STORED, *(verdict(number) for number in range(100, 130)))
    said = await run(
        on_sqlite, tmp_path, "--max-examples", "6", "--seed", SEED, "--phases", "examples,coverage,fuzzing"
    )
    assert "generated" in said
    assert [line for line in lines if "exception" in line] == []


@pytest.mark.long
async def test_any_request_for_long(receiver: Receiver, lines: Lines, tmp_path: Path) -> None:
    """Many more, others in each run, on both databases."""
    await store(receiver, *STORED, *(verdict(number) for number in range(100, 130)))
    await run(receiver, tmp_path, "--max-examples", "200")
    assert [line for line in lines if "exception" in line] == []
