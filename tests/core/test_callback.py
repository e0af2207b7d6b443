"""What a genuine body is taken for: every row of the table of answers, and that nothing makes it fail."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.callback import (
    Callback,
    EvaluationEvent,
    NotUnderstood,
    OtherEvent,
    origin_of,
    read_callback,
    understand,
)

ID = "01a1ef00-87be-711d-ab0d-549b6f03675a"
COMPLETED = EvaluationEvent(UUID(ID), "evaluation.completed")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
events = st.sampled_from(
    ["evaluation.completed", "evaluation.failed", "evaluation.new", "run.completed", "evaluation."]
)


def body(**fields: Any) -> bytes:
    """An evaluation's callback with these fields in place of, or besides, the two that make it one."""
    return json.dumps({"event": "evaluation.completed", "evaluation_id": ID, **fields}).encode()


def test_samples(completed: bytes, failed: bytes) -> None:
    """The two documented callbacks are evaluation events."""
    assert understand(completed) == COMPLETED
    assert understand(failed) == EvaluationEvent(UUID(json.loads(failed)["evaluation_id"]), "evaluation.failed")


@pytest.mark.parametrize(
    "odd",
    [
        body(),
        body(evaluation_id=ID.upper()),
        body(status=7, client_ref=["x"], run_id=False, top_issues={}, completed_at=None, weighted_pass_rate="1"),
        body(deep=json.loads("[" * 190 + "]" * 190)),
        body(huge=10**4000),
        body(huge=0).replace(b"0}", b"9" * 100_000 + b"}"),
        body(deep=0).replace(b"0}", b"[" * 500 + b"]" * 500 + b"}"),
        body(weighted_pass_rate=float("nan"), more=float("inf")),
        body(client_ref="\ud83d"),
        body(client_ref="cut \ud83d", other="\ude00 \ud83d\ud83d\ude00"),
        body(client_ref="\0"),
        b"\xef\xbb\xbf" + body(),
        b" \r\n\t" + body() + b"\n",
        b'{"event":"run.completed","event":"evaluation.completed","evaluation_id":"x","evaluation_id":"' + ID.encode() + b'"}',
        rb'{"\u0065vent":"evaluation\u002ecompleted","evaluation_id":"' + ID.encode() + b'"}',
        json.dumps({"event": "evaluation.completed", "evaluation_id": ID}, ensure_ascii=False, indent=8).encode(),
    ],
)  # fmt: skip
def test_odd_evaluation_events(odd: bytes) -> None:
    """However odd the rest is, an event with a UUID is one, and its fields are readable."""
    assert understand(odd) == COMPLETED
    assert isinstance(read_callback(odd, "evaluation.completed")[0], Callback)


@pytest.mark.parametrize(
    "event",
    [
        "run.completed", "run.failed", "run.cancelled", "run.partial_succeeded", "batch.succeeded", "headshots.completed",
        "evaluation.archived", "evaluation.", "evaluation.completed ", "", "evaluation", "Evaluation.completed", "x" * 5000,
    ],
)  # fmt: skip
def test_other_events(event: str) -> None:
    """Another kind of event, known or not, is passed over; of those named `evaluation.*` only with a UUID."""
    assert understand(body(event=event)) == OtherEvent(event)
    without_id = understand(json.dumps({"event": event, "run_id": ID}).encode())
    assert isinstance(without_id, NotUnderstood if event.startswith("evaluation.") else OtherEvent)


@pytest.mark.parametrize("event", ["run.\0", "evaluation.\0", "run.\ud800"])
def test_event_can_be_stored(event: str) -> None:
    """What a database's text cannot hold does not come out of an event's name, nor into the reason."""
    assert understand(body(event=event)) == OtherEvent(event[:-1] + "\ufffd")
    assert "\0" not in str(understand(body(event=event, evaluation_id=None)))


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (b"", "not JSON"),
        (b" \n", "not JSON"),
        (b"\xef\xbb\xbf", "not JSON"),
        (b"event=evaluation.completed", "not JSON"),
        (body() + b"}", "not JSON"),
        (body()[:-1], "not JSON"),
        (body().replace(b'"', b"'"), "not JSON"),
        (body(client_ref="x").replace(b'"x"', b'"\xe9"'), "not JSON"),
        (body(client_ref="x").replace(b'"x"', b'"\xed\xa0\x80"'), "not JSON"),
        (body().decode().encode("utf-16"), "not JSON"),
        (body(client_ref="x").replace(b'"x"', rb'"\ud8zz"'), "not JSON"),
        (body(deep=0).replace(b"0}", b"[" * 100_000 + b"]" * 100_000 + b"}"), "not JSON"),
        (b"[" + body() + b"]", "not an object"),
        (b"17", "not an object"),
        (b"null", "not an object"),
        (b'"evaluation.completed"', "not an object"),
        (b"NaN", "not an object"),
        (b"{}", "no string `event`"),
        (body(event=None), "no string `event`"),
        (body(event=1), "no string `event`"),
        (body(event=["evaluation.completed"]), "no string `event`"),
        *(
            (body(event=event, evaluation_id=wrong), f"{event} without a UUID")
            for event in ("evaluation.completed", "evaluation.failed", "evaluation.unheard_of")
            for wrong in (
                None, 5, "", "x", [ID], {"id": ID}, "{" + ID + "}", "urn:uuid:" + ID, ID.replace("-", ""), ID + "\n",
                " " + ID, ID[:-1], ID + "0", "g" + ID[1:], "\u0660" + ID[1:], ID[:8] + ID[9:13] + "-" + ID[13:], ID + "\0",
            )
        ),
        (body(event="evaluation." + "x" * 10_000, evaluation_id=None), "evaluation.xxx"),
    ],
)  # fmt: skip
def test_not_understood(odd: bytes, why: str) -> None:
    """What is no event, or an evaluation's without a UUID, is not understood, for a short reason."""
    answer = understand(odd)
    assert isinstance(answer, NotUnderstood)
    assert why in answer.why
    assert len(answer.why) < 120


def test_reason_shows_no_content() -> None:
    """The reason of a body that is no JSON does not show what stands in it."""
    assert "private" not in str(understand(b'{"client_ref": "private'))


@given(st.binary())
def test_never_raises_on_bytes(odd: bytes) -> None:
    """No bytes make it raise."""
    assert isinstance(understand(odd), NotUnderstood | OtherEvent | EvaluationEvent)


@given(json_values)
def test_never_raises_on_json(value: Any) -> None:
    """No JSON value makes it raise, and only an object is understood."""
    answer = understand(json.dumps(value).encode())
    assert isinstance(value, dict) or isinstance(answer, NotUnderstood)


@given(
    event=events | json_values,
    evaluation_id=st.uuids().map(str) | json_values,
    rest=st.dictionaries(st.text(), json_values),
)
def test_decided_by_two_fields(event: Any, evaluation_id: Any, rest: dict[str, Any]) -> None:
    """Whatever else a body holds, `event` and `evaluation_id` alone decide what it is."""
    two = {"event": event, "evaluation_id": evaluation_id}
    assert understand(json.dumps(rest | two).encode()) == understand(json.dumps(two).encode())


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(Callback.model_fields, json_values)))
def test_any_fields_are_readable(fields: dict[str, Any]) -> None:
    """No value of any field keeps a callback from being read."""
    callback, oddities = read_callback(body(**fields), "evaluation.completed")
    assert isinstance(callback, Callback)
    assert len(oddities) == len(set(oddities))


@pytest.mark.parametrize(
    ("change", "oddities"),
    [
        (lambda fields: None, []),
        (lambda fields: fields.update(status="failed"), ["status 'failed' in an event evaluation.completed"]),
        (lambda fields: fields.pop("status"), ["status is missing"]),
        (lambda fields: fields.update(completed_at=None), ["completed_at is missing"]),
        (lambda fields: fields.update(completed_at="soon"), ["completed_at is not readable"]),
        (lambda fields: fields.update(status=1, run_id=2), ["status is not readable", "run_id is not readable"]),
        (lambda fields: fields.update(failure_code=None, run_id=None, client_ref=None, overall_passed=None), []),
        (lambda fields: fields.update(top_issues=None, top_strengths=None, weighted_pass_rate=None), []),
        (lambda fields: fields.pop("run_id"), []),
        (lambda fields: fields.update(new_field={"a": 1}, primary_action_code="never_heard_of"), []),
        (lambda fields: fields.update(weighted_pass_rate=1), []),
        (lambda fields: fields.update(top_issues=["a", 1, None, "b", "c"]), ["top_issues: 2 of 5 items are not readable"]),
    ],
)  # fmt: skip
def test_oddities(completed: bytes, change: Callable[[dict[str, Any]], object], oddities: list[str]) -> None:
    """What is wrong or missing is told once each; null where Runflow allows it, and what is new, is not odd."""
    fields = json.loads(completed)
    change(fields)
    assert read_callback(json.dumps(fields).encode(), "evaluation.completed")[1] == oddities


def test_long_status_is_told_briefly() -> None:
    """An absurd status does not make an absurd line in the timeline."""
    _, oddities = read_callback(body(status="x" * 100_000), "evaluation.failed")
    assert all(len(oddity) < 200 for oddity in oddities)


@pytest.mark.parametrize("rest", [b"[" * 500 + b"]" * 500, b"9" * 100_000])
def test_too_much_to_read(rest: bytes) -> None:
    """What is an event by its two fields, but whose rest no parser takes, is an event without other fields."""
    odd = body(status="completed", x=0).replace(b"0}", rest + b"}")
    assert understand(odd) == COMPLETED
    callback, oddities = read_callback(odd, "evaluation.completed")
    assert callback == Callback()
    assert oddities == ["the rest of it cannot be read"]


def test_origin() -> None:
    """An id of `receiver send` is a sample's; any other is Runflow's."""
    assert origin_of(UUID(ID)) == "callback"
    assert origin_of(UUID("00000000-87be-711d-ab0d-549b6f03675a")) == "sample"
    assert origin_of(UUID("00000001-87be-711d-ab0d-549b6f03675a")) == "callback"
