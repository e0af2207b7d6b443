"""Does it get slower as it fills? The rate over millions of callbacks that are stored already, beside that into nothing.

With ids of version 7, which grow with time as Runflow's do, and of version 4, which are random: the worst case for an index.
"""

import shutil
import sys

from pydantic import BaseModel

from bench.callbacks import IdKind
from bench.figures import Figure, figure
from bench.fill import fill
from bench.measure import TITLES, How, Load, check_answers, check_stored, fresh, press, rotated, served
from bench.sender import Outcome
from bench.stores import Kind, count, execute, file_of, query
from bench.tables import Claim, table

TITLE = "Growth"

ROUNDS = 3
IDS: tuple[IdKind, ...] = ("v7", "v4")
AT_LEAST: dict[IdKind, float] = {"v7": 0.95, "v4": 0.7}
BYTES_A_ROW = 2_500
"""With its verdict, its fetch, the indexes, and PostgreSQL's log: what must be free on the disk."""


class Growth(BaseModel):
    """One database with one kind of ids. Each round has the rate into a `full` database and into an `empty` one."""

    rows: int
    fill_seconds: float
    gigabytes: float
    rounds: list[dict[str, Outcome]]


class Growths(BaseModel):
    """By database and kind of ids."""

    stores: dict[Kind, dict[IdKind, Growth]]


def run(how: How) -> Growths:
    """Fills each database once for each kind of ids, and measures in rounds. Raises OSError where the disk is too small."""
    free = shutil.disk_usage("/tmp").free
    if free < how.rows * BYTES_A_ROW:
        raise OSError(
            f"{how.rows} rows want {how.rows * BYTES_A_ROW / 1e9:.0f} GB of disk, and {free / 1e9:.0f} are free"
        )
    return Growths(stores={kind: {ids: _growth(kind, ids, how) for ids in IDS} for kind in how.databases})


def _growth(kind: Kind, ids: IdKind, how: How) -> Growth:
    load = how.full._replace(ids=ids)
    with fresh(kind, how) as (_, url):
        seconds = fill(url, how.rows, ids)
        print(f"{TITLES[kind]}, ids {ids}: {how.rows:,} rows in {seconds:.0f} s", file=sys.stderr)
        gigabytes = _gigabytes(url)
        rounds = [
            {which: _measure(kind, url, which, load, how) for which in rotated(("full", "empty"), number)}
            for number in range(min(how.rounds, ROUNDS))
        ]
    return Growth(rows=how.rows, fill_seconds=seconds, gigabytes=gigabytes, rounds=rounds)


def _gigabytes(url: str) -> float:
    if url.startswith("sqlite:"):
        return file_of(url).stat().st_size / 1e9
    return float(query(url, "SELECT pg_database_size(current_database())")[0][0]) / 1e9


def _measure(kind: Kind, full_url: str, which: str, load: Load, how: How) -> Outcome:
    with fresh(kind, how) as (here, empty_url):
        url = full_url if which == "full" else empty_url
        before = count(url, "events") if which == "full" else 0
        with served(url, here) as server:
            outcome = press([server], load)
        check_answers(f"{kind}, {which}", outcome)
        check_stored(f"{kind}, {which}", [outcome], count(url, "events") - before)
    if which == "full":
        _clear(full_url)
    return outcome


def _clear(url: str) -> None:
    """Takes out what came and was not yet staged: of a backlog the stage takes its quarter, which is no matter of size."""
    tidy = ["PRAGMA wal_checkpoint(TRUNCATE)"] if url.startswith("sqlite:") else ["VACUUM events", "CHECKPOINT"]
    execute(url, "DELETE FROM events WHERE waiting", *tidy)


def markdown(growths: Growths) -> str:
    """Rates, and the ratio of the two."""
    head = ["database", "ids", "stored before", "GB", "into nothing, callbacks/s", "on top of them", "ratio", "by CPU"]
    rows = [_row(kind, ids, each) for kind, found in growths.stores.items() for ids, each in found.items()]
    return table(head, rows, texts=2)


def _row(kind: Kind, ids: IdKind, growth: Growth) -> list[str]:
    return [
        TITLES[kind],
        f"version {ids[1]}",
        f"{growth.rows:,}",
        f"{growth.gigabytes:.1f}",
        figure(each["empty"].per_second for each in growth.rounds).shown(0),
        figure(each["full"].per_second for each in growth.rounds).shown(0),
        _ratio(growth).shown(2),
        figure(each["empty"].server_cpu_us / each["full"].server_cpu_us for each in growth.rounds).shown(2),
    ]


def _ratio(growth: Growth) -> Figure:
    return figure(each["full"].per_second / each["empty"].per_second for each in growth.rounds)


def claims(growths: Growths) -> list[Claim]:
    """The rate on top of millions over that into nothing."""
    return [
        Claim(
            f"{TITLES[kind]}, {each.rows:,} rows before, ids of version {ids[1]}: rate over that into nothing",
            _ratio(each).middle,
            at_least=AT_LEAST[ids],
            in_short=ids == "v7",
        )
        for kind, found in growths.stores.items()
        for ids, each in found.items()
    ]
