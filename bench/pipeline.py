"""From the stored callback to the destination, beside bare loops that do the same requests and nothing else.

    python -m bench.pipeline            all of it; --help has the rest

Callbacks are stored beforehand; then `receiver work` starts, and what is measured is from its first fetch to its last delivery.
Two loops (`bench/bare.py`) are measured in the same way, in the same round: one by the client that the pipeline has, and one by
httpx as it comes, which is the one that somebody would write.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click
from pydantic import BaseModel
from sqlalchemy import Connection, func, select

from bench import stores, tables
from bench.bare import BareJob, ClientKind
from bench.callbacks import BODY, SECRET, uuid7
from bench.callbacks import ID as BODY_ID
from bench.figures import Figure, figure
from bench.measure import TITLES
from bench.processes import cores, ended, environment
from bench.standins import POST_PATH, StandIns, Watch, Watched, standing_in
from bench.tables import Claim
from receiver.store import schema
from receiver.store.database import open_database
from receiver.store.intake import EventArrival
from receiver.store.tables import deliveries

POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"
LONGEST_RUN = 120.0
STORED_AT_ONCE = 500

Store = Literal["sqlite", "postgresql"]
STORES: tuple[Store, ...] = ("sqlite", "postgresql")

_SINK = """
[fetch]
concurrency = {concurrency}

[[sinks]]
name = "destination"
type = "http"
url = "{url}"
secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
concurrency = {concurrency}
"""


class Drained(BaseModel):
    """One run: evaluations a second, CPU of the process for each in microseconds, and how busy the other side was (0 to 1)."""

    per_second: float
    cpu_us: float
    busy: float
    other_side_busy: float


class Round(BaseModel):
    """The pipeline, the bare loop, and the loop of plain httpx."""

    pipeline: Drained
    bare: Drained
    plain: Drained

    @property
    def of_bare(self) -> float:
        """The pipeline's rate over the bare loop's."""
        return self.pipeline.per_second / self.bare.per_second

    @property
    def of_plain(self) -> float:
        """The pipeline's rate over that of the loop that uses httpx as it comes."""
        return self.pipeline.per_second / self.plain.per_second

    @property
    def of_bare_by_cpu(self) -> float:
        """The bare loop's CPU time over the pipeline's: the ratio without what other processes took."""
        return self.bare.cpu_us / self.pipeline.cpu_us


class PipelineFigures(BaseModel):
    """All rounds of one store at one latency of Runflow's (in milliseconds)."""

    store: Store
    latency_ms: float
    concurrency: int
    evaluations: int
    rounds: list[Round]

    def ratio(self, name: Literal["of_bare", "of_bare_by_cpu", "of_plain"]) -> Figure:
        """Taken within each round."""
        return figure(getattr(each, name) for each in self.rounds)


def measure(
    store: Store,
    *,
    latency_ms: float,
    evaluations: int,
    concurrency: int = 10,
    rounds: int = 3,
    postgres_url: str = POSTGRES,
) -> PipelineFigures:
    """In rounds, of which every other one goes backwards. Raises ValueError if a verdict went astray."""
    core, other = cores()
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {other})  # the thread of the stand-ins inherits this
    try:
        with standing_in() as sides:
            sides.latency = latency_ms / 1000
            run: dict[str, Callable[[], Drained]] = {
                "bare": lambda: _bare(sides, core, evaluations, concurrency, "ours"),
                "pipeline": lambda: _pipeline(sides, core, evaluations, concurrency, store, postgres_url),
                "plain": lambda: _bare(sides, core, evaluations, concurrency, "httpx"),
            }
            found = [
                Round(**{name: run[name]() for name in (run if number % 2 else reversed(run))})
                for number in range(rounds)
            ]
    finally:
        os.sched_setaffinity(0, usable)
    return PipelineFigures(
        store=store, latency_ms=latency_ms, concurrency=concurrency, evaluations=evaluations, rounds=found
    )


def _bare(sides: StandIns, core: int, count: int, concurrency: int, client: ClientKind) -> Drained:
    job = BareJob(url=sides.url, count=count, concurrency=concurrency, client=client).model_dump_json()
    with tempfile.TemporaryFile() as given:
        given.write(job.encode())
        given.seek(0)
        process = subprocess.Popen([sys.executable, "-m", "bench.bare"], env=environment({}), stdin=given)
        os.sched_setaffinity(process.pid, {core})
        with ended(process):
            return _watch(sides, process.pid, count)


def _pipeline(sides: StandIns, core: int, count: int, concurrency: int, store: Store, postgres_url: str) -> Drained:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="receiver-bench-")))
        url = stack.enter_context(stores.database(store, folder, postgres_url))
        asyncio.run(_preload(url, count))
        config = folder / "receiver.toml"
        config.write_text(_SINK.format(url=sides.url + POST_PATH, concurrency=concurrency))
        settings = {
            "DATABASE_URL": url,
            "RUNFLOW_API_URL": sides.url,
            "RUNFLOW_API_KEY": "rf_live_measured",
            "RUNFLOW_WEBHOOK_SECRET": SECRET,
            "RECEIVER_CONFIG": str(config),
        }
        log = stack.enter_context((folder / "work.log").open("wb"))
        command = [sys.executable, "-m", "receiver", "work"]
        process = subprocess.Popen(command, env=environment(settings), cwd=folder, stdout=log, stderr=log)
        os.sched_setaffinity(process.pid, {core})
        with ended(process):
            drained = _watch(sides, process.pid, count)
        _check_delivered(url, count)
    return drained


def _watch(sides: StandIns, pid: int, count: int) -> Drained:
    sides.watch = watch = Watch(pid, count)
    if not watch.done.wait(LONGEST_RUN) or watch.watched is None:
        raise ValueError(f"not all of {count} evaluations were delivered within {LONGEST_RUN:g} s")
    sides.watch = None
    return _drained(watch.watched)


def _drained(watched: Watched) -> Drained:
    if not watched.different == watched.deliveries == watched.fetches:
        raise ValueError(f"something was fetched or delivered twice: {watched}")
    return Drained(
        per_second=watched.deliveries / watched.seconds,
        cpu_us=watched.cpu / watched.deliveries * 1e6,
        busy=watched.cpu / watched.seconds,
        other_side_busy=watched.own_cpu / watched.seconds,
    )


async def _preload(url: str, count: int) -> None:
    database = open_database(url)
    try:
        await schema.upgrade(database)
        for start in range(0, count, STORED_AT_ONCE):
            await database.accept([_arrival() for _ in range(min(STORED_AT_ONCE, count - start))])
    finally:
        await database.close()


def _arrival() -> EventArrival:
    key = uuid7()
    body = BODY.replace(BODY_ID.encode(), str(key).encode())
    return EventArrival(key, "evaluation.completed", body, "callback", None, None, datetime.now(UTC))


def _check_delivered(url: str, count: int) -> None:
    states = asyncio.run(_states(url))
    if states != {"delivered": count}:
        raise ValueError(f"{count} callbacks, and deliveries {states}")


async def _states(url: str) -> dict[str, int]:
    database = open_database(url)
    try:
        return await database.read(_count_states)
    finally:
        await database.close()


def _count_states(conn: Connection) -> dict[str, int]:
    query = select(deliveries.c.state, func.count().label("number")).group_by(deliveries.c.state)
    return {row.state: row.number for row in conn.execute(query)}


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--evaluations", type=click.IntRange(1), default=2000, show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 20), default=10, show_default=True)
@click.option("--latency-ms", type=float, multiple=True, default=(0.0, 50.0), show_default=True)
@click.option("--store", "wanted", type=click.Choice(STORES), multiple=True, default=STORES, show_default=True)
@click.option("--postgres-url", default=os.environ.get("TEST_POSTGRES_URL", POSTGRES), show_default=True)
def main(
    rounds: int,
    evaluations: int,
    concurrency: int,
    latency_ms: Sequence[float],
    wanted: Sequence[Store],
    postgres_url: str,
) -> None:
    """Measure, and print a table."""
    figures = [
        measure(
            store,
            latency_ms=each,
            evaluations=evaluations,
            concurrency=concurrency,
            rounds=rounds,
            postgres_url=postgres_url,
        )
        for store in wanted
        for each in latency_ms
    ]
    click.echo(table(figures))


def table(figures: Sequence[PipelineFigures]) -> str:
    """The figures as Markdown: medians, with the lowest and the highest of the ratios."""
    head = [
        "store, latency", "a second", "bare loop", "of the bare loop", "by CPU", "loop of plain httpx", "of that", "CPU, µs",
        "bare loop's", "other side busy",
    ]  # fmt: skip
    return tables.table(head, [_cells(each) for each in figures])


def _cells(of: PipelineFigures) -> list[str]:
    def middle(side: Literal["pipeline", "bare", "plain"], name: str) -> float:
        return figure(getattr(getattr(each, side), name) for each in of.rounds).middle

    return [
        f"{of.store}, {of.latency_ms:g} ms",
        f"{middle('pipeline', 'per_second'):,.0f}",
        f"{middle('bare', 'per_second'):,.0f}",
        of.ratio("of_bare").shown(2),
        of.ratio("of_bare_by_cpu").shown(2),
        f"{middle('plain', 'per_second'):,.0f}",
        of.ratio("of_plain").shown(2),
        f"{middle('pipeline', 'cpu_us'):,.0f}",
        f"{middle('bare', 'cpu_us'):,.0f}",
        f"{max(middle('pipeline', 'other_side_busy'), middle('bare', 'other_side_busy')):.0%}",
    ]


def claims(figures: Sequence[PipelineFigures]) -> list[Claim]:
    """What was promised beside the bare loop, and how it is beside the loop that one would write."""
    found = []
    for each in figures:
        title = f"{TITLES[each.store]}, Runflow answers after {each.latency_ms:g} ms: the pipeline's rate over that of"
        found += [
            Claim(f"{title} a bare loop", each.ratio("of_bare").middle, at_least=0.7, in_short=True),
            Claim(f"{title} a loop of plain httpx", each.ratio("of_plain").middle),
        ]
    return found


if __name__ == "__main__":
    main()
