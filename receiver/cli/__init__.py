"""The command line. Each command is a module of its own, imported when it is called, so that `receiver --help` is quick."""

import gc
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Final

import click

from receiver import __version__

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "serve": ("receiver.cli.serving:serve", "Take callbacks, serve the API, run the pipeline."),
    "work": ("receiver.cli.serving:work", "Run the pipeline alone: fetch and forward."),
    "demo": ("receiver.cli.demo:demo", "Show the whole flow with an offline Runflow."),
    "check": ("receiver.cli.check:check", "Check the settings and reach every part."),
    "send": ("receiver.cli.send:send", "Sign and post a sample callback."),
    "verdicts": ("receiver.cli.verdicts:verdicts", "Show and export stored verdicts."),
    "deliveries": ("receiver.cli.deliveries:deliveries", "Show, retry and discard what is due to sinks."),
    "routes": ("receiver.cli.routes:routes", "Try rules on stored verdicts."),
    "quarantine": ("receiver.cli.quarantine:quarantine", "See to what was genuine and not understood."),
    "feedback": ("receiver.cli.feedback:feedback", "Tell Runflow what you think of an evaluation or a run."),
    "audit": ("receiver.cli.audit:audit", "Check that every event is accounted for."),
    "db": ("receiver.cli.db:db", "Migrate the database."),
}
"""Name, where it is, and what `--help` says of it."""


def _imported(module: str) -> ModuleType:
    """The module. Nothing that an import makes is garbage, and looking for some takes a fifth of the time."""
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        gc.enable()


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(_imported(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="receiver")
def receiver() -> None:
    """Takes Runflow's evaluation callbacks, keeps each one exactly once, and forwards one normalised verdict.

    Settings come from the environment and receiver.toml; see docs/settings.md.
    """


def main() -> None:
    """The entry of the command."""
    receiver()
