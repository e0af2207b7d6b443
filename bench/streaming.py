"""What do readers of the stream cost? The intake beside many that have nothing to read; many that read; some that never do."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from statistics import quantiles

import orjson
from pydantic import BaseModel

from bench.figures import Figure, figure
from bench.measure import OWN_CORES, TITLES, How, Load, check_answers, fresh, press, served
from bench.processes import Memory, Served, cpu_seconds, ended, environment, memory_of, resident_mb
from bench.readers import Arrivals, Job
from bench.sender import Outcome
from bench.standins import standing_in
from bench.stores import Kind
from bench.tables import Claim, table

TITLE = "The stream"

READERS = 200
IDLE = 50
BESIDE_IDLE = 10
PER_SECOND = 50.0
_TOKEN = "read-by-the-benchmark"
_SETTLE_SECONDS = 3.0
"""For what was released last to arrive everywhere."""


class Beside(BaseModel):
    """The intake as fast as it can, alone and beside readers that have nothing to read; `kept` is the second over the first."""

    alone: Figure
    beside: Figure
    kept: Figure
    mb_for_each: float


class Reading(BaseModel):
    """So many readers of so many verdicts a second. CPU (cores) and memory are of the process that streams."""

    readers: int
    idle: int
    released: int
    arrived: int
    per_second: float
    cpu: float
    memory: Memory
    p50_ms: float
    p99_ms: float
    longest_ms: float


class OfStore(BaseModel):
    """One database: `none` has no readers, `many` has, `stuck` some that read and more that never do."""

    beside: Beside
    none: Reading
    many: Reading
    stuck: Reading


class Streams(BaseModel):
    """By database."""

    stores: dict[Kind, OfStore]


def run(how: How) -> Streams:
    """On each database."""
    return Streams(
        stores={
            kind: OfStore(
                beside=_beside(kind, how),
                none=_reading(kind, how, readers=0, idle=0),
                many=_reading(kind, how, readers=READERS, idle=0),
                stuck=_reading(kind, how, readers=BESIDE_IDLE, idle=IDLE),
            )
            for kind in how.databases
        }
    )


def _beside(kind: Kind, how: How) -> Beside:
    rates: dict[bool, list[float]] = {False: [], True: []}
    grown = []
    for number in range(min(how.rounds, 3)):
        for with_readers in (bool(number % 2), not number % 2):
            with fresh(kind, how) as (here, url), served(url, here, more={"RECEIVER_API_TOKENS": _TOKEN}) as server:
                before = resident_mb(server.pid)
                with _readers(server, READERS if with_readers else 0, 0, []):
                    if with_readers:
                        grown.append((resident_mb(server.pid) - before) / READERS)
                    outcome = press([server], how.full)
            check_answers(kind, outcome)
            rates[with_readers].append(outcome.per_second)
    kept = [beside / alone for alone, beside in zip(rates[False], rates[True], strict=True)]
    return Beside(
        alone=figure(rates[False]), beside=figure(rates[True]), kept=figure(kept), mb_for_each=max(grown, default=0)
    )


def _reading(kind: Kind, how: How, *, readers: int, idle: int) -> Reading:
    """On SQLite one `serve` does it all; on PostgreSQL it streams what a `work` releases."""
    seconds = max(how.seconds * 5, 1)
    arrivals: list[Arrivals] = []
    with ExitStack() as stack:
        sides = stack.enter_context(standing_in())
        here, url = stack.enter_context(fresh(kind, how))
        more = {"RECEIVER_API_TOKENS": _TOKEN, "RUNFLOW_API_URL": sides.url, "RUNFLOW_API_KEY": "rf_live_measured"}
        command = ("receiver", "serve") if kind == "sqlite" else ("receiver", "serve", "--no-pipeline")
        server = stack.enter_context(served(url, here, command, more=more))
        log = server.log
        if kind == "postgresql":
            log = stack.enter_context(_working({**more, "DATABASE_URL": url}, here))
        with _readers(server, readers, idle, arrivals), memory_of(server.pid) as memory:
            cpu, began = cpu_seconds(server.pid), time.perf_counter()
            outcome = press([server], Load(8, seconds, 0, rate=PER_SECOND))
            took, cpu = time.perf_counter() - began, cpu_seconds(server.pid) - cpu
            time.sleep(_SETTLE_SECONDS)
        check_answers(kind, outcome)
        return _found(outcome, _released(log), arrivals, readers, idle, cpu / took, memory)


def _found(
    outcome: Outcome,
    released: dict[str, float],
    arrivals: Sequence[Arrivals],
    readers: int,
    idle: int,
    cpu: float,
    memory: Memory,
) -> Reading:
    """Raises ValueError unless each verdict came to each reader once."""
    came = arrivals[0].at if arrivals else {}
    if readers and (came.keys() != released.keys() or any(len(times) != readers for times in came.values())):
        raise ValueError(f"{len(released)} released to {readers} readers, {sum(map(len, came.values()))} arrivals")
    lags = sorted((at - released[key]) * 1000 for key, times in came.items() for at in times) or [0.0, 0.0]
    percentiles = quantiles(lags, n=100)
    return Reading(
        readers=readers,
        idle=idle,
        released=len(released),
        arrived=sum(map(len, came.values())),
        per_second=outcome.per_second,
        cpu=cpu,
        memory=memory,
        p50_ms=percentiles[49],
        p99_ms=percentiles[98],
        longest_ms=lags[-1],
    )


def _released(log: Path) -> dict[str, float]:
    """When each was released, by the log: its line is written when the transaction has been committed."""
    lines = (orjson.loads(line) for line in log.read_bytes().splitlines() if b'"verdict.released"' in line)
    return {line["evaluation_id"]: datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines}


@contextmanager
def _readers(server: Served, readers: int, idle: int, arrivals: list[Arrivals]) -> Iterator[None]:
    """They read meanwhile; what came is put into `arrivals` afterwards."""
    if not readers + idle:
        yield
        return
    job = Job(host=server.host, port=server.port, token=_TOKEN, readers=readers, idle=idle)
    with subprocess.Popen(
        [sys.executable, "-m", "bench.readers"], env=environment({}), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        os.sched_setaffinity(process.pid, {OWN_CORES[1]})
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(job.model_dump_json().encode() + b"\n")
        process.stdin.flush()
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the readers did not begin")
        try:
            yield
        finally:
            printed, _ = process.communicate()
        arrivals.append(Arrivals.model_validate_json(printed))


@contextmanager
def _working(settings: dict[str, str], here: Path) -> Iterator[Path]:
    """A `receiver work`, until it has started; its log."""
    log = here / "work.log"
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "receiver", "work"]
        process = subprocess.Popen(command, env=environment(settings), cwd=here, stdout=stream, stderr=stream)
    with ended(process):
        deadline = time.monotonic() + 60
        while b'"work.started"' not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the worker did not start:\n{log.read_text()}")
            time.sleep(0.02)
        yield log


def markdown(streams: Streams) -> str:
    """Two tables."""
    beside = [
        [TITLES[kind], it.beside.alone.shown(), it.beside.beside.shown(), it.beside.kept.shown(2),
         f"{it.beside.mb_for_each:.3f}"]
        for kind, it in streams.stores.items()
    ]  # fmt: skip
    head = ["database", "intake/s, alone", f"beside {READERS} readers", "of it", "MB for each reader"]
    readings = [_row(kind, each) for kind, it in streams.stores.items() for each in (it.none, it.many, it.stuck)]
    columns = [
        "database, readers",
        "verdicts/s",
        "events/s",
        "CPU, cores",
        "memory, MB, over time",
        "lag p50, ms",
        "p99",
        "longest",
    ]
    return f"{table(head, beside)}\n\n{table(columns, readings)}"


def _row(kind: Kind, it: Reading) -> list[str]:
    title = f"{TITLES[kind]}, {it.readers}" + (f" and {it.idle} that never read" if it.idle else "")
    lags = [f"{ms:,.0f}" for ms in (it.p50_ms, it.p99_ms, it.longest_ms)] if it.readers else ["", "", ""]
    return [
        title,
        f"{it.per_second:,.0f}",
        f"{it.per_second * it.readers:,.0f}",
        f"{it.cpu:.2f}",
        it.memory.shown(6),
        *lags,
    ]


def claims(streams: Streams) -> list[Claim]:
    """The intake beside readers."""
    return [
        Claim(f"{TITLES[kind]}: intake beside {READERS} idle readers, over alone", it.beside.kept.middle, at_least=0.9)
        for kind, it in streams.stores.items()
    ]
