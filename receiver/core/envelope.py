"""The CloudEvents 1.0 envelope, structured JSON, in which every sink but slack and apprise gives a verdict on."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from receiver.core.verdict import SCHEMA_ID, Verdict

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
DATA_CONTENT_TYPE = "application/json"
"""Of the verdict by itself, as a broker's binary mode has it."""


@dataclass(frozen=True)
class Message:
    """One revision of one verdict on its way to one sink.

    `source` is the address of Runflow's evaluations; `replay_id` is set when somebody asked for it to be sent again.
    """

    verdict: Verdict
    source: str
    replay_id: str | None = None

    @property
    def id(self) -> str:
        """The CloudEvents id: the same for every retry, every process and every replay."""
        return self.verdict.message_id

    @property
    def key(self) -> str:
        """What the other side is given against repeats. A replay is meant to arrive, so it has a key of its own."""
        return self.id if self.replay_id is None else f"{self.id}:{self.replay_id}"

    @property
    def type(self) -> str:
        """`io.runflow.evaluation.completed` or `.failed`; `.revised` from the second revision on."""
        return "io.runflow." + ("evaluation.revised" if self.verdict.revision > 1 else self.verdict.event)

    @cached_property
    def cloud_event(self) -> bytes:
        """The whole envelope as JSON in UTF-8: structured mode."""
        return JSONFormat().write(CloudEvent(dict(self._attributes), self.verdict.model_dump(mode="json")))

    @property
    def attributes(self) -> dict[str, str]:
        """What the envelope says beside `data`, each in its canonical text: for the headers of a broker's binary mode."""
        return {name: _text(value) for name, value in {"specversion": "1.0", **self._attributes}.items()}

    @cached_property
    def data(self) -> bytes:
        """The verdict by itself as JSON in UTF-8: the body of a broker's binary mode."""
        return self.verdict.model_dump_json().encode()

    @property
    def _attributes(self) -> Mapping[str, str | datetime]:
        verdict = self.verdict
        attributes: dict[str, str | datetime] = {
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "subject": str(verdict.evaluation_id),
            "time": verdict.completed_at or verdict.received_at,
            "dataschema": SCHEMA_ID,
            "datacontenttype": DATA_CONTENT_TYPE,
        }
        return attributes if self.replay_id is None else {**attributes, "replayid": self.replay_id}


def _text(value: str | datetime) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
