"""docs/api.md says what is so: its examples run against a receiver, and its tables are those of the code."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from receiver.web.answers import STATUS
from tests.store.places import copied
from tests.web.logged import captured
from tests.web.receivers import READER, SECRETS, Receiver, serving, settings_for
from tests.web.seeds import key, store, verdict

PAGE = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|python|ts)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
MANY = 620
"""More than a page of 500."""


@pytest.fixture
async def running(migrated_file: Path, tmp_path: Path) -> AsyncIterator[Receiver]:
    """A receiver with verdicts of which every second passed."""
    with captured(SECRETS):
        async with serving(settings_for(f"sqlite:///{copied(migrated_file, tmp_path)}", tmp_path)) as receiver:
            numbers = range(1, MANY * 2 + 1)
            await store(receiver, *(verdict(n, overall_passed=n % 2 == 0, task_type="headshot") for n in numbers))
            yield receiver


async def said(receiver: Receiver, folder: Path, *command: str) -> list[str]:
    """What the command prints. Fails unless it succeeds."""
    environ = {"PATH": os.environ["PATH"], "RECEIVER": f"http://127.0.0.1:{receiver.port}", "TOKEN": READER}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode().splitlines()


def example(kind: str) -> str:
    """The one block of this kind."""
    [text] = [str(text) for each, text in BLOCKS if each == kind]
    return text


EXPECTED = [f"{key(number)} None" for number in range(MANY * 2 - 1, 0, -2)]


async def test_curl(running: Receiver, tmp_path: Path) -> None:
    """The shell's examples, one after the other."""
    blocks = [text for kind, text in BLOCKS if kind == "sh"]
    assert blocks[0].startswith("export RECEIVER=")
    lines = await said(running, tmp_path, "sh", "-eu", "-c", "echo; ".join(blocks[1:]))
    assert lines[0].startswith(f'{{"items":[{{"schema_version":1,"evaluation_id":"{key(MANY * 2 - 1)}"')
    assert "304" in lines


async def test_python(running: Receiver, tmp_path: Path) -> None:
    """The loop over all pages, in Python."""
    assert await said(running, tmp_path, sys.executable, "-c", example("python")) == EXPECTED


async def test_typescript(running: Receiver, tmp_path: Path) -> None:
    """The same in TypeScript. Node takes that as it is from 22.18 on; so that any will do, its types are taken out here."""
    if shutil.which("node") is None:
        pytest.skip("no node: apt-get install nodejs")
    (tmp_path / "example.mjs").write_text(without_types(example("ts")))
    lines = await said(running, tmp_path, "node", "example.mjs")
    assert lines == [line.replace("None", "null") for line in EXPECTED]


def without_types(text: str) -> str:
    """What is left for a JavaScript engine: no declarations of types, no annotations, no assertions."""
    text = re.sub(r"^type .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\): AsyncGenerator<\w+>", ")", text)
    text = re.sub(r"\b(filters|cursor): [\w<>, |]+?(?=\)| =)", r"\1", text)
    return text.replace(" as Page", "")


def test_errors() -> None:
    """The table of errors has each status of the code, and the defect."""
    rows = re.findall(r"^\| (\d{3}) \| `([A-Z_]+)` \|", PAGE, re.MULTILINE)
    codes = {(status, getattr(error, "code", "UNAVAILABLE")) for error, status in STATUS.items()}
    assert {(int(status), code) for status, code in rows} == codes | {(500, "INTERNAL_ERROR")}
