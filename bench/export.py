"""How fast is everything that is stored read out, in how much memory, and what do callbacks notice of it?

Beside a bare loop, a process that reads the documents with the driver alone and writes them to a socket, or to a file that is
on the disk at the end: nothing is left out of it but that it holds one transaction from end to end. All run on one core, and
what comes over a socket is read by the same reader.
"""

import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
from pydantic import BaseModel

from bench.figures import Figure, figure
from bench.measure import OWN_CORES, TITLES, How, check_answers, fresh, press, served
from bench.processes import ROOT, Served, environment, memory_of
from bench.stores import Kind, execute, file_of, migrate
from bench.tables import Claim, table
from receiver.core.verdict import Verdict
from receiver.store.results import row_of

TITLE = "Export"

FEW = 10_000
MANY = 1_000_000
ROUNDS = 3
RATE = 1000.0
"""Callbacks a second while an export runs, and while none does: a tenth of what the service takes."""
TOKEN = "a-token-of-the-bench"
FORMATS = ("ndjson", "csv")
COMMANDS = ("ndjson", "csv", "parquet")
AT_LEAST = 0.5
FLAT = 1.1
_FIRST = 1_800_000_000_000_000
"""Microseconds since 1970: when the first of them arrived; the others follow, one each millisecond."""
_COMMAND = """
import sys
from bench.export import print_memory
from receiver.cli import receiver
receiver(sys.argv[1:], standalone_mode=False)
print_memory()
"""
_QUERY = "SELECT document FROM verdicts ORDER BY received_at, evaluation_id"


class Reading(BaseModel):
    """One way to read all. `memory`: the most that the process which reads the database had, in MB."""

    seconds: float
    megabytes: float
    memory: float


class Size(BaseModel):
    """What was found with so many stored: by way, each round."""

    verdicts: int
    rounds: dict[str, list[Reading]]

    def per_second(self, way: str) -> Figure:
        """Verdicts a second."""
        return figure(self.verdicts / each.seconds for each in self.rounds[way])

    def ratio(self, way: str) -> float:
        """How fast it is beside the bare loop that writes to the same."""
        bare = "bare, to a file" if way.startswith("command") else "bare"
        return self.per_second(way).middle / self.per_second(bare).middle

    def memory(self, way: str) -> float:
        """The most in any round."""
        return max(each.memory for each in self.rounds[way])


class Store(BaseModel):
    """One database: few and many verdicts, and the p99 of callbacks' answers, in ms, alone and beside each format."""

    sizes: list[Size]
    p99: dict[str, list[float]]


class Exports(BaseModel):
    """By database."""

    stores: dict[Kind, Store]


def run(how: How) -> Exports:
    """Fills each database twice."""
    return Exports(stores={kind: _store(kind, how) for kind in how.databases})


def _store(kind: Kind, how: How) -> Store:
    sizes, p99 = [], {}
    for verdicts in sorted({min(FEW, how.rows), min(MANY, how.rows)}):
        with fresh(kind, how) as (here, url):
            _fill(url, verdicts)
            sizes.append(_size(url, here, verdicts, min(how.rounds, ROUNDS)))
            p99 = _beside(url, here, how)
    return Store(sizes=sizes, p99=p99)


def _size(url: str, here: Path, verdicts: int, rounds: int) -> Size:
    found: dict[str, list[Reading]] = {}
    for _ in range(rounds):
        found.setdefault("bare", []).append(_bare(url))
        found.setdefault("bare, to a file", []).append(_bare_to_file(url, here))
        for format_ in FORMATS:
            with _serving(url, here) as server:
                found.setdefault(f"GET, {format_}", []).append(_download(server, format_))
        for format_ in COMMANDS:
            found.setdefault(f"command, {format_}", []).append(_command(url, here, format_, verdicts))
    return Size(verdicts=verdicts, rounds=found)


@contextmanager
def _serving(url: str, here: Path) -> Iterator[Served]:
    with served(url, here, more={"RECEIVER_API_TOKENS": f"bench:read={TOKEN}"}) as server:
        yield server


def _bare(url: str) -> Reading:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = _started(["-m", "bench.export", url, str(listener.getsockname()[1])], ROOT, {})
        connection, _ = listener.accept()
        began = time.perf_counter()  # starting Python is no part of it
        with connection:
            size = _read(connection)
        seconds = time.perf_counter() - began
    return Reading(seconds=seconds, megabytes=size / 1e6, memory=_ended(process)["memory"])


def _bare_to_file(url: str, here: Path) -> Reading:
    path = here / "bare"
    told = _ended(_started(["-m", "bench.export", url, str(path)], ROOT, {}))
    size = path.stat().st_size
    path.unlink()
    return Reading(seconds=told["seconds"], megabytes=size / 1e6, memory=told["memory"])


def _started(command: list[str], folder: Path, settings: dict[str, str]) -> "subprocess.Popen[bytes]":
    """A Python on the core that servers have."""
    process = subprocess.Popen(
        [sys.executable, *command], env=environment(settings), cwd=folder, stdout=subprocess.PIPE
    )
    os.sched_setaffinity(process.pid, {OWN_CORES[0]})
    return process


def _ended(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """What it printed, all of it JSON. Raises CalledProcessError."""
    printed, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    told: dict[str, Any] = json.loads(printed.replace(b"}\n{", b","))
    return told


def print_memory() -> None:
    """The most memory that this process ever had, as the last thing that it prints. (The kernel's VmHWM is of after exec.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    print(json.dumps({"memory": int(line.split()[1]) * 1024 / 1e6}), flush=True)


def _download(server: Served, format_: str) -> Reading:
    with memory_of(server.pid) as memory:
        began = time.perf_counter()
        size = _get(server, format_)
        seconds = time.perf_counter() - began
    return Reading(seconds=seconds, megabytes=size / 1e6, memory=memory.highest)


def _get(server: Served, format_: str) -> int:
    """The size of the answer. Raises ValueError if it is not whole."""
    with socket.create_connection((server.host, server.port)) as connection:
        target = f"/v1/verdicts/export?format={format_}"
        connection.sendall(
            f"GET {target} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        )
        tail = bytearray()
        size = _read(connection, tail)
    if not tail.endswith(b"\r\n0\r\n\r\n"):
        raise ValueError(f"{target}: not whole, it ends with {bytes(tail)!r}")
    return size


def _read(connection: socket.socket, tail: bytearray | None = None) -> int:
    size, buffer = 0, bytearray(2**20)
    while count := connection.recv_into(buffer):
        size += count
        if tail is not None:
            tail[:] = (tail + buffer[max(count - 16, 0) : count])[-16:]
    return size


def _command(url: str, here: Path, format_: str, verdicts: int) -> Reading:
    path = here / "exported"
    arguments = ["verdicts", "export", "--format", format_, "--output", str(path), "--json"]
    told = _ended(_started(["-c", _COMMAND, *arguments], here, {"DATABASE_URL": url}))
    if told["verdicts"] != verdicts:
        raise ValueError(f"{format_}: {told}")
    path.unlink()
    return Reading(seconds=told["seconds"], megabytes=told["bytes"] / 1e6, memory=told["memory"])


def _beside(url: str, here: Path, how: How) -> dict[str, list[float]]:
    """The p99 of callbacks' answers, in ms, at the same rate without and with an export that begins again when it ends."""
    found: dict[str, list[float]] = {}
    for _ in range(min(how.rounds, ROUNDS)):
        for beside in ("nothing", *FORMATS):
            with _serving(url, here) as server, _exporting(server, beside):
                outcome = press([server], how.full._replace(rate=RATE))
            check_answers(f"beside {beside}", outcome)
            found.setdefault(beside, []).append(outcome.p99)
    return found


@contextmanager
def _exporting(server: Served, format_: str) -> Iterator[None]:
    is_over = threading.Event()

    def go_on() -> None:
        while not is_over.is_set():
            _get(server, format_)

    reading = threading.Thread(target=go_on)
    if format_ in FORMATS:
        reading.start()
    try:
        yield
    finally:
        is_over.set()
        if format_ in FORMATS:
            reading.join()


def _fill(url: str, rows: int) -> None:
    """As many verdicts as the sample is, each with an id and an arrival of its own, straight into their table."""
    migrate(url)
    sample = (ROOT / "tests" / "samples" / "verdict_completed.json").read_bytes()
    verdict = Verdict.model_validate_json(sample).model_copy(update={"revision": 1})
    row = row_of(verdict) | {"due_to": "[]"}
    document = row["document"].replace(str(verdict.evaluation_id), "%ID%")
    document = document.replace(json.loads(row["document"])["received_at"], "%AT%")
    names = ("event", "status", "client_ref", "run_id", "model_id", "task_type", "tree", "origin", "revision", "due_to")
    literals = ", ".join(_literal(row[name]) for name in names)
    into = f"INSERT INTO verdicts (evaluation_id, received_at, document, {', '.join(names)})"
    if url.startswith("sqlite:"):
        _fill_sqlite(url, rows, f"{into} SELECT id, at, made(id, at), {literals} FROM", document)
        return
    made = f"replace(replace({_literal(document)}, '%ID%', id::text), '%AT%', to_char(at AT TIME ZONE 'UTC', {_FORM}))"
    series = (
        f"(SELECT ('0193a5c0-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid AS id,"
        f" to_timestamp({_FIRST // 10**6} + i / 1000.0) AS at FROM generate_series(0, {rows - 1}) AS i) AS n"
    )
    execute(url, "SET synchronous_commit = off", f"{into} SELECT id, at, {made}, {literals} FROM {series}",
            "VACUUM (FREEZE, ANALYZE) verdicts", "CHECKPOINT")  # fmt: skip


_FORM = """'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"""


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def _fill_sqlite(url: str, rows: int, insert: str, document: str) -> None:
    def made(key: bytes, at: str) -> str:
        text = key.hex()
        written = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
        return document.replace("%ID%", written).replace("%AT%", at)

    def key_of(number: int) -> bytes:
        return bytes.fromhex(f"0193a5c000007000{0x8000:04x}{number:012x}")

    def at_of(number: int) -> str:
        seconds, milliseconds = divmod(number, 1000)
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(_FIRST // 10**6 + seconds)) + f".{milliseconds:03d}000Z"

    with closing(sqlite3.connect(file_of(url), isolation_level=None)) as connection:
        for name, count, function in (("made", 2, made), ("key_of", 1, key_of), ("at_of", 1, at_of)):
            connection.create_function(name, count, function)
        numbers = f"WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {rows - 1})"
        source = f"({numbers} SELECT key_of(i) AS id, at_of(i) AS at FROM n)"
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=OFF", "BEGIN", f"{insert} {source}", "COMMIT"):
            connection.execute(statement)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def markdown(exports: Exports) -> str:
    """Rates, ratios and memory; and what callbacks notice."""
    head = ["database", "verdicts", "way", "verdicts/s", "MB/s", "beside the bare loop", "memory, MB"]
    rows = [
        _row(TITLES[kind], size, way)
        for kind, store in exports.stores.items()
        for size in store.sizes
        for way in size.rounds
    ]
    noticed = [
        [TITLES[kind], *(figure(values).shown(1) for values in store.p99.values())]
        for kind, store in exports.stores.items()
    ]
    ways = ["alone", *(f"during a GET, {format_}" for format_ in FORMATS)]
    beside = table([f"p99 of a callback's answer at {RATE:,.0f}/s, ms", *ways], noticed)
    return f"{table(head, rows, texts=3)}\n\n{beside}"


def _row(title: str, size: Size, way: str) -> list[str]:
    megabytes = figure(each.megabytes / each.seconds for each in size.rounds[way])
    return [
        title, f"{size.verdicts:,}", way, size.per_second(way).shown(), megabytes.shown(), f"{size.ratio(way):.2f}",
        f"{size.memory(way):.0f}",
    ]  # fmt: skip


def claims(exports: Exports) -> list[Claim]:
    """NDJSON beside the bare loop, memory that does not grow, and what callbacks notice."""
    found = []
    for kind, store in exports.stores.items():
        few, many = store.sizes[0], store.sizes[-1]
        for way in ("GET, ndjson", "command, ndjson"):
            what = f"{TITLES[kind]}, export of {many.verdicts:,}, {way}: rate over that of a bare loop"
            found.append(Claim(what, many.ratio(way), at_least=AT_LEAST, in_short=way.startswith("GET")))
        for way in ("GET, ndjson", "GET, csv", "command, parquet"):
            what = f"{TITLES[kind]}, export, {way}: memory at {many.verdicts:,} over that at {few.verdicts:,}"
            found.append(Claim(what, many.memory(way) / few.memory(way), at_most=FLAT))
        alone, during = (median(store.p99[beside]) for beside in ("nothing", "ndjson"))
        found.append(
            Claim(f"{TITLES[kind]}: p99 of a callback's answer during an export over that without", during / alone)
        )
    return found


async def _bare_loop(url: str, write: Callable[[bytes], object]) -> None:
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(file_of(url))) as database:
            for (document,) in database.execute(_QUERY):
                write(document.encode())
                write(b"\n")
        return
    database = await asyncpg.connect(url)
    async with database.transaction():
        async for row in database.cursor(_QUERY, prefetch=500):
            write(row[0].encode())
            write(b"\n")
    await database.close()


def main(url: str, to: str) -> None:
    """All documents to a port of this machine, or to a file; prints the memory, and of a file the seconds."""
    if to.isdigit():
        with socket.create_connection(("127.0.0.1", int(to))) as connection, connection.makefile("wb", 2**20) as out:
            asyncio.run(_bare_loop(url, out.write))
    else:
        began = time.perf_counter()
        with Path(to).open("wb", 2**20) as file:
            asyncio.run(_bare_loop(url, file.write))
            file.flush()
            os.fsync(file.fileno())
        print(json.dumps({"seconds": time.perf_counter() - began}))
    print_memory()


if __name__ == "__main__":
    main(*sys.argv[1:])
