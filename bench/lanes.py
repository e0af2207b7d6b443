"""The outbox and the fetch lane by themselves: what a delivery costs, a dead sink beside a live one, two workers beside one.

    python -m bench.lanes            all of it; --help has the rest

The lanes are the real ones, over a real database, in this process. They send to a sink that costs nothing, or by the `http`
sink to a server that only answers. For two workers `receiver work` is started twice.
"""

import asyncio
import gc
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, TypeVar
from uuid import UUID

import click
import uvloop
from pydantic import BaseModel, SecretStr
from sqlalchemy import Connection, func, select

from bench import stores
from bench.backlog import ask_for, make_due, store_verdicts
from bench.callbacks import PATH
from bench.figures import Figure, figure
from bench.measure import TITLES
from bench.processes import START_SECONDS, STOP_SECONDS, cores, cpu_seconds, ended, environment, serving
from bench.tables import Claim
from receiver import logs
from receiver.core.envelope import Message
from receiver.pipeline.deliver import SinkLane, SinkPlan
from receiver.pipeline.station import FETCHES, Bells, Station
from receiver.sinks.base import Done, Outcome, Sink
from receiver.sinks.http import HttpOptions
from receiver.store import schema
from receiver.store.database import Database, open_database
from receiver.store.tables import fetches

POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"
Store = Literal["sqlite", "postgresql"]
STORES: tuple[Store, ...] = ("sqlite", "postgresql")
PARTS = ("drain", "beside", "workers")
Live = Literal["free", "http"]
Dead = Literal["refuses", "silent"]
T = TypeVar("T")

MOST_VERDICTS = 20_000
"""Of as many each has one message; where more are sent, the others are replays of these."""
BATCH = 500
"""What one send of the free sink takes, as the `file` sink does."""
CONCURRENCY = 8
"""Sends at once, as sinks have it where settings say nothing."""
SILENT_TIMEOUT = 1.0
"""Seconds that a sink which never answers is waited for."""
LATENCY = 0.2
"""Seconds until Runflow answers a fetch."""
FETCHES_AT_ONCE = 20
LONGEST = 120.0
_LOOK_EVERY = 0.02
_SECRET = SecretStr("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
_names = count()


class Drained(BaseModel):
    """Messages that waited, until all of them were sent and settled: how many a second, and our CPU time for each."""

    per_second: float
    cpu_us: float


class Drain(BaseModel):
    """A sink that costs nothing. `read`: it has the whole message made, as one that sends it would."""

    store: Store
    messages: int
    read: bool
    per_second: Figure
    cpu_us: Figure


class Beside(BaseModel):
    """A live sink alone, and beside one that is dead, on the same messages. `kept`: the second rate over the first.

    `kept_cpu`: the same by our CPU time for each message of the live sink, which does not count what others took.
    """

    store: Store
    live: Live
    dead: Dead
    messages: int
    alone: Figure
    beside: Figure
    kept: Figure
    kept_cpu: Figure


class Workers(BaseModel):
    """One `receiver work` and two of them, on PostgreSQL. `gain`: the rate of two over that of one; CPU is that of all."""

    fetches: int
    latency: float
    at_once: int
    one: Figure
    two: Figure
    gain: Figure
    one_cpu_us: Figure
    two_cpu_us: Figure


class Lanes(BaseModel):
    """All of them."""

    drains: list[Drain]
    beside: list[Beside]
    workers: Workers | None


class FreeSink:
    """Takes everything at once."""

    batch: ClassVar[int] = BATCH

    def __init__(self, *, read: bool = False) -> None:
        self._read = read

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Done, each."""
        if self._read:
            for message in messages:
                _ = message.cloud_event
        return [Done()] * len(messages)

    async def check(self) -> str:
        """Nothing to check."""
        return "free"

    async def close(self) -> None:
        """Nothing to close."""


class Counted:
    """A sink that takes one message at a time, and whether it has taken so many."""

    batch: ClassVar[int] = 1

    def __init__(self, sink: Sink, messages: int) -> None:
        self.over = asyncio.Event()
        self._sink = sink
        self._left = messages

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """What the sink says."""
        outcomes = await self._sink.send(messages)
        self._left -= sum(isinstance(each, Done) for each in outcomes)
        if self._left <= 0:
            self.over.set()
        return outcomes

    async def check(self) -> str:
        """What the sink says."""
        return await self._sink.check()

    async def close(self) -> None:
        """Closes it."""
        await self._sink.close()


class CountedInBatches(Counted):
    """One that takes many."""

    batch: ClassVar[int] = BATCH


class Bench(NamedTuple):
    """A database with verdicts, and how many messages of each a sink is given."""

    database: Database
    ids: list[UUID]
    times: int

    @property
    def messages(self) -> int:
        """What a sink is given in all."""
        return len(self.ids) * self.times

    async def drained(self, live: Sink, dead: Sink | None = None) -> Drained:
        """Sends all messages to `live`, and, if there is one, to `dead` beside it."""
        counted = (Counted if live.batch == 1 else CountedInBatches)(live, self.messages)
        sinks: list[Sink] = [counted] if dead is None else [counted, dead]
        bells = Bells(self.database)
        lanes = [await self._lane(sink, bells) for sink in sinks]
        stations = [Station(lane.name, lane.step, bells, self.database.now) for lane in lanes]
        gc.collect()
        gc.freeze()  # as `receiver work` does
        began, cpu = time.perf_counter(), time.process_time()
        tasks = [asyncio.create_task(station.run()) for station in stations]
        async with asyncio.timeout(LONGEST):
            await counted.over.wait()
        stations[0].stop()
        await lanes[0].stop(grace=STOP_SECONDS)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        for station in stations[1:]:
            station.stop()
        await asyncio.gather(*tasks, *(lane.stop(grace=0) for lane in lanes[1:]))
        await asyncio.gather(*(sink.close() for sink in sinks))
        return Drained(per_second=self.messages / seconds, cpu_us=cpu / self.messages * 1e6)

    async def _lane(self, sink: Sink, bells: Bells) -> SinkLane:
        name = f"sink-{next(_names)}"
        await make_due(self.database, name, self.ids, times=self.times)
        plan = SinkPlan(name, sink, SILENT_TIMEOUT, CONCURRENCY, rate=None, dead_after=timedelta(days=1))
        return SinkLane(self.database, bells, plan, source="https://api.runflow.io/v1/evaluations", process="bench")


def _with_verdicts(store: Store, postgres_url: str, messages: int, work: Callable[[Bench], Awaitable[T]]) -> T:
    async def run(url: str) -> T:
        database = open_database(url)
        try:
            await schema.upgrade(database)
            verdicts = min(messages, MOST_VERDICTS)
            ids = await store_verdicts(database, verdicts, complete=True)
            return await work(Bench(database, ids, messages // verdicts))
        finally:
            await database.close()

    logs.configure("critical", "json")
    with (
        tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder,
        stores.database(store, Path(folder), postgres_url) as url,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(run(url))


def drain(store: Store, postgres_url: str, *, messages: int, rounds: int) -> list[Drain]:
    """A sink that costs nothing, which looks at its messages, and which does not."""

    async def measured(bench: Bench) -> list[Drain]:
        by_read: dict[bool, list[Drained]] = {False: [], True: []}
        for _ in range(rounds):
            for read, each in by_read.items():
                each.append(await bench.drained(FreeSink(read=read)))
        return [
            Drain(
                store=store,
                messages=messages,
                read=read,
                per_second=figure(one.per_second for one in each),
                cpu_us=figure(one.cpu_us for one in each),
            )
            for read, each in by_read.items()
        ]

    return _with_verdicts(store, postgres_url, messages, measured)


def beside_a_dead_one(store: Store, live: Live, postgres_url: str, *, messages: int, rounds: int) -> list[Beside]:
    """A live sink alone, beside one that refuses connections, and beside one that never answers."""

    async def measured(bench: Bench) -> list[Beside]:
        with _destinations() as there:
            runs: dict[Dead | None, list[Drained]] = {None: [], "refuses": [], "silent": []}
            for number in range(rounds):
                order = list(runs)
                for dead in order[number % 3 :] + order[: number % 3]:
                    runs[dead].append(await bench.drained(there.live(live), there.dead(dead)))
        return [_beside(store, live, dead, messages, runs[None], each) for dead, each in runs.items() if dead]

    return _with_verdicts(store, postgres_url, messages, measured)


def _beside(store: Store, live: Live, dead: Dead, messages: int, alone: list[Drained], beside: list[Drained]) -> Beside:
    return Beside(
        store=store,
        live=live,
        dead=dead,
        messages=messages,
        alone=figure(one.per_second for one in alone),
        beside=figure(one.per_second for one in beside),
        kept=figure(two.per_second / one.per_second for one, two in zip(alone, beside, strict=True)),
        kept_cpu=figure(one.cpu_us / two.cpu_us for one, two in zip(alone, beside, strict=True)),
    )


class Destinations(NamedTuple):
    """Addresses: one that answers, one where nobody listens, and one that takes connections and says nothing."""

    answering: str
    refusing: str
    silent: str

    def live(self, kind: Live) -> Sink:
        """A sink that works."""
        return FreeSink() if kind == "free" else self._to(self.answering)

    def dead(self, kind: Dead | None) -> Sink | None:
        """A sink that does not, or none."""
        return None if kind is None else self._to(self.refusing if kind == "refuses" else self.silent)

    def _to(self, url: str) -> Sink:
        options = HttpOptions(name="bench", url=SecretStr(url), secret=_SECRET, timeout=SILENT_TIMEOUT)
        return options.open(None)


@contextmanager
def _destinations() -> Iterator[Destinations]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="receiver-bench-")))
        server = stack.enter_context(serving(["bench.server", "empty"], cores()[1], {}, folder))
        refusing, silent = (stack.enter_context(socket.socket()) for _ in range(2))
        for each in (refusing, silent):
            each.bind(("127.0.0.1", 0))
        silent.listen(1024)  # the system takes connections, and nobody reads them
        ports = (server.port, *(each.getsockname()[1] for each in (refusing, silent)))
        yield Destinations(*(f"http://127.0.0.1:{port}{PATH}" for port in ports))


class _Fetched(NamedTuple):
    per_second: float
    cpu_us: float


def workers(postgres_url: str, *, evaluations: int, rounds: int) -> Workers:
    """The same number of fetches for one worker and for two, from a Runflow that takes its time to answer."""
    measured: dict[int, list[_Fetched]] = {1: [], 2: []}
    for number in range(rounds):
        for processes in (1, 2) if number % 2 == 0 else (2, 1):
            measured[processes].append(_fetched(processes, postgres_url, evaluations))
    one, two = measured[1], measured[2]
    return Workers(
        fetches=evaluations,
        latency=LATENCY,
        at_once=FETCHES_AT_ONCE,
        one=figure(each.per_second for each in one),
        two=figure(each.per_second for each in two),
        gain=figure(second.per_second / first.per_second for first, second in zip(one, two, strict=True)),
        one_cpu_us=figure(each.cpu_us for each in one),
        two_cpu_us=figure(each.cpu_us for each in two),
    )


def _fetched(processes: int, postgres_url: str, evaluations: int) -> _Fetched:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="receiver-bench-")))
        url = stack.enter_context(stores.database("postgresql", folder, postgres_url))
        asyncio.run(_prepared(url))
        runflow = stack.enter_context(serving(["bench.runflow", str(LATENCY)], cores()[1], {}, folder))
        (folder / "receiver.toml").write_text(f"[fetch]\nconcurrency = {FETCHES_AT_ONCE}\n")
        settings = {
            "DATABASE_URL": url,
            "RUNFLOW_API_URL": f"http://{runflow.host}:{runflow.port}",
            "RUNFLOW_API_KEY": "rf_live_only_for_measurements",
        }
        pids = [stack.enter_context(_working(settings, folder, number)) for number in range(processes)]
        return asyncio.run(_until_fetched(url, evaluations, pids))


async def _prepared(url: str) -> None:
    database = open_database(url)
    try:
        await schema.upgrade(database)
    finally:
        await database.close()


@contextmanager
def _working(settings: dict[str, str], folder: Path, number: int) -> Iterator[int]:
    """The process id of a `receiver work` that has started."""
    log = folder / f"work-{number}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "receiver", "work"],
            env=environment(settings),
            cwd=folder,
            stdout=stream,
            stderr=stream,
        )
    with ended(process):
        deadline = time.monotonic() + START_SECONDS
        while b'"work.started"' not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the worker did not start:\n{log.read_text()}")
            time.sleep(_LOOK_EVERY)
        yield process.pid


async def _until_fetched(url: str, evaluations: int, pids: Sequence[int]) -> _Fetched:
    """Asks for fetches of workers that wait for them, and waits until all are done."""
    database = open_database(url)
    try:
        ids = await store_verdicts(database, evaluations, complete=False)
        cpu = _cpu_of(pids)
        await ask_for(database, ids)
        await database.ring(FETCHES)
        began = time.perf_counter()
        async with asyncio.timeout(LONGEST):
            while await database.read(_left):  # noqa: ASYNC110 (it is in other processes)
                await asyncio.sleep(_LOOK_EVERY)
        seconds = time.perf_counter() - began
        return _Fetched(evaluations / seconds, (_cpu_of(pids) - cpu) / evaluations * 1e6)
    finally:
        await database.close()


def _cpu_of(pids: Sequence[int]) -> float:
    return sum(cpu_seconds(pid) for pid in pids)


def _left(conn: Connection) -> int:
    waiting = select(func.count()).select_from(fetches).where(fetches.c.due_at.is_not(None))
    return conn.execute(waiting).scalar_one()


def measure(
    postgres_url: str,
    *,
    parts: Collection[str] = PARTS,
    kinds: Sequence[Store] = STORES,
    rounds: int = 3,
    quick: bool = False,
) -> Lanes:
    """All that is among `parts`, on databases of these kinds. `quick`: so little of each that the figures mean nothing."""
    drains: list[Drain] = []
    beside: list[Beside] = []
    for store in kinds:
        if "drain" in parts:
            drains += drain(store, postgres_url, messages=500 if quick else 100_000, rounds=rounds)
        if "beside" in parts:
            beside += beside_a_dead_one(store, "free", postgres_url, messages=500 if quick else 200_000, rounds=rounds)
            # Some seconds: a dead sink costs most in the first, and pauses last longer and longer.
            beside += beside_a_dead_one(store, "http", postgres_url, messages=50 if quick else 8_000, rounds=rounds)
    at_work = None
    if "workers" in parts and "postgresql" in kinds:
        at_work = workers(postgres_url, evaluations=50 if quick else 1_500, rounds=rounds)
    return Lanes(drains=drains, beside=beside, workers=at_work)


_DOES = {"refuses": "refuses", "silent": "is silent"}


def shown(lanes: Lanes) -> str:
    """Lines for people."""
    lines = [
        f"{it.store}: {'made' if it.read else 'unread'} messages: {it.per_second.shown()}/s,"
        f" {it.cpu_us.shown(1)} µs CPU each"
        for it in lanes.drains
    ]
    lines += [
        f"{it.store}: {it.live} sink {it.alone.shown()}/s, beside one that {_DOES[it.dead]} {it.beside.shown()}/s:"
        f" {it.kept.shown(2)} of it, {it.kept_cpu.shown(2)} by CPU"
        for it in lanes.beside
    ]
    if it := lanes.workers:
        lines.append(
            f"postgresql: one worker {it.one.shown()}/s ({it.one_cpu_us.shown()} µs CPU each),"
            f" two {it.two.shown()}/s ({it.two_cpu_us.shown()} µs): {it.gain.shown(2)} times"
        )
    return "\n".join(lines)


def claims(lanes: Lanes) -> list[Claim]:
    """What was promised of deliveries, of a dead sink beside a live one, and of a second worker."""
    found = [
        Claim(
            f"{TITLES[it.store]}: messages a second to a sink that costs nothing", it.per_second.middle, at_least=10_000
        )
        for it in lanes.drains
        if not it.read
    ]
    for store in dict.fromkeys(it.store for it in lanes.beside):
        kept = min(it.kept.middle for it in lanes.beside if it.store == store)
        found.append(
            Claim(
                f"{TITLES[store]}: a live sink beside a dead one, of its rate alone, where it is least",
                kept,
                at_least=0.95,
            )
        )
    if lanes.workers:
        found.append(
            Claim(
                "PostgreSQL: two workers over one, Runflow answers after 200 ms",
                lanes.workers.gain.middle,
                at_least=1.8,
            )
        )
    return found


@click.command()
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, default=PARTS, show_default=True)
@click.option("--store", "kinds", type=click.Choice(STORES), multiple=True, default=STORES, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--quick", is_flag=True, help="Only to see that it runs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--postgres-url", default=os.environ.get("TEST_POSTGRES_URL", POSTGRES), show_default=True)
def main(
    parts: Sequence[str], kinds: Sequence[Store], rounds: int, quick: bool, as_json: bool, postgres_url: str
) -> None:
    """Measure, and print the figures."""
    measured = measure(postgres_url, parts=parts, kinds=kinds, rounds=rounds, quick=quick)
    click.echo(measured.model_dump_json(indent=2) if as_json else shown(measured))


if __name__ == "__main__":
    main()
