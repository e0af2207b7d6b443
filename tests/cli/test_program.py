"""The program itself: what it offers, what it imports for that, and how it ends when it is used wrongly."""

import json
import subprocess
import sys

import click
import pytest

from receiver import __version__
from receiver.cli import COMMANDS, receiver
from tests.cli.installation import Installation

HEAVY = (
    "asyncio", "sqlalchemy", "sqlmodel", "pydantic", "uvicorn", "uvloop", "starlette", "httpx", "alembic", "asyncpg",
    "redis", "slack_sdk", "rich", "structlog", "orjson", "cloudevents",
)  # fmt: skip
GROUPS = {
    "verdicts": ["export", "list", "show"],
    "deliveries": ["discard", "list", "retry"],
    "routes": ["try"],
    "quarantine": ["discard", "list", "retry", "show"],
    "db": ["current", "upgrade"],
}
PATHS = [(name,) for name in COMMANDS] + [(group, name) for group, names in GROUPS.items() for name in names]


def test_help_imports_nothing_heavy(here: Installation) -> None:
    """`receiver --help` must be quick, so that it imports neither the loop nor a database nor a server."""
    program = (
        "import json, sys; from receiver.cli import receiver; receiver(['--help'], standalone_mode=False);"
        "print(json.dumps(sorted(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], env=here.process_environ(), cwd=here.folder, capture_output=True, check=True
    )
    *told, modules = ended.stdout.decode().splitlines()
    assert told[0].startswith("Usage:")
    assert [module for module in json.loads(modules) if module in HEAVY] == []
    assert not any(
        module.startswith("receiver.") and not module.startswith("receiver.cli") for module in json.loads(modules)
    )


def test_the_module_is_the_program(here: Installation) -> None:
    """`python -m receiver` is the same as `receiver`."""
    with here.process("--version") as process:
        assert process.ended() == (0, f"receiver, version {__version__}\n", "")


def test_help_names_every_command(here: Installation) -> None:
    """Each command is in the list, with a line of its own that is no longer than that."""
    said = here.run("--help")
    assert said.status == 0
    listed = said.out.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert [line.strip().partition("  ")[2].strip() for line in listed] == [help_ for _, help_ in COMMANDS.values()]


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_each_command_has_help(here: Installation, path: tuple[str, ...], option: str) -> None:
    """Every command says what it does, whatever the settings are."""
    said = here.run(*path, option, RUNFLOW_WEBHOOK_SECRET="", DATABASE_URL="nonsense")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith(f"Usage: receiver {' '.join(path)} ")


def test_groups_hold_what_the_tests_know() -> None:
    """No command is left out of the tests that go through all of them."""
    context = click.Context(receiver)
    found = {}
    for name in receiver.list_commands(context):
        command = receiver.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found[name] = sorted(command.commands)
    assert found == GROUPS


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["verdicts", "nothing"],
        ["serve", "--nothing"],
        ["verdicts", "show"],
        ["send"],
        ["db", "current", "x"],
    ],
)
def test_wrong_use(here: Installation, arguments: list[str]) -> None:
    """Wrong use is told on standard error with exit status 2."""
    said = here.run(*arguments)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("Usage: ")


@pytest.mark.parametrize("path", [path for path in PATHS if path[0] not in GROUPS or len(path) == 2], ids=" ".join)
def test_bad_settings(here: Installation, path: tuple[str, ...]) -> None:
    """Bad settings must be told, a line each, with exit status 2, by every command that reads them, before it does anything."""
    more: dict[tuple[str, ...], list[str]] = {
        ("send",): ["--to", "http://127.0.0.1:9/"],
        ("verdicts", "show"): ["00000000-0000-0000-0000-000000000000"],
        ("deliveries", "retry"): ["1"],
        ("feedback",): ["run", "00000000-0000-0000-0000-000000000000", "--up"],
        ("deliveries", "discard"): ["1"],
        ("quarantine", "show"): ["abcd"],
        ("quarantine", "retry"): ["abcd"],
        ("quarantine", "discard"): ["abcd"],
    }
    if path == ("demo",):
        return  # it reads none
    here.configure("[fetch]\nhold = -1\n")
    said = here.run(*path, *more.get(path, []), RECEIVER_PORT="x", DATABASE_AUTO_UPGRADE="perhaps")
    assert (said.status, said.out) == (2, "")
    file = [] if path[0] == "routes" else ["receiver.toml"]  # of which rules alone are read there
    assert [line.partition(": ")[0] for line in said.err.splitlines()] == [
        "DATABASE_AUTO_UPGRADE",
        "RECEIVER_PORT",
        *file,
    ]
