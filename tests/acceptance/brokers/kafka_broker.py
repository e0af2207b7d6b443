"""Kafka: librdkafka's own cluster, which keeps what it has in memory."""

import asyncio
import json
from typing import Self

from tests.acceptance.brokers.base import Broker
from tests.acceptance.collector import Arrival
from tests.sinks.kafka_side import UNKNOWN_TOPIC, KafkaCluster


class KafkaBroker(Broker):
    """Read by a consumer. Repeats are dropped within a session of a producer only."""

    kind = "kafka"
    drops_repeats = False
    at_once = 8 * 100

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._cluster.tell("advertise", self.gap.port)
        return self

    async def start(self) -> int:
        """One for itself, as it tells where it is to be found. The topic is there once it is said to be."""
        self._cluster = await asyncio.to_thread(KafkaCluster)
        self._topic = self._cluster.topic()
        self._cluster.tell("topic-error", self._topic, UNKNOWN_TOPIC)
        return self._cluster.port

    async def make(self) -> None:
        self._cluster.tell("topic-error", self._topic, 0)

    def options(self) -> dict[str, str | float | bool]:
        return {"bootstrap_servers": f"127.0.0.1:{self.gap.port}", "topic": self._topic}

    async def received(self) -> list[Arrival]:
        records = await asyncio.to_thread(self._cluster.records, self._topic)
        return [Arrival(each.headers["id"], json.loads(each.value)) for each in records]

    async def end(self) -> None:
        await asyncio.to_thread(self._cluster.end)
