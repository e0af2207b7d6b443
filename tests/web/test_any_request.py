"""schemathesis asks the running service everything that its own OpenAPI document allows, and much that it does not.

All of its checks hold: no 5xx, and no status, media type, header or body that the document does not tell of; what the document
refuses is refused, what it allows is taken, other methods are 405, and nothing is answered without a token that needs one.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from receiver.core.routing import Route
from receiver.offline import OfflineRunflow
from tests.web.logged import captured
from tests.web.receivers import API_KEY, FIRST, OPERATOR, SECRETS, Receiver, serving, settings_for
from tests.web.seeds import stored, verdict
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


@asynccontextmanager
async def filled(url: str, folder: Path) -> AsyncIterator[Receiver]:
    """A receiver with a Runflow, verdicts of which that knows some, and an outbox."""
    with captured(SECRETS) as lines:
        async with (
            OfflineRunflow(secret="whsec_of_the_web_tests", api_key=API_KEY) as runflow,
            serving(settings_for(url, folder, RUNFLOW_API_URL=runflow.url)) as receiver,
        ):
            known = [verdict(number, evaluation_id=runflow.add()) for number in range(100, 110)]
            wanted = [*STORED, *known, *(verdict(number) for number in range(110, 130))]
            await receiver.service.database.write(stored, wanted, routes=[Route("archive"), Route("queue")])
            yield receiver
        assert [line for line in lines if "exception" in line] == []


async def test_any_request(sqlite: str, tmp_path: Path) -> None:
    """A bounded number of requests, the same in each run."""
    async with filled(sqlite, tmp_path) as receiver:
        options = ("--max-examples", "6", "--seed", SEED, "--phases", "examples,coverage,fuzzing")
        assert "generated" in await run(receiver, tmp_path, *options)


@pytest.mark.long
async def test_any_request_for_long(database: str, tmp_path: Path) -> None:
    """Many more, others in each run, on both databases."""
    async with filled(database, tmp_path) as receiver:
        await run(receiver, tmp_path, "--max-examples", "200")
