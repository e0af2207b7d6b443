"""What it costs to keep tries that failed one by one, for the timeline, and to read it.

    python -m bench --only tries --out FOLDER

A thousand deliveries are claimed and settled: delivered, failed without a row for the try, and failed with one.
Tries are settled a batch at a time, as the pipeline does. Nothing is sent.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Connection, insert

from bench.measure import TITLES, How
from bench.stores import Kind, database, migrate
from bench.tables import table
from receiver.core.verdict import Verdict
from receiver.store import outbox, results
from receiver.store.attempts import Failure
from receiver.store.database import Database, open_database
from receiver.store.outbox import Settled
from receiver.store.tables import deliveries, events, verdicts
from receiver.store.timeline import timeline

TITLE = "Tries that fail"
BATCH = 250
ENDS = ("delivered", "failed", "failed, noted")
READS = 100


class Tries(BaseModel):
    """Microseconds of wall time for each delivery settled in each way, and for one timeline read, by round."""

    stores: dict[Kind, dict[str, list[float]]]


def run(how: How) -> Tries:
    """Each database, so many rounds."""
    many = min(how.verdicts, 1000)
    stores = {}
    for kind in how.databases:
        with TemporaryDirectory() as folder, database(kind, Path(folder), how.postgres_url) as url:
            migrate(url)
            stores[kind] = asyncio.run(_measure(url, many, how.rounds))
    return Tries(stores=stores)


async def _measure(url: str, many: int, rounds: int) -> dict[str, list[float]]:
    opened = open_database(url)
    found: dict[str, list[float]] = {name: [] for name in (*ENDS, "timeline read")}
    try:
        for number in range(rounds):
            for end in ENDS if number % 2 else reversed(ENDS):
                sink = f"{end} {number}"
                await opened.write(_fill, sink, many)
                found[end].append(await _settle(opened, sink, end) / many * 1e6)
            found["timeline read"].append(await _read(opened, f"failed, noted {number}") / READS * 1e6)
    finally:
        await opened.close()
    return found


def _key(sink: str, number: int) -> UUID:
    return UUID(int=(hash(sink) & (2**60 - 1)) << 64 | number)


def _fill(conn: Connection, sink: str, many: int) -> None:
    now = datetime.now(UTC)
    keys = [_key(sink, number) for number in range(many)]
    found = [
        Verdict(evaluation_id=key, event="evaluation.completed", received_at=now, tree="complete", revision=1)
        for key in keys
    ]
    conn.execute(insert(verdicts), [results.row_of(each) | {"due_to": "[]", "tree_updated_at": None} for each in found])
    event = {"event": "evaluation.completed", "body": b"{}", "origin": "callback", "received_at": now, "repeats": 0}
    conn.execute(insert(events), [event | {"evaluation_id": key, "waiting": False} for key in keys])
    conn.execute(insert(deliveries), [results.new_delivery(key, sink, 1, now) for key in keys])


async def _settle(opened: Database, sink: str, end: str) -> float:
    """Seconds for all of them."""
    seconds = 0.0
    lease = timedelta(minutes=9)
    while claimed := await opened.write(outbox.claim, sink, limit=BATCH, lease=lease, now=datetime.now(UTC)):
        now = datetime.now(UTC)
        if end == "delivered":
            settled = [
                Settled(it.id, it.claim, "delivered", ended_at=now, remote_id="1700000000000-0") for it in claimed
            ]
        else:
            failure = Failure(now, "again", "answered 503") if end == "failed, noted" else None
            later = now + timedelta(hours=1)
            settled = [
                Settled(it.id, it.claim, "pending", later, error="answered 503", failure=failure) for it in claimed
            ]
        began = time.perf_counter()
        await opened.write(outbox.settle, settled)
        seconds += time.perf_counter() - began
    return seconds


async def _read(opened: Database, sink: str) -> float:
    began = time.perf_counter()
    for number in range(READS):
        await opened.read(timeline, _key(sink, number), datetime.now(UTC))
    return time.perf_counter() - began


def markdown(tries: Tries) -> str:
    """The medians, and how they compare within each round."""
    rows = []
    for kind, found in tries.stores.items():
        noted = [noted / plain for noted, plain in zip(found["failed, noted"], found["failed"], strict=True)]
        cells = [f"{median(found[name]):,.0f} µs" for name in (*ENDS, "timeline read")]
        rows.append([TITLES[kind], *cells, f"{median(noted):.2f} ({min(noted):.2f}–{max(noted):.2f})"])
    return table(["settled, each", *ENDS, "timeline read", "noted over not"], rows)
