"""How many callbacks a second? Beside an empty route, and beside the receiver that one would write (bench/naive.py).

Every variant runs once in each round, and whatever is compared is compared within a round.
"""

import sys
from collections.abc import Callable

from pydantic import BaseModel

from bench.figures import Figure, figure
from bench.measure import NAIVE_PER_SECOND, RECEIVER, How, Load, Measured, Variant, measure, rotated
from bench.tables import Claim, table

TITLE = "Callbacks a second"

BUSY = (500, 503)
"""What the naive receiver may answer: SQLite lets its writers wait for each other in no order, and some give up."""

VARIANTS = (
    Variant("empty", "empty Starlette route, reads the body", ("bench.server", "empty"), callbacks="any"),
    Variant("empty-fastapi", "empty FastAPI route, reads the body", ("bench.server", "empty-fastapi"), callbacks="any"),
    Variant("verify", "signature and parsing, nothing stored", ("bench.server", "verify"), callbacks="any"),
    Variant("sqlite", "SQLite, durable", RECEIVER, "sqlite"),
    Variant("sqlite-repeats", "SQLite, durable, half of them repeats", RECEIVER, "sqlite", "half_repeated"),
    Variant("postgresql", "PostgreSQL, durable", RECEIVER, "postgresql"),
    Variant("postgresql-repeats", "PostgreSQL, durable, half of them repeats", RECEIVER, "postgresql", "half_repeated"),
    Variant(
        "naive-sqlite",
        "FastAPI and SQLModel, SQLite as it comes",
        ("bench.server", "naive"),
        "sqlite",
        table="naive_events",
        fails=BUSY,
    ),
    Variant(
        "naive-wal",
        "FastAPI and SQLModel, SQLite, WAL, synchronous=FULL",
        ("bench.server", "naive-wal"),
        "sqlite",
        table="naive_events",
        fails=BUSY,
    ),
    Variant(
        "naive-postgresql",
        "FastAPI and SQLModel, PostgreSQL",
        ("bench.server", "naive"),
        "postgresql",
        table="naive_events",
    ),
)
NAIVE_CONNECTIONS = 8
NAMED = {each.name: each for each in VARIANTS}
BESIDE = (("naive-sqlite", "sqlite", 25.0), ("naive-wal", "sqlite", 12.0), ("naive-postgresql", "postgresql", 12.0))
"""The naive receiver, ours, and how many times as many callbacks ours is meant to take."""
OF_EMPTY = {"sqlite": 0.6, "sqlite-repeats": 0.6, "postgresql": 0.45, "postgresql-repeats": 0.45}
"""The rate over that of an empty route which is meant to be reached."""


class Rates(BaseModel):
    """Every figure of every round, by variant."""

    rounds: list[dict[str, Measured]]


def run(how: How) -> Rates:
    """Measures the variants that were asked for, in rounds."""
    chosen = _chosen(how)
    measured = []
    for number in range(how.rounds):
        this = {}
        for variant in rotated(chosen, number):
            tried = [measure(variant, load, how) for load in _loads(variant, how)]
            this[variant.name] = max(tried, key=lambda each: each.outcome.per_second)
            said = f"{this[variant.name].outcome.per_second:,.0f}/s"
            print(f"round {number + 1}: {variant.title}: {said}", file=sys.stderr)
        measured.append({variant.name: this[variant.name] for variant in chosen})
    return Rates(rounds=measured)


def _chosen(how: How) -> list[Variant]:
    """The variants to measure; the empty route, to which all are compared, is always among them."""
    wanted = set(NAMED) if how.variants == "all" else {"empty", *how.variants.split(",")}
    return [each for each in VARIANTS if each.name in wanted and (each.store is None or each.store in how.databases)]


def _loads(variant: Variant, how: How) -> list[Load]:
    """What is tried, of which the best counts: the naive receiver may do better with fewer who wait for each other."""
    if not variant.name.startswith("naive"):
        return [how.full]
    load = how.full._replace(per_second=NAIVE_PER_SECOND)
    return [load, load._replace(connections=min(NAIVE_CONNECTIONS, how.connections))]


def markdown(rates: Rates) -> str:
    """The table of all variants, and that of ours beside the naive ones."""
    return "\n\n".join(part for part in (_all(rates), _beside(rates)) if part)


def _all(rates: Rates) -> str:
    head = [
        "what",
        "callbacks/s",
        "of an empty route",
        "the same by CPU",
        "server CPU, µs each",
        "p50, p99 ms",
        "memory, MB",
        "sender busy",
    ]
    return table(head, [_row(rates, name) for name in rates.rounds[0]])


def _row(rates: Rates, name: str) -> list[str]:
    def of(pick: Callable[[Measured], float]) -> Figure:
        return figure(pick(each[name]) for each in rates.rounds)

    pairs = [(each[name].outcome, each["empty"].outcome) for each in rates.rounds]
    failed = sum(each[name].outcome.refusals.count for each in rates.rounds)
    return [
        NAMED[name].title + (f" ({failed:,} answers 500)" if failed else ""),
        of(lambda each: each.outcome.per_second).shown(0),
        _of_empty(rates, name).shown(2),
        figure(empty.server_cpu_us / this.server_cpu_us for this, empty in pairs).shown(2),
        of(lambda each: each.outcome.server_cpu_us).shown(0),
        f"{of(lambda each: each.outcome.p50).middle:.1f}, {of(lambda each: each.outcome.p99).middle:.1f}",
        f"{of(lambda each: each.resident_mb).high:.0f}",
        f"{of(lambda each: each.outcome.sender_busy).middle:.0%}",
    ]


def _beside(rates: Rates) -> str:
    rows = [_beside_row(rates, naive, ours) for naive, ours, _ in _pairs(rates)]
    head = ["the receiver that one would write", "its callbacks/s", "ours", "times as many", "the same by CPU"]
    return table(head, rows) if rows else ""


def claims(rates: Rates) -> list[Claim]:
    """The rates, and how many times as many callbacks as the naive receiver."""
    there = rates.rounds[0]
    rate = [
        Claim(f"{NAMED[name].title}, one process on one core", _per_second(rates, name).middle, "/s", in_short=True)
        for name in ("sqlite", "postgresql")
        if name in there
    ]
    of_empty = [
        Claim(f"{NAMED[name].title}: of an empty route", _of_empty(rates, name).middle, at_least=target, in_short=True)
        for name, target in OF_EMPTY.items()
        if name in there
    ]
    times = [
        Claim(
            f"callbacks/s over {NAMED[naive].title}",
            _times(rates, naive, ours).middle,
            " times",
            at_least=target,
            in_short=True,
        )
        for naive, ours, target in _pairs(rates)
    ]
    return rate + of_empty + times


def _of_empty(rates: Rates, name: str) -> Figure:
    return figure(each[name].outcome.per_second / each["empty"].outcome.per_second for each in rates.rounds)


def _per_second(rates: Rates, name: str) -> Figure:
    return figure(each[name].outcome.per_second for each in rates.rounds)


def _pairs(rates: Rates) -> list[tuple[str, str, float]]:
    there = rates.rounds[0]
    return [each for each in BESIDE if each[0] in there and each[1] in there]


def _times(rates: Rates, naive: str, ours: str) -> Figure:
    return figure(each[ours].outcome.per_second / each[naive].outcome.per_second for each in rates.rounds)


def _beside_row(rates: Rates, naive: str, ours: str) -> list[str]:
    pairs = [(each[ours].outcome, each[naive].outcome) for each in rates.rounds]
    return [
        NAMED[naive].title,
        figure(its.per_second for _, its in pairs).shown(0),
        figure(our.per_second for our, _ in pairs).shown(0),
        _times(rates, naive, ours).shown(1),
        figure(its.server_cpu_us / our.server_cpu_us for our, its in pairs).shown(1),
    ]
