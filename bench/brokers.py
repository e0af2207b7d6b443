"""Messages a second into each broker, by the real sink and by its bare client; and memory while a broker is down.

    python -m bench.brokers            all of it; --help has the rest

The sink is given messages as the lanes give them, the JSON that is stored, in batches of its own size, several at once. The
bare client is given the finished bytes and does the same: it publishes them, with the same id and the same promise, and waits
for the broker's answer to each. The brokers must run; what is made there is removed again.
"""

import asyncio
import gc
import os
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from uuid import uuid4

import aio_pika
import click
import nats
import uvloop
from nats.js.api import PubAck
from pydantic import BaseModel, SecretStr
from redis.asyncio import Redis

from bench import stores
from bench.backlog import kinds, make_due, store_verdicts
from bench.callbacks import uuid7
from bench.figures import Figure, figure
from bench.processes import Memory, memory_of
from bench.tables import table
from receiver import logs
from receiver.core.envelope import CONTENT_TYPE, Message
from receiver.pipeline.deliver import SinkLane, SinkPlan
from receiver.pipeline.station import Bells, Station
from receiver.sinks.amqp import AmqpOptions
from receiver.sinks.base import Done, Sink
from receiver.sinks.nats import NatsOptions
from receiver.sinks.redis import RedisOptions
from receiver.store import schema
from receiver.store.database import open_database

SOURCE = "https://api.runflow.io/v1/evaluations"
CONCURRENCY = 8
"""Batches at once, as sinks have it where settings say nothing."""
TIMEOUT = 60.0
Who = Literal["sink", "bare"]
Fails = Literal["refuses", "silent"]


class Ready(NamedTuple):
    """A message as the bare client gets it: nothing is left to be made."""

    key: str
    type: str
    body: bytes


Bare = Callable[[Sequence[Ready]], Awaitable[None]]


class Broker(NamedTuple):
    """A place in a running broker: a sink that leads there, and its client doing the same."""

    sink: Sink
    bare: Bare


@asynccontextmanager
async def _redis(url: str) -> AsyncIterator[Broker]:
    stream = f"bench.{uuid4()}"
    async with Redis.from_url(url) as client:

        async def bare(messages: Sequence[Ready]) -> None:
            async with client.pipeline(transaction=False) as pipeline:
                for each in messages:
                    pipeline.xadd(stream, {"id": each.key, "type": each.type, "event": each.body})
                await pipeline.execute()

        sink = RedisOptions(name="it", url=SecretStr(url), stream=stream, timeout=TIMEOUT, remember=60).open(None)
        try:
            yield Broker(sink, bare)
        finally:
            await client.delete(stream)


@asynccontextmanager
async def _nats(url: str) -> AsyncIterator[Broker]:
    stream = f"bench-{uuid4()}"
    client = await nats.connect(url)
    jetstream = client.jetstream(timeout=TIMEOUT)
    await jetstream.add_stream(name=stream, subjects=[f"to.{stream}"])

    async def bare(messages: Sequence[Ready]) -> None:
        await asyncio.gather(*(publish(each) for each in messages))

    async def publish(each: Ready) -> PubAck:
        headers = {"Nats-Msg-Id": each.key, "Content-Type": CONTENT_TYPE}
        return await jetstream.publish(f"to.{stream}", each.body, headers=headers)

    sink = NatsOptions(name="it", url=SecretStr(url), subject=f"to.{stream}", timeout=TIMEOUT).open(None)
    try:
        yield Broker(sink, bare)
    finally:
        await jetstream.delete_stream(stream)
        await client.close()


@asynccontextmanager
async def _amqp(url: str) -> AsyncIterator[Broker]:
    name = f"bench.{uuid4()}"
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(on_return_raises=True)
        queue = await channel.declare_queue(name, durable=True)

        async def bare(messages: Sequence[Ready]) -> None:
            await asyncio.gather(*(publish(each) for each in messages))

        async def publish(each: Ready) -> Any:
            outgoing = aio_pika.Message(
                each.body, content_type=CONTENT_TYPE, message_id=each.key, type=each.type, delivery_mode=2
            )
            return await channel.default_exchange.publish(outgoing, name, mandatory=True)

        sink = AmqpOptions(name="it", url=SecretStr(url), routing_key=name, timeout=TIMEOUT).open(None)
        try:
            yield Broker(sink, bare)
        finally:
            await queue.delete(if_unused=False, if_empty=False)


BROKERS: Mapping[str, tuple[Callable[[str], AbstractAsyncContextManager[Broker]], str]] = {
    "redis": (_redis, "redis://127.0.0.1:6379/9"),
    "nats": (_nats, "nats://127.0.0.1:4222"),
    "amqp": (_amqp, "amqp://guest:guest@127.0.0.1/"),
}
"""By the word of the sink; where each is looked for, unless the environment has BENCH_REDIS_URL and so on."""


class Sent(NamedTuple):
    """So many a second, and our CPU time for each."""

    per_second: float
    cpu_us: float


class Rates(BaseModel):
    """`kept`: the sink's rate over the bare client's, in the same round; `kept_cpu`: the same by our CPU time."""

    broker: str
    sink: Figure
    bare: Figure
    kept: Figure
    sink_cpu_us: Figure
    bare_cpu_us: Figure
    kept_cpu: Figure


def messages(count: int) -> Iterator[Message]:
    """As a lane makes them: each of its own evaluation, in the JSON that is stored."""
    documents = [(str(each.evaluation_id), each.complete.model_dump_json()) for each in kinds()]
    for (old, document), _ in zip(cycle(documents), range(count), strict=False):
        yield Message(document.replace(old, str(uuid7())), SOURCE)


async def rates(kind: str, *, count: int, rounds: int) -> Rates:
    """The sink and the bare client in turns. Raises ValueError if a message was not taken."""
    opened, default = BROKERS[kind]
    found: dict[Who, list[Sent]] = {"sink": [], "bare": []}
    async with opened(os.environ.get(f"BENCH_{kind.upper()}_URL", default)) as broker:
        await _sent(broker, "sink", broker.sink.batch * CONCURRENCY)
        for number in range(rounds):
            order: tuple[Who, ...] = ("sink", "bare") if number % 2 == 0 else ("bare", "sink")
            for who in order:
                found[who].append(await _sent(broker, who, count))
        await broker.sink.close()
    sink, bare = found["sink"], found["bare"]
    return Rates(
        broker=kind,
        sink=figure(each.per_second for each in sink),
        bare=figure(each.per_second for each in bare),
        kept=figure(one.per_second / two.per_second for one, two in zip(sink, bare, strict=True)),
        sink_cpu_us=figure(each.cpu_us for each in sink),
        bare_cpu_us=figure(each.cpu_us for each in bare),
        kept_cpu=figure(two.cpu_us / one.cpu_us for one, two in zip(sink, bare, strict=True)),
    )


async def _sent(broker: Broker, who: Who, count: int) -> Sent:
    made = list(messages(count))
    ready = [Ready(each.key, each.type, each.cloud_event) for each in messages(count)] if who == "bare" else []
    size = broker.sink.batch
    starts = iter(range(0, count, size))

    async def work() -> None:
        for start in starts:  # one iterator for all: whoever is free takes the next batch
            if who == "bare":
                await broker.bare(ready[start : start + size])
            elif not all(isinstance(each, Done) for each in await broker.sink.send(made[start : start + size])):
                raise ValueError("the broker did not take a message")

    gc.collect()
    began, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(work())
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Sent(count / seconds, cpu / count * 1e6)


class Down(BaseModel):
    """Resident memory of a process whose one sink is down, while messages wait for it."""

    broker: str
    fails: Fails
    waiting: int
    memory: Memory


def _sink_to(kind: str, port: int) -> Sink:
    place = f"127.0.0.1:{port}"
    if kind == "redis":
        return RedisOptions(name="it", url=SecretStr(f"redis://{place}"), stream="s", timeout=1).open(None)
    if kind == "nats":
        return NatsOptions(name="it", url=SecretStr(f"nats://{place}"), subject="s", timeout=1).open(None)
    return AmqpOptions(name="it", url=SecretStr(f"amqp://{place}"), routing_key="s", timeout=1).open(None)


@contextmanager
def _dead(fails: Fails) -> Iterator[int]:
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        if fails == "silent":
            there.listen(1024)  # the system takes connections, and nobody reads them
        yield there.getsockname()[1]


async def down(kind: str, fails: Fails, url: str, *, waiting: int, seconds: float) -> Down:
    """The lane of a sink that is down, for so long, on a database in which so many messages wait for it."""
    database = open_database(url)
    await schema.upgrade(database)
    name = f"{kind}-{fails}"
    await make_due(database, name, await store_verdicts(database, waiting, complete=True))
    with _dead(fails) as port:
        sink, bells = _sink_to(kind, port), Bells(database)
        plan = SinkPlan(name, sink, 1.0, CONCURRENCY, rate=None, dead_after=timedelta(days=1))
        lane = SinkLane(database, bells, plan, source=SOURCE, process="bench")
        station = Station(lane.name, lane.step, bells, database.now)
        gc.collect()
        with memory_of(os.getpid()) as memory:
            running = asyncio.create_task(station.run())
            await asyncio.sleep(seconds)
        station.stop()
        await running
        await lane.stop(grace=0)
        await sink.close()
    await database.close()
    return Down(broker=kind, fails=fails, waiting=waiting, memory=memory)


def _rates_table(found: Sequence[Rates]) -> str:
    head = ["broker", "sink, messages/s", "bare client", "of the bare", "the same by CPU", "CPU, µs each: sink", "bare"]
    return table(
        head,
        [
            [
                each.broker,
                each.sink.shown(),
                each.bare.shown(),
                each.kept.shown(2),
                each.kept_cpu.shown(2),
                each.sink_cpu_us.shown(),
                each.bare_cpu_us.shown(),
            ]
            for each in found
        ],
    )


def _down_table(found: Sequence[Down]) -> str:
    head = ["broker that is down", "how", "messages that wait", "memory, MB, over time", "highest"]
    return table(
        head,
        [
            [each.broker, each.fails, f"{each.waiting:,}", each.memory.shown(), f"{each.memory.highest:.0f}"]
            for each in found
        ],
        texts=2,
    )


@click.command()
@click.option("--brokers", default=",".join(BROKERS), show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--count", type=click.IntRange(1), default=4_000, show_default=True, help="Messages of each measurement.")
@click.option("--waiting", type=int, default=50_000, show_default=True, help="Messages that wait for one that is down.")
@click.option("--seconds", type=float, default=8.0, show_default=True, help="How long it is down; 0 leaves that out.")
def main(brokers: str, rounds: int, count: int, waiting: int, seconds: float) -> None:
    """Measure, and print the tables."""
    logs.configure("critical", "json")
    chosen = brokers.split(",")
    if unknown := set(chosen) - BROKERS.keys():
        raise click.UsageError(f"--brokers: there is no {', '.join(sorted(unknown))}")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if seconds:
            dead = [
                runner.run(_down_somewhere(kind, fails, waiting, seconds))
                for kind in chosen
                for fails in get_args(Fails)
            ]
            click.echo(_down_table(dead) + "\n")
        click.echo(_rates_table([runner.run(rates(each, count=count, rounds=rounds)) for each in chosen]))


async def _down_somewhere(kind: str, fails: Fails, waiting: int, seconds: float) -> Down:
    with (
        tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder,
        stores.database("sqlite", Path(folder), "") as url,
    ):
        return await down(kind, fails, url, waiting=waiting, seconds=seconds)


if __name__ == "__main__":
    main()
