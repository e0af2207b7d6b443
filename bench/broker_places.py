"""Each broker with a sink that leads there, and its bare client doing the same: the same ids, promise and batches.

The bare client is given the finished bytes.
"""

import asyncio
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import aio_pika
import httpx
import nats
from aiobotocore.session import AioSession
from confluent_kafka import Producer
from nats.js.api import PubAck
from pydantic import SecretStr
from redis.asyncio import Redis
from standardwebhooks import Webhook

from bench.callbacks import PATH
from bench.processes import cores, serving
from receiver.core.envelope import CONTENT_TYPE
from receiver.sinks.amqp import AmqpOptions
from receiver.sinks.base import Sink
from receiver.sinks.http import HttpOptions
from receiver.sinks.nats import NatsOptions
from receiver.sinks.redis import RedisOptions
from tests.sinks.kafka_side import KafkaCluster
from tests.sinks.sqs_side import REGION, SqsServer

TIMEOUT = 60.0
SIGNING = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


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


@asynccontextmanager
async def _kafka(_: str) -> AsyncIterator[Broker]:
    cluster = await asyncio.to_thread(KafkaCluster)
    topic = cluster.topic()
    producer = Producer(
        {"bootstrap.servers": cluster.address, "enable.idempotence": True, "acks": "all", "log_level": 0}
    )

    async def bare(messages: Sequence[Ready]) -> None:
        refused: list[Any] = []

        def told(error: Any, _message: Any) -> None:
            if error is not None:
                refused.append(error)

        for each in messages:
            headers: Any = {"id": each.key, "type": each.type, "content-type": CONTENT_TYPE}
            producer.produce(topic, each.body, each.key[:36], headers=headers, on_delivery=told)
        await asyncio.to_thread(producer.flush)
        if refused:
            raise ValueError("the broker did not take a message")

    try:
        yield Broker(cluster.sink(topic, timeout=TIMEOUT), bare)
    finally:
        cluster.end()


@asynccontextmanager
async def _sqs(*, fifo: bool) -> AsyncIterator[Broker]:
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    server = await asyncio.to_thread(SqsServer)
    try:
        queue = server.make(f"bench{'.fifo' if fifo else ''}")
        making = AioSession().create_client("sqs", region_name=REGION, endpoint_url=server.endpoint)
        async with making as client:
            sends: Any = client

            async def bare(messages: Sequence[Ready]) -> None:
                answer = await sends.send_message_batch(
                    QueueUrl=queue.url,
                    Entries=[_entry(number, each, fifo=fifo) for number, each in enumerate(messages)],
                )
                if len(answer["Successful"]) != len(messages):
                    raise ValueError("the queue did not take a message")

            yield Broker(queue.sink(timeout=TIMEOUT), bare)
    finally:
        server.end()


def _entry(number: int, message: Ready, *, fifo: bool) -> dict[str, Any]:
    attributes = {"content-type": CONTENT_TYPE, "id": message.key, "type": message.type}
    entry: dict[str, Any] = {
        "Id": str(number),
        "MessageBody": message.body.decode(),
        "MessageAttributes": {name: {"DataType": "String", "StringValue": text} for name, text in attributes.items()},
    }
    return entry | ({"MessageDeduplicationId": message.key, "MessageGroupId": message.key[:36]} if fifo else {})


@asynccontextmanager
async def _http(_: str) -> AsyncIterator[Broker]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="receiver-bench-")))
        server = stack.enter_context(serving(["bench.server", "empty"], cores()[1], {}, folder))
        url, signer = f"http://127.0.0.1:{server.port}{PATH}", Webhook(SIGNING)
        async with httpx.AsyncClient() as client:

            async def bare(messages: Sequence[Ready]) -> None:
                for each in messages:
                    now = datetime.now(UTC)
                    signature = signer.sign(each.key, now, each.body.decode())
                    headers = {
                        "content-type": CONTENT_TYPE, "webhook-id": each.key,
                        "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature,
                    }  # fmt: skip
                    (await client.post(url, content=each.body, headers=headers)).raise_for_status()

            options = HttpOptions(name="it", url=SecretStr(url), secret=SecretStr(SIGNING), timeout=TIMEOUT)
            yield Broker(options.open(None), bare)


BROKERS: Mapping[str, tuple[Callable[[str], AbstractAsyncContextManager[Broker]], str]] = {
    "redis": (_redis, "redis://127.0.0.1:6379/9"),
    "nats": (_nats, "nats://127.0.0.1:4222"),
    "amqp": (_amqp, "amqp://guest:guest@127.0.0.1:5672/"),
    "kafka": (_kafka, ""),
    "sqs": (lambda _: _sqs(fifo=False), ""),
    "sqs-fifo": (lambda _: _sqs(fifo=True), ""),
    "http": (_http, ""),
}
"""By the word of the sink; where each is looked for, unless the environment has BENCH_REDIS_URL and so on.

Those without an address are started for the measurement: librdkafka's own cluster, moto's SQS, and a server that only answers.
"""


def opened(kind: str) -> AbstractAsyncContextManager[Broker]:
    """The broker of this kind, with a sink to it and its bare client."""
    make, _ = BROKERS[kind]
    return make(address_of(kind))


def address_of(kind: str) -> str:
    """Where it is looked for, or nothing where it is started."""
    return os.environ.get(f"BENCH_{kind.upper()}_URL", BROKERS[kind][1])


def is_there(kind: str) -> bool:
    """Whether somebody listens, where it is not started for the measurement."""
    parts = urlsplit(address_of(kind))
    if parts.hostname is None:
        return True
    try:
        with socket.create_connection((parts.hostname, parts.port or 0), timeout=2):
            return True
    except OSError:
        return False
