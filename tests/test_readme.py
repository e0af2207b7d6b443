"""README.md says what is so: its commands work, its configuration loads, its links lead somewhere."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import click
import orjson
import pytest

from receiver.cli import receiver
from receiver.settings import load_settings
from tests.sinks.servers import free_port

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LONG = 120  # seconds
IN_CI = os.environ.get("CI") == "true"  # read before the tests take the caller's settings away

_BLOCK = re.compile(r"(?P<run><!-- run -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A piece of code, under which heading it stands, and whether it is run here."""

    section: str
    kind: str
    text: str
    is_run: bool


def _blocks() -> Iterator[Block]:
    for part in re.split(r"^## ", README, flags=re.MULTILINE):
        for found in _BLOCK.finditer(part):
            yield Block(part.partition("\n")[0], found["kind"], found["text"], found["run"] is not None)


BLOCKS = list(_blocks())
RUN = list(dict.fromkeys(block.section for block in BLOCKS if block.is_run))


def test_there_is_something_to_run() -> None:
    """The blocks that are marked as run are shell's, and there are some."""
    assert RUN
    assert {block.kind for block in BLOCKS if block.is_run} <= {"sh", "console"}


def _script(section: str, port: int) -> str:
    """The section's blocks in order. What a person would do between two lines is put in: wait until a server answers."""
    lines = [f"export RECEIVER_PORT={port}", "trap 'kill $(jobs -p) && wait' EXIT"]
    ready = f"until curl -fso /dev/null http://127.0.0.1:{port}/readyz; do sleep 0.1; done"
    for block in BLOCKS:
        if block.section == section and block.is_run:
            for line in block.text.replace("127.0.0.1:8000", f"127.0.0.1:{port}").splitlines():
                lines += [line.removeprefix("$ "), *([ready] if line.rstrip().endswith("&") else [])]
    return "\n".join([*lines, "until [ -s verdicts.ndjson ]; do sleep 0.1; done", ""])


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with nothing in it but the programs, `receiver` among them."""
    if shutil.which("curl") is None:
        message = "no curl: apt-get install curl"
        if IN_CI:
            pytest.fail(message)
        pytest.skip(message)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "receiver").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m receiver "$@"\n')
    (programs / "receiver").chmod(0o755)
    return {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def test_the_commands(tmp_path: Path, environ: dict[str, str]) -> None:
    """The commands of the first steps must work as they stand, one after the other, with another port than 8000."""
    [section] = RUN
    folder = tmp_path / "somewhere"
    folder.mkdir()
    out, err = (tmp_path / "out").open("w+"), (tmp_path / "err").open("w+")
    with out, err:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", _script(section, free_port())],
            cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(LONG)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    said = (tmp_path / "out").read_text()
    assert status == 0, said + (tmp_path / "err").read_text()
    assert re.search(r'^202 \{"result":"accepted","evaluation_id":"00000000-', said, re.MULTILINE)
    assert re.search(r"1 events of 1 evaluations = ", said, re.MULTILINE)
    [line] = (folder / "verdicts.ndjson").read_bytes().splitlines()
    assert orjson.loads(line)["data"]["origin"] == "sample"


def _commands(text: str) -> Iterator[list[str]]:
    """Each use of `receiver` in code: its words up to the end of the command."""
    code = [span for span in _CODE.findall(_BLOCK.sub("", text)) if span.startswith("receiver ")]
    shell = [line for block in BLOCKS if block.kind in ("sh", "console") for line in block.text.splitlines()]
    for line in [*code, *(line.removeprefix("$ ") for line in shell)]:
        if line.startswith("receiver "):
            yield re.split(r"\s[&|#]|$", line, maxsplit=1)[0].split()[1:]


@pytest.mark.parametrize("words", list(_commands(README)), ids=" ".join)
def test_commands_and_options_exist(words: list[str]) -> None:
    """Every command that is written down, and each of its options, is there."""
    command: click.Command = receiver
    context = click.Context(command)
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest.pop(0))
        assert found is not None, words
        command = found
    options = {name for parameter in command.params for name in parameter.opts} | {"--help", "-h"}
    assert {word.partition("=")[0] for word in rest if word.startswith("-")} <= options


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z-]+)`|^make ([a-z-]+)", README, re.MULTILINE))))
def test_make_targets_exist(target: tuple[str, str]) -> None:
    """Every `make` that is written down has its target."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python3? -m ([a-z_.]+)", README)) - {"venv"}))
def test_modules_exist(module: str) -> None:
    """Every `python -m` that is written down can be run."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.submodule_search_locations is None or find_spec(f"{module}.__main__") is not None


def test_configuration_loads(tmp_path: Path) -> None:
    """The `receiver.toml` of the page is one that the program takes."""
    [toml] = [block.text for block in BLOCKS if block.kind == "toml"]
    (tmp_path / "receiver.toml").write_text(toml)
    environ = {
        "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/x",
        "RABBITMQ_PASSWORD": "secret",
        "APPRISE_URL": "json://127.0.0.1",
        "SHOP_WEBHOOK_SECRET": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    }
    assert set(re.findall(r"\$\{(\w+)\}", toml)) == set(environ)
    settings = load_settings(environ, directory=tmp_path)
    assert len(settings.sinks) == toml.count("[[sinks]]") + 1  # SLACK_WEBHOOK_URL stands for one itself
    assert settings.warnings == ()


def _anchors(page: Path) -> set[str]:
    """What a link may name after `#`, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of this repository finds it, and the heading that it names."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize(
    "path",
    sorted(
        set(re.findall(r"^(receiver/[a-z]+) ", README, re.MULTILINE)) | set(re.findall(r" (receiver/[a-z]+) ", README))
    ),
)
def test_folders_exist(path: str) -> None:
    """Every room of the package that is written down is there."""
    assert (ROOT / path).is_dir()
