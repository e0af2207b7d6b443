"""A cluster and its topics as the tests of the `kafka` sink see them."""

import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from receiver.sinks.kafka import KafkaOptions, KafkaSink
from tests.sinks.servers import LONG

_PROGRAM = Path(__file__).with_name("kafka_mock.py")
UNKNOWN_TOPIC, TOO_LARGE, NOT_YOURS, NOT_YOUR_CLUSTER, THROTTLED, BAD_RECORD, ODD = 3, 10, 29, 31, 89, 87, 42
"""Codes of errors (kafka.apache.org/protocol#protocol_error_codes)."""


class Record(NamedTuple):
    """What a consumer is given."""

    key: str
    value: bytes
    headers: dict[str, str]


class KafkaCluster:
    """One broker, in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._line()

    @property
    def port(self) -> int:
        """Of its address, on this machine."""
        return int(self.address.rpartition(":")[2])

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the cluster has ended"
        return line

    def tell(self, *words: object) -> None:
        """See `kafka_mock`."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        self._line()

    def topic(self) -> str:
        """A new one, with one partition."""
        name = f"test.{uuid.uuid4()}"
        self.tell("topic", name)
        return name

    def records(self, topic: str) -> list[Record]:
        """All that the topic holds, in order, as Kafka's own consumer reads it."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.address,
                "group.id": "tests",
                "enable.partition.eof": False,
                "fetch.max.bytes": 200_000_000,
                "fetch.message.max.bytes": 100_000_000,
                "receive.message.max.bytes": 300_000_000,
                "fetch.wait.max.ms": 10,
            }
        )
        try:
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=LONG)
            consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
            return _read(consumer, end)
        finally:
            consumer.close()

    def sink(self, topic: str, **changes: Any) -> KafkaSink:
        """A sink that leads there."""
        return KafkaSink(self.options(topic, **changes))

    def options(self, topic: str, **changes: Any) -> KafkaOptions:
        """Options that lead there."""
        given = {"name": "it", "bootstrap_servers": self.address, "topic": topic, "timeout": LONG, **changes}
        return KafkaOptions.model_validate(given)

    def end(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()


def _read(consumer: Consumer, end: int) -> list[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + LONG
    while len(records) < end:
        assert time.monotonic() < deadline, f"{len(records)} of {end} records came"
        for message in consumer.consume(end - len(records), timeout=0.5):
            assert message.error() is None, message.error()
            read: Any = message  # typed loosely, as the library does not say which of its answers come as what
            headers = {name: value.decode() for name, value in read.headers()}
            records.append(Record(read.key().decode(), read.value(), headers))
    return records
