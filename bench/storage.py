"""What does a callback cost in all? Bytes that stay, bytes that are written, CPU: for taking it in, and for all the rest.

First `receiver serve --no-pipeline` takes callbacks in and sees to them; then a `receiver serve` fetches their trees from a
Runflow that answers at once, and forwards the verdicts to a file.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from pydantic import BaseModel

from bench.measure import OWN_CORES, TITLES, How, check_answers, fresh, press, served
from bench.processes import cpu_seconds, cpu_seconds_of_family, serving, written_mb
from bench.stores import Kind, count, query
from bench.tables import table

TITLE = "What a callback costs in all"

LONGEST = 600.0
"""Seconds that the pipeline may take."""
SLOWEST = 100
"""Callbacks a second that are reckoned with."""
SMALL = 1
"""Bytes for each callback: tables with less are not shown."""
_POSTGRES = """
    SELECT split_part(pg_read_file('postmaster.pid'), chr(10), 1)::int, pg_current_wal_lsn() - '0/0'::pg_lsn
"""
_SINK = '[[sinks]]\nname = "verdicts"\ntype = "file"\npath = "verdicts.ndjson"\n'
_SIZES = {
    "sqlite": "SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_master USING (name) GROUP BY tbl_name",
    "postgresql": (
        "SELECT relname, pg_total_relation_size(oid) FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    ),
}


class Phase(BaseModel):
    """For each callback: microseconds of CPU here and in PostgreSQL's processes, and bytes written to the disk (its WAL)."""

    per_second: float
    server_cpu_us: float
    database_cpu_us: float
    written_bytes: float


class Stored(BaseModel):
    """One database. Bytes are for each callback: of a message, and of each table with its indexes."""

    callbacks: int
    taken_in: Phase
    forwarded: Phase
    message_bytes: float
    tables: dict[str, float]

    @property
    def bytes_stored(self) -> float:
        """All that stays of a callback: its event, its verdict, its tree, its delivery."""
        return sum(self.tables.values())


class Storage(BaseModel):
    """By database."""

    stores: dict[Kind, Stored]


def run(how: How) -> Storage:
    """All of it on each database."""
    return Storage(stores={kind: _stored(kind, how) for kind in how.databases})


def _stored(kind: Kind, how: How) -> Stored:
    seconds = how.verdicts / SLOWEST
    load = how.full._replace(seconds=seconds, warm_up=0, per_second=(how.verdicts - 10 * how.connections) / seconds)
    with fresh(kind, how) as (here, url):
        with served(url, here) as server:
            before = _spent(server.pid, url)
            check_answers(kind, press([server], load))
            _wait(lambda: count(url, "events", "waiting") == 0)
            taken_in = _phase(before, _spent(server.pid, url), callbacks := count(url, "events"))
        with serving(["bench.runflow", "0"], OWN_CORES[1], {}, here) as runflow:
            (here / "receiver.toml").write_text(_SINK)
            more = {"RUNFLOW_API_URL": f"http://{runflow.host}:{runflow.port}"}
            with served(url, here, ("receiver", "serve"), more=more) as server:
                before = _spent(server.pid, url)
                _wait(lambda: count(url, "deliveries", "state = 'delivered'") >= callbacks)
                forwarded = _phase(before, _spent(server.pid, url), callbacks)
        return Stored(
            callbacks=callbacks,
            taken_in=taken_in,
            forwarded=forwarded,
            message_bytes=(here / "verdicts.ndjson").stat().st_size / callbacks,
            tables={name: size / callbacks for name, size in query(url, _SIZES[kind])},
        )


class _Spent(NamedTuple):
    """So far: CPU seconds of the server and of the database's own processes, and bytes written."""

    at: float
    server: float
    database: float
    written: float


def _spent(pid: int, url: str) -> _Spent:
    if url.startswith("sqlite:"):
        return _Spent(time.monotonic(), cpu_seconds(pid), 0, written_mb(pid) * 1e6)
    [(postmaster, written)] = query(url, _POSTGRES)
    return _Spent(time.monotonic(), cpu_seconds(pid), cpu_seconds_of_family(postmaster), float(written))


def _phase(before: _Spent, after: _Spent, callbacks: int) -> Phase:
    return Phase(
        per_second=callbacks / (after.at - before.at),
        server_cpu_us=(after.server - before.server) / callbacks * 1e6,
        database_cpu_us=(after.database - before.database) / callbacks * 1e6,
        written_bytes=(after.written - before.written) / callbacks,
    )


def _wait(is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST
    while not is_done():
        if time.monotonic() > deadline:
            raise TimeoutError("the pipeline did not get there")
        time.sleep(0.2)


def markdown(storage: Storage) -> str:
    """What it costs, and where the bytes are."""
    head = [
        "for each callback",
        "server CPU, µs",
        "the database's own CPU, µs",
        "written to disk, bytes",
        "a second, meanwhile",
    ]
    rows = [_row(kind, what, phase) for kind, it in storage.stores.items() for what, phase in _phases(it)]
    return f"{table(head, rows)}\n\n{_sizes(storage)}"


def _phases(stored: Stored) -> list[tuple[str, Phase]]:
    return [
        ("taken in, made a pending verdict", stored.taken_in),
        ("tree fetched, verdict forwarded", stored.forwarded),
    ]


def _row(kind: Kind, what: str, phase: Phase) -> list[str]:
    database = f"{phase.database_cpu_us:,.0f}" if kind == "postgresql" else "in the server's"
    return [
        f"{TITLES[kind]}: {what}",
        f"{phase.server_cpu_us:,.0f}",
        database,
        f"{phase.written_bytes:,.0f}",
        f"{phase.per_second:,.0f}",
    ]


def _sizes(storage: Storage) -> str:
    kinds = list(storage.stores)
    largest = storage.stores[kinds[-1]].tables
    names = sorted((name for name in largest if largest[name] >= SMALL), key=lambda name: -largest[name])
    rows = [[f"`{name}`", *(f"{storage.stores[kind].tables.get(name, 0):,.0f}" for kind in kinds)] for name in names]
    rows.append(["all tables", *(f"{storage.stores[kind].bytes_stored:,.0f}" for kind in kinds)])
    rows.append(["a message, for comparison", *(f"{storage.stores[kind].message_bytes:,.0f}" for kind in kinds)])
    return table(["bytes that stay of a callback, with indexes", *(TITLES[kind] for kind in kinds)], rows)
