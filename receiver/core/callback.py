"""What a genuine callback body is: an evaluation's event, another kind of event, or something not understood.

Deciding that needs two fields, `event` and `evaluation_id`; all others are read leniently afterwards (`Callback`), because
an odd field is no reason to hold a verdict back: the fetch settles it.
"""

import re
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec

from receiver.core.lenient import Lenient, Number, Text, Texts, Timestamp, read_json, without_nul

EVALUATION_EVENTS = frozenset({"evaluation.completed", "evaluation.failed"})
SAMPLE_PREFIX = "00000000-"
"""Evaluation ids of `receiver send` start with this; their verdicts stay out of all sinks but `file`."""

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NEVER_NULL = ("status", "completed_at")
"""Besides the two that make it an event, these are the fields that Runflow always fills."""


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


Meaning = EvaluationEvent | OtherEvent | NotUnderstood


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


class _Head(msgspec.Struct):
    """The two fields that decide. `msgspec` passes over all others: a sixth of the time that reading the whole takes."""

    event: str
    evaluation_id: UUID


_read_head = msgspec.json.Decoder(_Head).decode
as_json = msgspec.json.Encoder().encode
"""A UUID as JSON, in its quotes, in a sixth of the time of `str`."""


def understand(body: bytes) -> Meaning:
    """Tells what a genuine body is. Never raises."""
    try:
        head = _read_head(body.decode())  # decoded, because it would pass over bytes that are not UTF-8, too
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _understand_odd(body)
    if (
        head.event in EVALUATION_EVENTS and as_json(head.evaluation_id) in body
    ):  # else the UUID is written in another way
        return EvaluationEvent(head.evaluation_id, head.event)
    return _understand_odd(body)


def _understand_odd(body: bytes) -> Meaning:
    """What all but nearly all bodies need: reads leniently, and says what is wrong."""
    try:
        content: Any = read_json(body)
    except ValueError as error:
        return NotUnderstood(f"not JSON: {error}")
    if not isinstance(content, dict):
        return NotUnderstood("JSON, but not an object")
    event = content.get("event")
    if not isinstance(event, str):
        return NotUnderstood("no string `event`")
    event = without_nul(event)
    if not event.startswith("evaluation."):
        return OtherEvent(event)
    evaluation_id = content.get("evaluation_id")
    if not isinstance(evaluation_id, str) or not _UUID.fullmatch(evaluation_id):
        return NotUnderstood(f"{event[:64]} without a UUID `evaluation_id`")
    return EvaluationEvent(UUID(evaluation_id), event) if event in EVALUATION_EVENTS else OtherEvent(event)


def read_callback(body: bytes, event: str) -> tuple[Callback, list[str]]:
    """The fields of an evaluation's event, and what was odd about them, a short phrase each."""
    try:
        callback, oddities = Callback.read(body)
    except ValueError:  # nested too deeply, or a number of too many digits, which `understand` passed over
        return Callback(), ["the rest of it cannot be read"]
    expected = event.removeprefix("evaluation.")
    for name in _NEVER_NULL:
        if getattr(callback, name) is None and f"{name} is not readable" not in oddities:
            oddities.append(f"{name} is missing")
    if callback.status not in (expected, None):
        oddities.append(f"status {callback.status[:64]!r} in an event {event}")
    return callback, oddities


def origin_of(evaluation_id: UUID) -> Literal["callback", "sample"]:
    """Where an event that came by POST is from: Runflow, or `receiver send`."""
    is_sample = evaluation_id.int >> 96 == 0  # its first eight hex digits are `SAMPLE_PREFIX`
    return "sample" if is_sample else "callback"
