"""`kafka`: produces each message to a topic, keyed by its evaluation (kafka.apache.org/documentation/#semantics).

Done is the acknowledgement of all in-sync replicas. Structured and binary mode are those of the CloudEvents binding.
(github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md)
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from receiver.core.envelope import CONTENT_TYPE, Message
from receiver.sinks.base import Again, Done, Down, Never, Outcome, SinkError
from receiver.sinks.connecting import BROKEN, TlsOptions

if TYPE_CHECKING:
    from receiver.sinks.kafka_session import Record, Report, Session

_SERVER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/,@\[\]]+)(:(\d{1,5}))?")

_TROUBLES = {
    "_UNKNOWN_TOPIC": "the topic {} is not there",
    "UNKNOWN_TOPIC_OR_PART": "the topic {} is not there",
    "TOPIC_AUTHORIZATION_FAILED": "our user may not write to the topic {}, or it is not there",
    "CLUSTER_AUTHORIZATION_FAILED": "our user may not write idempotently: it needs IDEMPOTENT_WRITE on the cluster",
    "_AUTHENTICATION": "it does not take our credentials, or not in this way",
    "SASL_AUTHENTICATION_FAILED": "it does not take our credentials",
    "THROTTLING_QUOTA_EXCEEDED": "it has had too much",
    "_ALL_BROKERS_DOWN": "no connection to any broker",
    "_TRANSPORT": BROKEN,
    "_REFUSED": "cannot connect: refused",
    "_RESOLVE": "cannot connect: its name is not known",
    "_SSL": "TLS failed: its certificate is not good, or ours is not",
    "_FATAL": "the producer had to end",
    "_PURGE_QUEUE": "no connection to any broker",
    "_PURGE_INFLIGHT": "no connection to any broker",
    "KAFKA_STORAGE_ERROR": "its disk does not take it",
}
"""Errors, by librdkafka's name for them (or ours), that are not the message's fault."""
_TOO_LARGE = frozenset({"MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"})
_NOT_TAKEN = {"INVALID_RECORD": "the topic does not take it", "INVALID_MSG": "the broker does not take it"}


def _servers(servers: str) -> str:
    matches = [_SERVER.fullmatch(each.strip()) for each in servers.split(",")]
    if not all(match and 0 < int(match[3] or 9092) < 65536 for match in matches):
        raise ValueError("must be host[:port], or several with commas between, without a scheme and without a password")
    return servers


class KafkaOptions(TlsOptions):
    """Which topic of which cluster, and who we are."""

    asks_for_tls: ClassVar[str] = "tls = true"

    type: Literal["kafka"] = "kafka"
    bootstrap_servers: Annotated[str, AfterValidator(_servers)] = Field(
        description="`host[:port]` of a broker, several with commas between: the first to be asked for all the others."
    )
    topic: str = Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$", description="The topic.")
    mode: Literal["structured", "binary"] = Field(
        default="structured", description="The whole envelope as JSON, or the verdict with the rest in headers."
    )
    max_bytes: int = Field(
        default=1_000_000,
        ge=1000,
        le=1_000_000_000,
        description="A larger message is a dead letter that says its size: what the topic takes (`max.message.bytes`).",
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        default="none", description="How messages are compressed, for the brokers and consumers as well."
    )
    tls: bool = Field(default=False, description="Whether the connections are TLS. Certificates are always verified.")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="How we say who we are: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`."
    )
    username: str | None = Field(default=None, min_length=1, description="Our user, with `sasl_mechanism`.")
    password: SecretStr | None = Field(default=None, min_length=1, description="Its password. It is never shown.")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if len({self.sasl_mechanism is None, self.username is None, self.password is None}) > 1:
            raise ValueError("sasl_mechanism, username and password go together")
        return self

    @property
    def needs_tls(self) -> bool:
        """As `tls` says."""
        return self.tls

    def open(self, _public_url: str | None, /) -> "KafkaSink":
        """The sink; messages hold no link to us."""
        return KafkaSink(self)


class KafkaSink:
    """Done is the acknowledgement of all in-sync replicas. Kafka drops the repeats of a producer's own retries, no others.

    A producer that had trouble is not used again: it would keep in mind what a new one finds to be over.
    """

    batch: ClassVar[int] = 100

    def __init__(self, options: KafkaOptions) -> None:
        from receiver.sinks import kafka_session

        self._options = options
        self._sessions = kafka_session
        self._session: Session | None = None

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Produces all, then waits for what becomes of each."""
        try:
            session, spent = self._usable()
        except SinkError as error:
            return [Down(str(error))] * len(messages)
        outcomes: Sequence[Outcome] = []
        try:
            reports = await session.deliver([self._record(message) for message in messages])
            outcomes = [self._outcome(*pair) for pair in zip(messages, reports, strict=True)]
        finally:
            await session.leave(spent=any(isinstance(outcome, Again | Down) for outcome in outcomes))
            if (
                spent is not None
            ):  # closed in a thread: where it is only dropped, it is closed here, and waits for its own
                await spent.leave(spent=True)
        return outcomes

    def _usable(self) -> "tuple[Session, Session | None]":
        """The one to use, and the one in whose place it has just come."""
        before = self._session
        if before is not None and not before.is_spent:
            return before, None
        self._session = self._sessions.Session(self._options)
        return self._session, before

    def _record(self, message: Message) -> "Record":
        headers: dict[str, str | bytes | None] = {"id": message.key, "type": message.type, "content-type": CONTENT_TYPE}
        if self._options.mode == "binary":
            attributes = message.attributes
            headers["content-type"] = attributes.pop("datacontenttype")
            headers |= {f"ce_{name}": text for name, text in attributes.items()}
        return self._sessions.Record(message.subject, self._body(message), headers)

    def _body(self, message: Message) -> bytes:
        return message.data if self._options.mode == "binary" else message.cloud_event

    def _outcome(self, message: Message, report: "Report") -> Outcome:
        name = report.error
        if name is None:
            return Done(report.place)
        if name in _TOO_LARGE:
            size = len(self._body(message))
            return Never(f"the message has {size} bytes, more than max_bytes or the topic's max.message.bytes")
        if name in _NOT_TAKEN:
            return Never(f"{name}: {_NOT_TAKEN[name]}")
        return Down(self._why(name)) if name in _TROUBLES else Again(self._why(name))

    def _why(self, name: str) -> str:
        if name in ("_MSG_TIMED_OUT", "_TIMED_OUT"):
            return "no answer in time"
        return _TROUBLES.get(name, f"it answered with an error ({name})").format(self._options.topic)

    async def check(self) -> str:
        """Asks for the topic, which is not made by that."""
        found = await self._sessions.describe(self._options)
        if found.error is not None:
            raise SinkError(self._why(found.error))
        partitions = f"{found.partitions} partition{'s' if found.partitions > 1 else ''}"
        return f"answers; the topic {self._options.topic} has {partitions}; whether we may write was not tried"

    async def close(self) -> None:
        """Ends the producer. What it still holds is given up."""
        if self._session is not None:
            await self._session.close()
