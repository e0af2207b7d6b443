"""The report: everything that was measured as JSON, and the table that people read as Markdown."""

import os
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple

from pydantic import BaseModel

from bench.measure import VARIANTS, Measured
from bench.processes import cores
from bench.stores import SQLITE, sqlite_version

_LIBRARIES = ("starlette", "uvicorn", "uvloop", "httptools", "pydantic", "orjson", "sqlalchemy", "asyncpg")
_TITLES = {variant.name: variant.title for variant in VARIANTS}


class Latency(BaseModel):
    """Answers to one connection, and at half of the full load."""

    idle: Measured
    half: Measured
    half_rate: float


class Machine(BaseModel):
    """Where it was measured. `load` is how many processes wanted to run before the first measurement (1 minute)."""

    processor: str
    cores: int
    pinned: bool
    memory_gb: float
    system: str
    load: float
    sync_ms: float


class Report(BaseModel):
    """One run of `python -m bench`."""

    at: datetime
    machine: Machine
    versions: dict[str, str]
    durability: dict[str, str]
    connections: int
    body_bytes: int
    seconds: float
    rounds: list[dict[str, Measured]]
    latency: dict[str, Latency]


class Spread(NamedTuple):
    """Median, lowest and highest of the rounds."""

    middle: float
    low: float
    high: float

    def shown(self, digits: int) -> str:
        """`median (lowest–highest)`."""
        middle, low, high = (f"{value:,.{digits}f}" for value in self)
        return f"{middle} ({low}–{high})" if low != high else middle


def spread(values: Sequence[float]) -> Spread:
    """Of the values of all rounds."""
    return Spread(median(values), min(values), max(values))


def machine(sync_ms: float) -> Machine:
    """This machine, as it says of itself."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    server_core, sender_core = cores()
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        pinned=server_core != sender_core,
        memory_gb=round(pages * size / 1e9, 1),
        system=f"{platform.system()} {platform.release()}",
        load=os.getloadavg()[0],
        sync_ms=sync_ms,
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def versions() -> dict[str, str]:
    """Of all that has a part in the figures."""
    found = {name: version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), "sqlite": sqlite_version(), **found}


def durability(postgres: dict[str, str] | None) -> dict[str, str]:
    """The settings with which a callback was stored when it was answered."""
    said = {"sqlite": SQLITE}
    if postgres is not None:
        said["postgresql"] = ", ".join(f"{name}={value}" for name, value in postgres.items())
    return said


def markdown(report: Report) -> str:
    """The tables, and under them what they were measured on."""
    parts = [_rates(report), _latencies(report) if report.latency else "", _foot(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rates(report: Report) -> str:
    names = list(report.rounds[0])
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
    return _table(head, [_rate_row(report, name) for name in names])


def _rate_row(report: Report, name: str) -> list[str]:
    def of(pick: Callable[[Measured], float]) -> Spread:
        return spread([pick(each[name]) for each in report.rounds])

    pairs = [(each[name].outcome, each["empty"].outcome) for each in report.rounds]
    return [
        _TITLES[name],
        of(lambda each: each.outcome.per_second).shown(0),
        spread([this.per_second / empty.per_second for this, empty in pairs]).shown(2),
        spread([empty.server_cpu_us / this.server_cpu_us for this, empty in pairs]).shown(2),
        of(lambda each: each.outcome.server_cpu_us).shown(0),
        f"{of(lambda each: each.outcome.p50).middle:.1f}, {of(lambda each: each.outcome.p99).middle:.1f}",
        f"{of(lambda each: each.resident_mb).high:.0f}",
        f"{of(lambda each: each.outcome.sender_busy).middle:.0%}",
    ]


def _latencies(report: Report) -> str:
    head = [
        "time of an answer, ms",
        "idle p50",
        "idle p99",
        "half load, callbacks/s",
        "p50",
        "p99",
        "longest",
        "over 100 ms",
    ]
    rows = [[_TITLES[name], *_latency_cells(latency)] for name, latency in report.latency.items()]
    return _table(head, rows)


def _latency_cells(latency: Latency) -> list[str]:
    idle, half = latency.idle.outcome, latency.half.outcome
    return [
        f"{idle.p50:.2f}",
        f"{idle.p99:.2f}",
        f"{half.per_second:,.0f} of {latency.half_rate:,.0f}",
        f"{half.p50:.2f}",
        f"{half.p99:.2f}",
        f"{half.longest:.1f}",
        str(half.over_100_ms),
    ]


def _foot(report: Report) -> str:
    here = report.machine
    pinned = "server on one core, sender on another" if here.pinned else "server and sender share the one core"
    how = (
        f"{report.at:%Y-%m-%d %H:%M} UTC; {len(report.rounds)} rounds of {report.seconds:g} s each,"
        f" {report.connections} connections, bodies of {report.body_bytes} bytes; median (lowest–highest) of the rounds."
    )
    where = (
        f"{here.processor}, {here.cores} cores, {here.memory_gb:.0f} GB, {here.system}; {pinned};"
        f" load average before the run {here.load:.1f}; one fdatasync of 4 KiB {here.sync_ms:.2f} ms."
    )
    durable = [f"{kind}: {said}." for kind, said in report.durability.items()]
    lines = [how, where, *durable, ", ".join(f"{name} {number}" for name, number in report.versions.items()) + "."]
    return "\n".join(f"- {line}" for line in lines)


def write(report: Report, folder: Path) -> None:
    """`newest.json` and `newest.md` in the folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "newest.json").write_text(report.model_dump_json(indent=1) + "\n")
    (folder / "newest.md").write_text(markdown(report))


def now() -> datetime:
    """The time of a report."""
    return datetime.now(UTC)
