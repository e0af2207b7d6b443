"""What the store's own work takes, in a process without HTTP: a batch's insert, its commit, and the stage's work on an event.

A job from standard input, what was timed to standard output; the log goes to standard error, as it does in `receiver serve`.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from statistics import median
from uuid import UUID

import uvloop
from pydantic import BaseModel
from sqlalchemy import Connection

from bench.callbacks import BODY, uuid7
from receiver import logs
from receiver.pipeline.stage import Stage
from receiver.pipeline.station import Bells
from receiver.store import intake, schema
from receiver.store.database import Database, open_database
from receiver.store.intake import EventArrival


class Inside(BaseModel):
    """A database, the sizes of the batches, and how many of each."""

    url: str
    sizes: list[int]
    batches: int


class Batch(BaseModel):
    """Microseconds of wall time for one batch of `size` callbacks: its insert; and all the rest, which is mostly its commit."""

    size: int
    insert_us: float
    commit_us: float


class Timed(BaseModel):
    """The median batch of each size; CPU time in this process for the stage's work on one event."""

    batches: list[Batch]
    stage_us: float


async def timed(job: Inside) -> Timed:
    """Stores batches one after the other, and then has the stage see to all of them."""
    database = open_database(job.url)
    await schema.upgrade(database)
    try:
        batch = _batch_on_sqlite if database.kind == "sqlite" else _batch_on_postgres
        batches = [await batch(database, job.url, size, job.batches) for size in job.sizes]
        events = sum(job.sizes) * job.batches
        began = time.process_time()
        await Stage(database, Bells(database), hold=timedelta(minutes=10)).step()
        return Timed(batches=batches, stage_us=(time.process_time() - began) / events * 1e6)
    finally:
        await database.close()


async def _batch_on_sqlite(database: Database, _url: str, size: int, batches: int) -> Batch:
    inserts, wholes = [], []

    def insert(conn: Connection, arrivals: Sequence[EventArrival]) -> None:
        began = time.perf_counter()
        intake.accept(conn, arrivals)
        inserts.append(time.perf_counter() - began)

    for _ in range(batches):
        arrivals = [arrival(database, uuid7()) for _ in range(size)]
        began = time.perf_counter()
        await database.write(insert, arrivals)
        wholes.append(time.perf_counter() - began)
    rests = [whole - part for whole, part in zip(wholes, inserts, strict=True)]
    return Batch(size=size, insert_us=median(inserts) * 1e6, commit_us=median(rests) * 1e6)


async def _batch_on_postgres(database: Database, url: str, size: int, batches: int) -> Batch:
    """One statement does all of it; the same without waiting for the disk tells what the wait is."""
    hasty = open_database(f"{url}?synchronous_commit=off")
    try:
        insert = await _accepting(hasty, size, batches)
    finally:
        await hasty.close()
    return Batch(size=size, insert_us=insert, commit_us=max(0.0, await _accepting(database, size, batches) - insert))


async def _accepting(database: Database, size: int, batches: int) -> float:
    times = []
    for _ in range(batches):
        arrivals = [arrival(database, uuid7()) for _ in range(size)]
        began = time.perf_counter()
        await database.accept(arrivals)
        times.append(time.perf_counter() - began)
    return median(times) * 1e6


def arrival(database: Database, key: UUID) -> EventArrival:
    """A callback that comes now."""
    return EventArrival(key, "evaluation.completed", BODY, "callback", "bench", "req_bench", database.now())


if __name__ == "__main__":
    logs.configure("info", "json")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(timed(Inside.model_validate_json(sys.stdin.read()))).model_dump_json())
