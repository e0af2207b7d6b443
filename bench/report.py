"""The report: everything that was measured as JSON, and the tables that people read as Markdown."""

import os
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, SerializeAsAny

from bench.callbacks import BODY
from bench.measure import How
from bench.processes import cores
from bench.stores import SQLITE, sqlite_version
from bench.tables import Claim, claims_table

_LIBRARIES = (
    *("starlette", "uvicorn", "uvloop", "httptools", "pydantic", "orjson", "sqlalchemy", "asyncpg"),
    *("fastapi", "sqlmodel", "psycopg"),
)


class Part(NamedTuple):
    """A question: how it is measured, and how what was found is shown to people."""

    title: str
    run: Callable[[How], BaseModel]
    markdown: Callable[[Any], str]
    claims: Callable[[Any], list[Claim]] = lambda _: []


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
    """One run of `python -m bench`, or several in one (`bench.join`).

    `parts` holds every figure of every round; `failed` why a part has none; `measured_at` when each was begun; `stolen`: which
    part of the processors' time the host took for other machines meanwhile, from 0 to 1.
    """

    at: datetime
    machine: Machine
    versions: dict[str, str]
    durability: dict[str, str]
    body_bytes: int
    settings: dict[str, Any]
    seconds_taken: dict[str, float]
    measured_at: dict[str, datetime] = {}
    stolen: dict[str, float] = {}
    parts: dict[str, SerializeAsAny[BaseModel]]
    failed: dict[str, str]


def begin(how: How, sync_ms: float, durability: dict[str, str]) -> Report:
    """A report without any part yet."""
    return Report(
        at=datetime.now(UTC),
        machine=_machine(sync_ms),
        versions=_versions(),
        durability=durability,
        body_bytes=len(BODY),
        settings={name: value for name, value in how._asdict().items() if name != "postgres_url"},
        seconds_taken={},
        parts={},
        failed={},
    )


def _machine(sync_ms: float) -> Machine:
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


def _versions() -> dict[str, str]:
    """Of all that has a part in the figures."""
    found = {name: version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), "sqlite": sqlite_version(), **found}


def durability(postgres: dict[str, str] | None) -> dict[str, str]:
    """The settings with which a callback was stored when it was answered."""
    said = {"sqlite": SQLITE}
    if postgres is not None:
        said["postgresql"] = ", ".join(f"{name}={value}" for name, value in postgres.items())
    return said


def markdown(report: Report, there: Mapping[str, Part]) -> str:
    """What may be relied on, the tables of each part, and what it was measured on."""
    texts = [f"## {there[name].title}\n\n{there[name].markdown(part)}" for name, part in report.parts.items()]
    texts += [f"## {there[name].title}\n\nNot measured: {why}" for name, why in report.failed.items()]
    claims = [claim for name, part in report.parts.items() for claim in there[name].claims(part)]
    short = [claim for claim in claims if claim.in_short]
    top = [f"## {title}\n\n{claims_table(of)}" for title, of in (("In short", short), ("Summary", claims)) if of]
    return "\n\n".join([*top, *texts, f"## Measured on\n\n{_foot(report)}"]) + "\n"


def _foot(report: Report) -> str:
    here, how = report.machine, report.settings
    pinned = "server on one core, sender on another" if here.pinned else "server and sender share the one core"
    when = (
        f"{report.at:%Y-%m-%d %H:%M} UTC, {sum(report.seconds_taken.values()) / 60:.0f} minutes; {how['rounds']} rounds of"
        f" {how['seconds']:g} s each, {how['connections']} connections, bodies of {report.body_bytes} bytes;"
        " median (lowest–highest) of the rounds."
    )
    where = (
        f"{here.processor}, {here.cores} cores, {here.memory_gb:.0f} GB, {here.system}; {pinned};"
        f" load average before the run {here.load:.1f}; one fdatasync of 4 KiB {here.sync_ms:.2f} ms."
    )
    durable = [f"{kind}: {said}." for kind, said in report.durability.items()]
    parts = ", ".join(f"{name} {at:%Y-%m-%d %H:%M}" for name, at in report.measured_at.items())
    stolen = ", ".join(f"{name} {share:.1%}" for name, share in report.stolen.items())
    lines = [
        when,
        *([f"Begun: {parts}."] if parts else []),
        *([f"Of the processors' time the host took meanwhile: {stolen}."] if stolen else []),
        where,
        *durable,
        ", ".join(f"{name} {number}" for name, number in report.versions.items()) + ".",
    ]
    return "\n".join(f"- {line}" for line in lines)


def write(report: Report, there: Mapping[str, Part], folder: Path) -> None:
    """`newest.json` and `newest.md` in the folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "newest.json").write_text(report.model_dump_json() + "\n")
    (folder / "newest.md").write_text(markdown(report, there))
