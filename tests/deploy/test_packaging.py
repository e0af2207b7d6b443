"""The lists of packages are pinned and carry no addresses, and the Makefile keeps its promises to a new machine."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LISTS = ("tests/requirements.txt", "deploy/requirements.txt", "deploy/build-requirements.txt")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]


def _pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+) \\$", (ROOT / name).read_text(), re.MULTILINE))


def _named(requirement: str) -> str:
    return re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0].lower()


@pytest.mark.parametrize("name", LISTS)
def test_a_list_pins_and_hashes_and_says_nothing_else(name: str) -> None:
    """Each line must be an exact version, its hashes, or where it is needed: no address, no path of a machine."""
    lines = (ROOT / name).read_text().splitlines()
    assert lines
    form = re.compile(r"[a-z0-9.-]+==\S+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?|\s*#[^/@]*(\(pyproject\.toml\S*\))?|")
    assert [
        line for line in lines if not form.fullmatch(line.replace("tests/requirements.txt", "")) or "://" in line
    ] == []


@pytest.mark.parametrize("name", ["Makefile", "Dockerfile"])
def test_a_list_is_installed_as_it_is(name: str) -> None:
    """Nothing may be resolved: of what has an extra, pip 23 takes the newest release and not the pinned one, and refuses it."""
    text = (ROOT / name).read_text().replace("\\\n", "")
    installs = [step for line in text.splitlines() for step in line.split("&&") if "--require-hashes" in step]
    assert installs
    assert [step for step in installs if "--no-deps" not in step] == []
    assert re.search(r"pip.* check\b", text)  # that nothing is missing


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("tests/requirements.txt", [*PROJECT["project"]["dependencies"], *EXTRAS["all"], *EXTRAS["dev"]]),
        ("deploy/requirements.txt", [*PROJECT["project"]["dependencies"], *EXTRAS["all"]]),
        ("deploy/build-requirements.txt", PROJECT["build-system"]["requires"]),
    ],
)
def test_a_list_has_what_the_project_asks_for(name: str, needed: list[str]) -> None:
    """Whatever pyproject.toml names must be in the list: when one is added, `make lock` comes next."""
    assert {_named(requirement) for requirement in needed} - _pins(name).keys() == set()


@pytest.mark.parametrize("name", ["tests/requirements.txt", "deploy/requirements.txt"])
def test_a_list_is_good_for_the_oldest_python(name: str) -> None:
    """Before Python 3.11.3 redis needs one package more: a list without it was made by a later one."""
    assert "async-timeout" in _pins(name)


def test_what_is_tested_is_what_is_deployed() -> None:
    """A package that both lists have must be the same version in both."""
    tested = _pins("tests/requirements.txt")
    assert {name: tested.get(name) for name in _pins("deploy/requirements.txt")} == _pins("deploy/requirements.txt")


def test_all_is_every_kind_of_destination() -> None:
    """The extra `all` must list what the extras of the destinations list."""
    kinds = {one for name, extra in EXTRAS.items() if name not in ("all", "dev") for one in extra}
    assert set(EXTRAS["all"]) == kinds


def _make(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--directory", str(ROOT), "--no-print-directory", *arguments]
    return subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)


def test_make_alone_lists_every_target() -> None:
    """`make` must do nothing but say what it can do, each target with a line."""
    shown = re.findall(r"^  make (\S+) +\S", _make().stdout, re.MULTILINE)
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(shown) == set(phony.split()) - {"python"}


def test_an_old_python_gets_one_line(tmp_path: Path) -> None:
    """A Python that is too old must be told so, with the remedy, before anything is installed."""
    old = tmp_path / "python"
    trick = "import sys; sys.version_info = (3, 9, 2); exec(sys.argv[1])"
    old.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{trick}' \"$2\"\n")
    old.chmod(0o755)
    ended = _make("test", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
    assert ended.returncode == 2
    assert f"needs Python 3.11 or newer, and {old} is 3.9: name another, as in make PYTHON=python3.13" in ended.stderr
    assert not (tmp_path / "venv").exists()
