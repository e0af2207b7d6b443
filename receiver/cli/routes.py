"""`receiver routes`: which rules send which verdicts where."""

import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from receiver.cli.common import json_option, read_environment, with_database
from receiver.cli.moments import MOMENT
from receiver.cli.output import print_json, print_table, shown
from receiver.core.matching import Filter
from receiver.core.trial import Example, Tally, Trial
from receiver.core.verdict import Verdict
from receiver.errors import SettingsError
from receiver.settings import Settings
from receiver.settings.rules import Rules, load_rules
from receiver.store import reading
from receiver.store.database import Database
from receiver.store.reading import Arrived

CHUNK = 500
"""Verdicts that are read at once: some megabytes."""


@click.group()
def routes() -> None:
    """Try the rules that say which verdicts go where."""


@routes.command("try")
@click.option("--config", metavar="FILE", help="Rules to try in place of the present ones, and to compare with them.")
@click.option("--since", type=MOMENT, help="Verdicts that arrived from then on: a time, a day, or 12h, 7d ago.")
@click.option("--until", type=MOMENT, help="Verdicts that arrived before.")
@click.option("--examples", type=click.IntRange(0, 100), default=3, show_default=True, help="At most so many of each.")
@json_option
def try_(config: str | None, since: datetime | None, until: datetime | None, examples: int, as_json: bool) -> None:
    """Run the rules over stored verdicts: how many would have gone where, and why. Nothing is sent.

    Each verdict counts as its newest revision, as if it came now. Only the rules of a file are needed: a secret that
    the environment lacks hinders nothing.
    """

    async def work(database: Database, _settings: Settings) -> Trial:
        tried, present = _rules(config)
        trial = Trial(tried.routes, present and present.routes, most=examples)
        arrived = Arrived(since, until)
        async for verdict in _verdicts(database, arrived):
            trial.look_at(verdict)
        return trial

    trial = with_database(work, read_environment)
    if as_json:
        print_json(_as_json(trial, since, until))
    else:
        _print(trial)


def _rules(config: str | None) -> tuple[Rules, Rules | None]:
    """The rules to try, and the present ones if there are others to be tried and they can be read."""
    directory = Path.cwd()
    tried, present = load_rules(os.environ, directory=directory, config=config), None
    remarks = list(tried.remarks)
    if config is not None:
        try:
            present = load_rules(os.environ, directory=directory)
        except SettingsError as error:
            remarks += [*str(error).splitlines(), "the present rules cannot be read, so nothing is compared with them"]
        else:
            remarks += present.remarks
    for remark in dict.fromkeys(remarks):
        click.echo(remark, err=True)
    return tried, present


async def _verdicts(database: Database, arrived: Arrived) -> AsyncIterator[Verdict]:
    """All of them, the newest first, so many at a time. Tells how far it is on a terminal."""
    after, total = None, 0
    if sys.stderr.isatty():
        total = await database.read(reading.count, arrived)
    with click.progressbar(length=total, label="verdicts", file=sys.stderr, hidden=not total) as progress:
        while True:
            page = await database.read(reading.page, Filter(), limit=CHUNK, after=after, arrived=arrived)
            for verdict in page.items:
                yield verdict
            progress.update(len(page.items))
            after = page.end
            if after is None:
                return


def _as_json(trial: Trial, since: datetime | None, until: datetime | None) -> dict[str, Any]:
    return {
        "since": since,
        "until": until,
        "verdicts": trial.verdicts,
        "pending": trial.pending,
        "samples": trial.samples,
        "compared": trial.compares,
        "sinks": [
            {"sink": each.sink, "due": _tally(each.due)}
            | ({"gained": _tally(each.gained), "lost": _tally(each.lost)} if trial.compares else {})
            for each in trial.sinks.values()
        ],
        "nowhere": _tally(trial.nowhere) | ({"at_present": trial.nowhere_at_present} if trial.compares else {}),
        "to_several": _tally(trial.to_several),
    }


def _tally(tally: Tally) -> dict[str, Any]:
    return {"count": tally.count, "examples": [example._asdict() for example in tally.examples]}


def _print(trial: Trial) -> None:
    click.echo(_head(trial))
    click.echo()
    columns = 4 if trial.compares else 2
    rows = [(each.sink, each.due.count, each.gained.count, each.lost.count) for each in trial.sinks.values()]
    if rows:
        print_table(("sink", "would go", "gained", "lost")[:columns], [row[:columns] for row in rows])
    at_present = f" (by the present rules {trial.nowhere_at_present})" if trial.compares else ""
    click.echo(f"{trial.nowhere.count} nowhere{at_present}, {trial.to_several.count} to several sinks")
    for title, examples in _examples(trial):
        click.echo(f"\n{title}")
        print_table(Example._fields, examples)


def _head(trial: Trial) -> str:
    apart = [f"{trial.pending} more wait for their fetch"] if trial.pending else []
    apart += [f"{trial.samples} of them are samples"] if trial.samples else []
    return f"{trial.verdicts} verdicts" + (f" ({', '.join(apart)})" if apart else "")


def _examples(trial: Trial) -> Iterator[tuple[str, Sequence[Example]]]:
    tallies: list[tuple[str, Tally]] = [(f"to {each.sink}", each.due) for each in trial.sinks.values()]
    tallies += [(f"gained by {each.sink}", each.gained) for each in trial.sinks.values()]
    tallies += [(f"lost by {each.sink}", each.lost) for each in trial.sinks.values()]
    tallies += [("nowhere", trial.nowhere), ("to several", trial.to_several)]
    yield from ((f"{shown(title)}:", tally.examples) for title, tally in tallies if tally.examples)
