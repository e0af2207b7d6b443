"""`receiver verdicts export`: all verdicts that a filter lets through, into a file or a pipe."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from receiver.cli.common import NO_SUCCESS, WRONG_USE, fail, json_option, with_database
from receiver.cli.filters import filter_of, filter_options
from receiver.cli.output import print_json, progress_console
from receiver.cli.partial import CannotGoOn, Notes, Partial, Whole
from receiver.core.flat import csv_head, csv_lines, ndjson_lines
from receiver.core.matching import Filter
from receiver.errors import SettingsError, StoreUnavailable
from receiver.settings import Settings
from receiver.store import export as stored
from receiver.store.database import Database
from receiver.store.export import Chunk, Span
from receiver.store.reading import Position

NOTE_SECONDS = 1.0
"""How much work is lost at most when the process is killed."""


class Format(NamedTuple):
    """How verdicts are written. `whole`: what makes the file of them that is wanted, where that is another."""

    head: Callable[[], bytes]
    lines: Callable[[Sequence[str]], bytes]
    whole: Whole | None = None


class ExportNotes(Notes):
    """What is exported, and how far it is: `after` is the position up to which all is there."""

    format: str
    filter: dict[str, Any]
    until: Position | None
    after: Position | None = None
    verdicts: int = 0


@click.command("export")
@click.option(
    "--format", "format_", type=click.Choice(["ndjson", "csv", "parquet"]), default="ndjson", show_default=True
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="In place of standard output."
)
@click.option("--continue", "goes_on", is_flag=True, help="Go on where an export into this file was interrupted.")
@filter_options
@json_option
def export(format_: str, output: Path | None, goes_on: bool, as_json: bool, **words: tuple[str, ...]) -> None:
    """All verdicts that the filters match, the oldest arrival first. `null` stands for no value.

    FILE is there when it is whole; until then there is FILE.partial, with which --continue goes on.
    """
    if output is None:
        _need_output(format_, goes_on=goes_on, as_json=as_json)

    async def work(database: Database, _settings: Settings) -> None:
        format_of = _format(format_)
        filter_ = filter_of(words)
        span = await database.read(stored.span)
        if output is None:
            await _to_standard_output(database, format_of, filter_, span)
            return
        notes = ExportNotes(
            format=format_, filter=filter_.model_dump(mode="json", exclude_none=True), until=span and span.last
        )
        with _told(output), Partial.opened(output, ExportNotes, goes_on=goes_on) as partial:
            await _Export(database, format_of, filter_, partial, span).run(notes, as_json=as_json)

    with_database(work)


def _need_output(format_: str, *, goes_on: bool, as_json: bool) -> None:
    for option, is_given in (("--format parquet", format_ == "parquet"), ("--continue", goes_on), ("--json", as_json)):
        if is_given:
            fail(f"{option} needs --output FILE", WRONG_USE)


def _format(name: str) -> Format:
    if name == "csv":
        return Format(csv_head, csv_lines)
    if name == "ndjson":
        return Format(bytes, ndjson_lines)
    try:
        from receiver.cli import parquet
    except ImportError:
        raise SettingsError('--format parquet needs pyarrow: pip install "runflow-receiver[parquet]"') from None
    batches = parquet.Batches(lambda message: click.echo(message, err=True))
    return Format(batches.head, batches.lines, parquet.to_parquet)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the disk says, as a line and a status."""
    try:
        yield
    except CannotGoOn as error:
        fail(f"--output: {error}", WRONG_USE)
    except OSError as error:
        fail(f"cannot write {error.filename or path}: {error.strerror}", NO_SUCCESS)


async def _to_standard_output(database: Database, format_: Format, filter_: Filter, span: Span | None) -> None:
    out, verdicts = sys.stdout.buffer, 0
    out.write(format_.head())
    if span is not None:
        with progress(span, 0, hidden=sys.stdout.isatty()) as shown:
            async with aclosing(stored.chunks(database, filter_, until=span.last)) as chunks:
                async for chunk in chunks:
                    out.write(format_.lines(chunk.documents))
                    verdicts += len(chunk.documents)
                    shown(chunk.end, verdicts)
    out.flush()


class _Export:
    """One export into a file."""

    def __init__(
        self, database: Database, format_: Format, filter_: Filter, partial: Partial[ExportNotes], span: Span | None
    ) -> None:
        self._database = database
        self._format = format_
        self._filter = filter_
        self._partial = partial
        self._span = span

    async def run(self, begun: ExportNotes, *, as_json: bool) -> None:
        began = time.monotonic()
        found = self._partial.notes
        self._notes = begun if found is None else _same(found, begun)
        if found is None:
            self._partial.write(self._format.head())
            self._partial.note(self._notes)
        before = self._notes.verdicts
        await self._write_all()
        size = self._partial.finish(self._format.whole)
        content = {
            "file": str(self._partial.path),
            "format": begun.format,
            "verdicts": self._notes.verdicts,
            "there_before": before,
            "bytes": size,
            "seconds": round(time.monotonic() - began, 3),
        }
        if as_json:
            print_json(content)
        else:
            more = f", {before} of them from before" if before else ""
            click.echo(f"{self._notes.verdicts} verdicts{more}, {size} bytes: {self._partial.path}")

    async def _write_all(self) -> None:
        """What interrupts it leaves notes of all that was written, and is told."""
        try:
            with _ended_in_order():
                await self._write()
        except asyncio.CancelledError:
            fail(self._kept("interrupted"), NO_SUCCESS)
        except StoreUnavailable as error:
            fail(self._kept(str(error)), NO_SUCCESS)

    def _kept(self, why: str) -> str:
        return f"{why}; what is there is in {self._partial.place}: the same command with --continue goes on"

    async def _write(self) -> None:
        if self._notes.until is None or self._span is None:
            return
        chunks = stored.chunks(self._database, self._filter, until=self._notes.until, after=self._notes.after)
        noted_at = time.monotonic()
        with progress(self._span, self._notes.verdicts) as shown:
            async with aclosing(chunks):
                try:
                    async for chunk in chunks:
                        await self._add(chunk)
                        shown(chunk.end, self._notes.verdicts)
                        if time.monotonic() - noted_at >= NOTE_SECONDS:
                            self._partial.note(self._notes)
                            noted_at = time.monotonic()
                finally:
                    self._partial.note(self._notes)

    async def _add(self, chunk: Chunk) -> None:
        if chunk.documents:
            lines = await asyncio.to_thread(self._format.lines, chunk.documents)
            self._partial.write(lines)
        verdicts = self._notes.verdicts + len(chunk.documents)
        self._notes = self._notes.model_copy(update={"after": chunk.end, "verdicts": verdicts})


def _same(found: ExportNotes, asked: ExportNotes) -> ExportNotes:
    """What was begun, if it is what is asked for now. Raises `CannotGoOn`."""
    for name in ("format", "filter"):
        if getattr(found, name) != getattr(asked, name):
            raise CannotGoOn(f"it was begun with {name} {getattr(found, name)!r}; --continue needs the same")
    return found


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM does what SIGINT does: it cancels."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


@contextmanager
def progress(span: Span, verdicts: int, *, hidden: bool = False) -> Iterator[Callable[[Position, int], None]]:
    """Shows on a terminal how much of the time between the first and the last arrival is done, and how many verdicts."""
    whole = (span.last.at - span.first.at).total_seconds() or 1.0
    columns = (
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    console = progress_console()
    with Progress(*columns, console=console, disable=hidden or not console.is_terminal, transient=True) as bar:
        task = bar.add_task(f"{verdicts:,} verdicts", total=whole)

        def show(position: Position, verdicts: int) -> None:
            done = (position.at - span.first.at).total_seconds()
            bar.update(task, completed=done, description=f"{verdicts:,} verdicts")

        yield show
