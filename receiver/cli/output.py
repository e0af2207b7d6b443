"""How commands print: JSON for programs, tables and trees for people."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text


def console() -> Console:
    """Standard output; wide where it is no terminal, so that nothing is cut in a pipe."""
    return Console(width=None if sys.stdout.isatty() else 220, soft_wrap=not sys.stdout.isatty(), highlight=False)


def print_json(content: Any) -> None:
    """One JSON document, indented."""
    click.echo(orjson.dumps(content, option=orjson.OPT_INDENT_2, default=_plain).decode())


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    raise TypeError(type(value).__name__)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table. What stands in it is text, never markup: it may come from anyone."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(shown(value)) for value in row))
    console().print(table)


def shown(value: Any) -> str:
    """One value on one line, without control characters, which a terminal would obey."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S")
        case UUID():
            return str(value)
        case _:
            return "".join(c if c.isprintable() else " " for c in str(value))
