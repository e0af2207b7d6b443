"""What a genuine callback body is: an evaluation's event, another kind of event, or something not understood.

Deciding that needs two fields, `event` and `evaluation_id`; all others are read leniently afterwards (`Callback`), because
an odd field is no reason to hold a verdict back: the fetch settles it.
"""

import re
from typing import Any, NamedTuple
from uuid import UUID

import pydantic_core

from receiver.core.lenient import Lenient, Number, Text, Texts, Timestamp

EVALUATION_EVENTS = frozenset({"evaluation.completed", "evaluation.failed"})
SAMPLE_PREFIX = "00000000-"
"""Evaluation ids of `receiver send` start with this; their verdicts stay out of all sinks but `file`."""

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EvaluationEvent(NamedTuple):
    """`evaluation.completed` or `evaluation.failed`: the key under which it is stored once."""

    evaluation_id: UUID
    event: str


class OtherEvent(NamedTuple):
    """Genuine and well-formed, but of another kind: `run.*`, `batch.*`, or one that Runflow added later."""

    event: str


class NotUnderstood(NamedTuple):
    """Genuine, but not readable as an event; `why` is for people."""

    why: str


class Callback(Lenient):
    """The body of an evaluation's callback; every field may be missing, null or odd. (docs.runflow.io/concepts/evaluations)"""

    status: Text | None = None
    client_ref: Text | None = None
    run_id: Text | None = None
    overall_passed: bool | None = None
    weighted_pass_rate: Number | None = None
    top_issues: Texts | None = None
    top_strengths: Texts | None = None
    primary_action_code: Text | None = None
    failure_code: Text | None = None
    completed_at: Timestamp | None = None


def understand(body: bytes) -> EvaluationEvent | OtherEvent | NotUnderstood:
    """Tells what a genuine body is. Never raises."""
    try:
        content: Any = pydantic_core.from_json(without_mark(body))
    except ValueError as error:
        return NotUnderstood(f"not JSON: {error}")
    if not isinstance(content, dict):
        return NotUnderstood("JSON, but not an object")
    event = content.get("event")
    if not isinstance(event, str):
        return NotUnderstood("no string `event`")
    if not event.startswith("evaluation."):
        return OtherEvent(event)
    evaluation_id = content.get("evaluation_id")
    if not isinstance(evaluation_id, str) or not _UUID.fullmatch(evaluation_id):
        return NotUnderstood(f"{event[:64]} without a UUID `evaluation_id`")
    return EvaluationEvent(UUID(evaluation_id), event) if event in EVALUATION_EVENTS else OtherEvent(event)


def read_callback(body: bytes, event: str) -> tuple[Callback, list[str]]:
    """The fields of an evaluation's event, and what was odd about them, a short phrase each."""
    callback, oddities = Callback.read(without_mark(body))
    expected = event.removeprefix("evaluation.")
    if callback.status not in (expected, None):
        oddities.append(f"status {callback.status[:64]!r} in an event {event}")
    return callback, oddities


def without_mark(body: bytes) -> bytes:
    """The body without the byte order mark that some proxies and editors put before JSON (RFC 8259, section 8.1)."""
    return body.removeprefix(_BYTE_ORDER_MARK)
