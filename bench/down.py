"""Memory while a broker is down and many messages wait for it: it must be the lane's, and not grow with what waits."""

import asyncio
import gc
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, SecretStr

from bench.backlog import make_due, store_verdicts
from bench.broker_places import SIGNING
from bench.processes import Memory, memory_of
from bench.tables import table
from receiver.pipeline.deliver import SinkLane, SinkPlan
from receiver.pipeline.station import Bells, Station
from receiver.sinks.amqp import AmqpOptions
from receiver.sinks.base import SinkOptions
from receiver.sinks.http import HttpOptions
from receiver.sinks.kafka import KafkaOptions
from receiver.sinks.nats import NatsOptions
from receiver.sinks.redis import RedisOptions
from receiver.sinks.sqs import SqsOptions
from receiver.store import schema
from receiver.store.database import Database, open_database

Fails = Literal["refuses", "silent"]
CONCURRENCY = 8
MOST_VERDICTS = 10_000
"""Of as many each has one message that waits; where more wait, the others are replays of these."""


class Down(BaseModel):
    """Resident memory of a process whose one sink is down, while messages wait for it."""

    store: str
    broker: str
    fails: Fails
    waiting: int
    memory: Memory

    @property
    def grew(self) -> float:
        """MB, from the first look to the highest."""
        return self.memory.highest - self.memory.series[0][1]


def _options(kind: str, port: int) -> SinkOptions:
    place = f"127.0.0.1:{port}"
    match kind:
        case "redis":
            return RedisOptions(name="it", url=SecretStr(f"redis://{place}"), stream="s", timeout=1)
        case "nats":
            return NatsOptions(name="it", url=SecretStr(f"nats://{place}"), subject="s", timeout=1)
        case "amqp":
            return AmqpOptions(name="it", url=SecretStr(f"amqp://{place}"), routing_key="s", timeout=1)
        case "kafka":
            return KafkaOptions(name="it", bootstrap_servers=place, topic="s", timeout=1)
        case "http":
            return HttpOptions(name="it", url=SecretStr(f"http://{place}/"), secret=SecretStr(SIGNING), timeout=1)
    queue = f"http://{place}/1/it{'.fifo' if kind == 'sqs-fifo' else ''}"
    return SqsOptions(name="it", queue_url=queue, endpoint_url=f"http://{place}", region="eu-west-1", timeout=1)


@contextmanager
def _dead(fails: Fails) -> Iterator[int]:
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        if fails == "silent":
            there.listen(1024)  # the system takes connections, and nobody reads them
        yield there.getsockname()[1]


async def downs(
    store: str, url: str, kinds: Sequence[str], fails: Sequence[Fails], *, waiting: int, seconds: float
) -> list[Down]:
    """For each kind and way to fail: the lane of a sink that is down, for so long, while so many messages wait for it."""
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    database = open_database(url)
    try:
        await schema.upgrade(database)
        ids = await store_verdicts(database, min(waiting, MOST_VERDICTS), complete=True)
        found = []
        for kind in kinds:
            for way in fails:
                name = f"{kind}-{way}"
                await make_due(database, name, ids, times=max(waiting // len(ids), 1))
                memory = await _memory(database, name, kind, way, seconds)
                found.append(Down(store=store, broker=kind, fails=way, waiting=waiting, memory=memory))
    finally:
        await database.close()
    return found


async def _memory(database: Database, name: str, kind: str, way: Fails, seconds: float) -> Memory:
    with _dead(way) as port:
        sink, bells = _options(kind, port).open(None), Bells(database)
        plan = SinkPlan(name, sink, 1.0, CONCURRENCY, rate=None, dead_after=timedelta(days=1))
        lane = SinkLane(database, bells, plan, source="https://api.runflow.io/v1/evaluations", process="bench")
        station = Station(lane.name, lane.step, bells, database.now)
        gc.collect()
        with memory_of(os.getpid()) as memory:
            running = asyncio.create_task(station.run())
            await asyncio.sleep(seconds)
        station.stop()
        await running
        await lane.stop(grace=0)
        await sink.close()
    return memory


def down_table(found: Sequence[Down]) -> str:
    """For people."""
    head = ["broker that is down", "how", "database", "messages that wait", "memory, MB, over time", "highest", "grew"]
    return table(
        head,
        [
            [
                *(each.broker, each.fails, each.store, f"{each.waiting:,}", each.memory.shown()),
                *(f"{each.memory.highest:.0f}", f"{each.grew:.1f}"),
            ]
            for each in found
        ],
        texts=3,
    )
