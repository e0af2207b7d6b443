"""The CloudEvents 1.0 envelope, structured JSON, in which every sink but slack and apprise gives a verdict on."""

from functools import cached_property

import msgspec
import orjson

from receiver.core.verdict import SCHEMA_ID, Verdict, message_id

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
DATA_CONTENT_TYPE = "application/json"
"""Of the verdict by itself, as a broker's binary mode has it."""


class _Head(msgspec.Struct):
    """What an envelope says of its verdict, as it is written there: `msgspec` passes over all else."""

    evaluation_id: str
    event: str
    revision: int
    completed_at: str | None
    received_at: str


_read_head = msgspec.json.Decoder(_Head).decode


class Message:
    """One revision of one verdict on its way to one sink.

    `verdict` may be the JSON that it is stored as. It goes out as these bytes, and is read when a sink wants to look inside.
    `source` is the address of Runflow's evaluations; `replay_id` is set when somebody asked for it to be sent again.
    `follows` is set for a sink that keeps together what is about the same: its own word for what it was sent before.
    """

    def __init__(self, verdict: Verdict | str, source: str, replay_id: str | None = None) -> None:
        self._given = verdict
        self.source = source
        self.replay_id = replay_id
        self.follows: str | None = None

    @cached_property
    def verdict(self) -> Verdict:
        """All that it says."""
        return Verdict.model_validate_json(self._given) if isinstance(self._given, str) else self._given

    def read(self) -> None:
        """Reads all that it says, so that `verdict` is there at once."""
        _ = self.verdict

    @cached_property
    def _head(self) -> _Head:
        return _read_head(self.data)

    @property
    def subject(self) -> str:
        """The evaluation's id: messages with the same one belong together, in order."""
        return self._head.evaluation_id

    @cached_property
    def id(self) -> str:
        """The CloudEvents id: the same for every retry, every process and every replay."""
        return message_id(self._head.evaluation_id, self._head.event, self._head.revision)

    @property
    def key(self) -> str:
        """What the other side is given against repeats. A replay is meant to arrive, so it has a key of its own."""
        return self.id if self.replay_id is None else f"{self.id}:{self.replay_id}"

    @property
    def type(self) -> str:
        """`io.runflow.evaluation.completed` or `.failed`; `.revised` from the second revision on."""
        return "io.runflow." + ("evaluation.revised" if self._head.revision > 1 else self._head.event)

    @cached_property
    def cloud_event(self) -> bytes:
        """The whole envelope as JSON in UTF-8: structured mode."""
        return b'%b,"data":%b}' % (orjson.dumps(self.attributes).removesuffix(b"}"), self.data)

    @property
    def attributes(self) -> dict[str, str]:
        """What the envelope says beside `data`, each in its canonical text: for the headers of a broker's binary mode.

        (github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#required-attributes)
        """
        head = self._head
        attributes = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "subject": head.evaluation_id,
            "time": head.completed_at or head.received_at,
            "dataschema": SCHEMA_ID,
            "datacontenttype": DATA_CONTENT_TYPE,
        }
        if self.replay_id is not None:
            attributes["replayid"] = self.replay_id
        return attributes

    @cached_property
    def data(self) -> bytes:
        """The verdict by itself as JSON in UTF-8: the body of a broker's binary mode."""
        return (self._given if isinstance(self._given, str) else self._given.model_dump_json()).encode()
