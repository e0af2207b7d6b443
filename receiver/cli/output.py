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

IN_A_PIPE = 100_000
"""Columns. Nothing is filled up to them."""


def console() -> Console:
    """Standard output; wide where it is no terminal, so that a row is a line in a pipe."""
    return Console(width=None if sys.stdout.isatty() else IN_A_PIPE, highlight=False)


def progress_console() -> Console:
    """Standard error, where progress is shown if it is a terminal, so that what is printed stays what it is."""
    return Console(stderr=True)


def print_json(content: Any) -> None:
    """One JSON document, indented."""
    click.echo(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z, default=_plain).decode())


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    raise TypeError(type(value).__name__)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table. What stands in it is text, never markup: it may come from anyone."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
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
