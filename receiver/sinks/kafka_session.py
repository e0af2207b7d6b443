"""One producer of the `kafka` sink, librdkafka's, and what it tells.

confluent-kafka's own asyncio producer (2.16) takes no headers; aiokafka (0.14) never gives up a message when its producer is
idempotent, and took more than twice the processor's time. So it is the plain producer, looked at from the event loop:
it has threads of its own, and none of its calls here waits.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import certifi
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from receiver.sinks.base import SinkError
from receiver.sinks.kafka import KafkaOptions

LOOK_EVERY = 0.002
"""Seconds between two looks at what has come."""
LINGER_MS = 2
"""Nobody looks sooner, and what is handed over together goes out in fewer requests."""
BATCH_BYTES = 64 * 1024
"""Messages that together are larger are not sent as one, so that what is too large for the topic is so by itself."""
ASK_FOR = 0.2
"""Seconds that a thread is held by a check before it looks whether there is anybody to ask."""

_SILENT = logging.getLogger("receiver.sinks.kafka.librdkafka")  # what it has to say is in the outcomes
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class Record(NamedTuple):
    """A message as Kafka has it."""

    key: str
    value: bytes
    headers: dict[str, str | bytes | None]


class Report(NamedTuple):
    """What became of a message: the place where it stands, or librdkafka's name for the error."""

    place: str | None
    error: str | None


class Found(NamedTuple):
    """What there is to tell of a topic: how many partitions, or the name of an error."""

    partitions: int
    error: str | None


LATE = Report(None, "_MSG_TIMED_OUT")
_WAITED = frozenset({"_MSG_TIMED_OUT", "_PURGE_QUEUE", "_PURGE_INFLIGHT"})


_SAID = (("SSL handshake failed", "_SSL"), ("Connection refused", "_REFUSED"))
"""What only the text of an error tells, and our name for it."""


class _Ear:
    """Hears of troubles with brokers, which are told beside the outcomes of messages."""

    def __init__(self) -> None:
        self.trouble: str | None = None
        """librdkafka's name for the newest."""
        self.is_lost = False
        """No broker is left."""

    def __call__(self, error: KafkaError) -> None:
        if error.name() == "_ALL_BROKERS_DOWN":
            self.is_lost = True
            self.trouble = self.trouble or error.name()
        else:
            self.trouble = next((name for said, name in _SAID if said in error.str()), error.name())


class Session:
    """An idempotent producer: what it sends again by itself is numbered, and stands in the topic once."""

    def __init__(self, options: KafkaOptions) -> None:
        """Raises `SinkError` if a file of TLS is not what it should be. Connects in the background."""
        milliseconds = max(10, int(options.timeout * 1000))
        self._topic = options.topic
        self._timeout = options.timeout
        self._ear = _Ear()
        self._users = 0
        self._is_closed = False
        self._had_trouble = False
        self._producer = _opened(
            {
                **_connection(options),
                "enable.idempotence": True,
                "acks": "all",
                "message.timeout.ms": milliseconds,
                "request.timeout.ms": milliseconds,
                "linger.ms": LINGER_MS,
                "batch.size": BATCH_BYTES,
                "message.max.bytes": options.max_bytes,
                "compression.type": options.compression,
                "partitioner": "murmur2_random",  # as all other clients but librdkafka's have it
                "topic.metadata.propagation.max.ms": min(2000, milliseconds // 2),
                "error_cb": self._ear,
            }
        )

    @property
    def is_spent(self) -> bool:
        """Whether another one should take its place."""
        if not self._had_trouble:
            self._look()
        return self._had_trouble or self._ear.is_lost

    async def deliver(self, records: Sequence[Record]) -> Sequence[Report]:
        """Hands all over, and tells of each what became of it."""
        reports: dict[int, Report] = {}
        self._users += 1
        try:
            for number, record in enumerate(records):
                self._hand_over(number, record, reports)
            await self._wait_for(reports, len(records))
        finally:
            self._users -= 1
        return [self._explained(reports.get(number, LATE)) for number in range(len(records))]

    def _hand_over(self, number: int, record: Record, reports: dict[int, Report]) -> None:
        def told(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                reports[number] = Report(None, error.name())
                return
            self._ear.trouble = None
            reports[number] = Report(f"{message.topic()}[{message.partition()}]@{message.offset()}", None)

        try:
            self._producer.produce(self._topic, record.value, record.key, headers=record.headers, on_delivery=told)
        except KafkaException as error:
            reports[number] = Report(None, error.args[0].name())

    async def _wait_for(self, reports: dict[int, Report], count: int) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        self._look()
        while len(reports) < count and loop.time() < deadline and not self._ear.is_lost:
            await asyncio.sleep(LOOK_EVERY)
            self._look()
        if self._ear.is_lost and not self._is_closed:
            # What waits would go out when a broker is back, and by then another producer has it too.
            self._purge()

    def _look(self) -> None:
        """Lets callbacks run. A fatal error is raised by that, each time."""
        if self._is_closed:
            self._ear.is_lost = True
            return
        try:
            self._producer.poll(0)
        except KafkaException as error:
            self._ear.trouble, self._ear.is_lost = error.args[0].name(), True

    def _purge(self) -> None:
        self._had_trouble = True
        self._producer.purge()
        self._look()

    def _explained(self, report: Report) -> Report:
        """With the trouble behind it, where a message is only said to have waited for too long."""
        return Report(None, self._ear.trouble) if report.error in _WAITED and self._ear.trouble else report

    async def leave(self, *, spent: bool) -> None:
        """Says that one is done with it. Nobody is to begin anew with one that is spent; the last to leave closes it."""
        self._had_trouble |= spent
        if self._had_trouble and not self._users:
            await self.close()

    async def close(self) -> None:
        """Gives up what it still holds, and its connections."""
        if not self._is_closed:
            self._purge()
            self._is_closed = True
            await asyncio.to_thread(self._producer.close)


async def describe(options: KafkaOptions) -> Found:
    """Asks for the topic without making it. Raises `SinkError` if a file of TLS is not what it should be."""
    ear = _Ear()
    client = _opened({**_connection(options), "allow.auto.create.topics": False, "error_cb": ear})
    loop = asyncio.get_running_loop()
    deadline = loop.time() + options.timeout
    while loop.time() < deadline and not ear.is_lost:
        found = await asyncio.to_thread(_ask, client, options.topic)
        if found is not None:
            return found
        client.poll(0)
    return Found(0, ear.trouble or ("_ALL_BROKERS_DOWN" if ear.is_lost else "_TIMED_OUT"))


def _ask(client: Producer, topic: str) -> Found | None:
    """None if there is no answer yet."""
    try:
        answer = client.list_topics(topic, timeout=ASK_FOR).topics[topic]
    except KafkaException:
        return None
    return Found(len(answer.partitions), None if answer.error is None else answer.error.name())


def _opened(config: dict[str, Any]) -> Producer:
    try:
        return Producer(config, logger=_SILENT)
    except KafkaException as error:
        said = error.args[0].str()
        if "ssl." in said:
            raise SinkError("tls_ca, tls_cert, tls_key: a file is not there, cannot be read, or is not PEM") from error
        raise SinkError(f"the client does not take these options ({error.args[0].name()})") from error


def _connection(options: KafkaOptions) -> dict[str, Any]:
    """What every client of ours is given."""
    config = {
        "bootstrap.servers": options.bootstrap_servers,
        "client.id": "runflow-receiver",
        "security.protocol": ("SASL_" if options.sasl_mechanism else "") + ("SSL" if options.tls else "PLAINTEXT"),
        "socket.timeout.ms": max(1000, int(options.timeout * 1000)),
        "socket.connection.setup.timeout.ms": max(1000, int(options.timeout * 1000)),
        "socket.keepalive.enable": True,
        "ssl.ca.location": options.tls_ca or certifi.where(),
        "ssl.certificate.location": options.tls_cert,
        "ssl.key.location": options.tls_key or options.tls_cert,
        "sasl.mechanism": options.sasl_mechanism,
        "sasl.username": options.username,
        "sasl.password": options.password.get_secret_value() if options.password else None,
    }
    return {name: value for name, value in config.items() if value is not None}
