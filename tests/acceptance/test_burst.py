"""More callbacks at once than there is room for: some are told to come again, quickly; memory stays bounded."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from receiver.offline import OfflineRunflow
from tests.acceptance.books import LookInto, check_audit, quiet, stored
from tests.acceptance.collector import check_arrived, in_file, sink
from tests.acceptance.load import Callback, Load
from tests.acceptance.processes import SECRET, Install, Report

MOST_MEMORY = 512.0
"""MB. A process that kept what it refuses would have more."""


@pytest.mark.parametrize(
    ("callbacks", "connections", "room"), [(3000, 100, 50), pytest.param(100_000, 500, 250, marks=pytest.mark.long)]
)
async def test_queue_full(
    callbacks: int,
    connections: int,
    room: int,
    install: Install,
    sqlite_address: str,
    look_into: LookInto,
    report: Report,
) -> None:
    """What does not fit is a 503 at once, and each that was acknowledged is stored and delivered once."""
    runflow = OfflineRunflow(secret=SECRET)
    place = install(
        f"[limits]\nqueue_rows = {room}\n" + sink("out", "file", path="out.ndjson", timeout=60),
        DATABASE_URL=sqlite_address,
    )
    server = await place.serve()
    load = Load(server.address)
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        with _locked(sqlite_address):
            group.create_task(load.post((Callback(runflow) for _ in range(callbacks)), connections))
            await load.refused(connections - room)
            quickest = load.slowest_refusal
    took = time.monotonic() - began
    assert load.retry_after == {"5"}
    database = look_into(sqlite_address)
    await quiet(database)
    memory = server.peak_memory()
    assert memory < MOST_MEMORY
    assert await stored(database) == load.acknowledged.keys()
    assert check_arrived(load.acknowledged.values(), in_file(place.folder / "out.ndjson")) == 0
    await check_audit(place)
    await server.stop()
    await runflow.close()
    report(
        f"{dict(load.outcomes)} in {took:.1f} s over {connections} connections; "
        f"sent away within {quickest * 1000:.0f} ms; {memory:.0f} MB at most"
    )


@contextmanager
def _locked(address: str) -> Iterator[None]:
    """Nobody else can write meanwhile."""
    with closing(sqlite3.connect(address.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
