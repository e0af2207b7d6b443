"""The one normalised result: from the full tree, a failed evaluation, or the callback alone; and what makes a revision."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator, ValidationError
from pydantic import ValidationError as NotAVerdict

from receiver.core import verdict
from receiver.core.callback import read_callback
from receiver.core.evaluation import Evaluation
from receiver.core.verdict import NOT_IN_LISTS, Judge, Verdict

NOT_COMPARED = {"generated_image_url", "received_at", "origin", "revision"}
FIELDS_PROMISED = [
    "schema_version", "evaluation_id", "event", "status", "overall_passed", "weighted_pass_rate", "top_issues",
    "top_strengths", "primary_action_code", "failure_code", "client_ref", "run_id", "target_type_code", "model_id", "flow_id",
    "comfyui_workflow_id", "task_type", "job_class_code", "source_code", "generation_prompt", "generated_image_url", "cost",
    "eval_duration_ms", "attempt_number", "parent_evaluation_id", "superseded_at", "override_reason", "submitted_at",
    "completed_at", "received_at", "check_summary", "judges", "issues", "gate_failures", "action", "tree", "tree_reason",
    "origin", "revision",
]  # fmt: skip
NESTED_PROMISED = {
    "judges": [
        "id", "name", "description", "category", "passed", "confidence", "weight", "reasoning", "evidence", "sub_point_results",
    ],
    "issues": ["judge", "category", "subcategory", "detail"],
    "gate_failures": ["output_key", "module", "reason"],
}  # fmt: skip
LATER = datetime(2027, 1, 1, tzinfo=UTC)
PARTICULAR = {
    "evaluation_id": UUID(int=5), "superseded_at": LATER, "action": None, "check_summary": None, "tree": "unavailable",
    "origin": "sample",
}  # fmt: skip


def tree(**fields: Any) -> Evaluation:
    """A tree with these fields only."""
    return Evaluation.read(json.dumps({"status_code": "completed", **fields}).encode())[0]


def test_golden(complete: Verdict, samples: Path) -> None:
    """The documented tree makes exactly the verdict that is on file, field by field, in the promised order."""
    golden = json.loads((samples / "verdict_completed.json").read_bytes())
    assert json.loads(complete.model_dump_json()) == golden == complete.model_dump(mode="json")
    assert list(golden) == FIELDS_PROMISED == list(Verdict.model_fields)
    for name, fields in NESTED_PROMISED.items():
        assert all(list(part) == fields for part in golden[name])
    assert list(golden["action"]) == ["primary_action", "failure_summary", "improved_prompt"]


def test_golden_agrees_with_the_tree(complete: Verdict, tree_body: bytes) -> None:
    """A field that Runflow also has holds Runflow's value; the cost is the same text."""
    ours, theirs = json.loads(complete.model_dump_json()), json.loads(tree_body)
    same = [name for name in FIELDS_PROMISED if name in theirs and not isinstance(theirs[name], list | dict)]
    assert len(same) > 20
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
    assert (ours["cost"], Decimal(ours["cost"])) == ("0.050000", Decimal("0.05"))
    assert [issue["judge"] for issue in ours["issues"]] == ["identity_preservation"] * 2 + ["artifact_detection"]


def test_callback_alone(pending: Verdict, completed: bytes) -> None:
    """Before the fetch the verdict holds what the callback says and nothing else."""
    ours, theirs = json.loads(pending.model_dump_json()), json.loads(completed)
    assert theirs.pop("completed_at").replace("+00:00", "Z") == ours["completed_at"]
    assert {name: ours[name] for name in theirs} == theirs
    assert (pending.tree, pending.tree_reason, pending.origin, pending.revision) == ("pending", None, "callback", 0)
    rest = set(ours) - set(theirs) - {"schema_version", "completed_at", "received_at", "tree", "origin", "revision"}
    assert all(ours[name] in (None, []) for name in rest)


def test_tree_cannot_be_had(pending: Verdict) -> None:
    """Without its tree the callback's verdict goes out marked so, with the reason, and otherwise as it was."""
    alone = verdict.without_tree(pending, "no_api_key")
    assert (alone.tree, alone.tree_reason) == ("unavailable", "no_api_key")
    assert alone.model_dump(exclude={"tree", "tree_reason"}) == pending.model_dump(exclude={"tree", "tree_reason"})


def test_failed_evaluation(failed: bytes) -> None:
    """A failed evaluation, with everything but its failure null, is the same shape: lists are lists, and no action."""
    fields = json.loads(failed)
    known = verdict.from_callback(
        read_callback(failed, "evaluation.failed")[0],
        evaluation_id=UUID(fields["evaluation_id"]),
        event="evaluation.failed",
        received_at=LATER,
        origin="reconciled",
    )
    nulls = dict.fromkeys(Evaluation.model_fields)
    raw = nulls | {"id": fields["evaluation_id"], "status_code": "failed", "failure_code": "timed_out"}
    result = verdict.from_tree(Evaluation.read(json.dumps(raw).encode())[0], known)
    assert (known.status, known.failure_code) == (result.status, result.failure_code) == ("failed", "timed_out")
    assert (result.event, result.tree, result.origin) == ("evaluation.failed", "complete", "reconciled")
    assert [result.judges, result.issues, result.gate_failures, result.top_issues, result.top_strengths] == [[]] * 5
    assert (result.action, result.cost, result.overall_passed) == (None, None, None)
    assert (result.client_ref, result.completed_at) == (known.client_ref, known.completed_at)


def test_tree_decides(pending: Verdict) -> None:
    """Where tree and callback contradict each other, the tree's word counts, the event's too; only labels are filled in."""
    result = verdict.from_tree(tree(status_code="failed", failure_code="invalid_media", client_ref=""), pending)
    assert (result.event, result.status, result.overall_passed) == ("evaluation.failed", "failed", None)
    assert (result.weighted_pass_rate, result.top_issues) == (None, [])
    assert (result.client_ref, result.run_id, result.completed_at) == ("", pending.run_id, pending.completed_at)
    assert result.message_id == f"{pending.evaluation_id}:evaluation.failed:0"


def test_both_events_are_one_verdict(pending: Verdict, tree_body: bytes) -> None:
    """Whichever of the two events came first, the fetched result is the same in all that is compared."""
    first = pending.model_copy(update={"event": "evaluation.failed", "status": "failed", "received_at": LATER})
    read = Evaluation.read(tree_body)[0]
    assert verdict.says_the_same(verdict.from_tree(read, first), verdict.from_tree(read, pending))


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://a/b.png", True),
        ("runflow://assets/x", True),
        ("", True),
        ("database/x", True),
        (None, True),
        ("data:image/png;base64,AAAA", False),
        ("DATA:image/png;base64,AAAA", False),
        ("data:", False),
    ],
)
def test_image_address(pending: Verdict, url: str | None, kept: bool) -> None:
    """An address is passed on; an image inside a `data:` URI is not."""
    assert verdict.from_tree(tree(generated_image_url=url), pending).generated_image_url == (url if kept else None)


def test_times_are_written_in_utc(pending: Verdict) -> None:
    """Every time is RFC 3339 with Z, whatever zone it came in; a time without a zone is no time of arrival."""
    there = datetime(2026, 11, 18, 9, 13, 22, 5, tzinfo=timezone(timedelta(hours=-5)))
    result = verdict.from_tree(
        tree(submitted_at="2026-11-18T15:13:22+01:00", superseded_at="2026-11-18T14:13:22.120Z"),
        pending.model_copy(update={"received_at": there}),
    )
    shown = json.loads(result.model_dump_json())
    assert shown["submitted_at"] == "2026-11-18T14:13:22Z"
    assert shown["superseded_at"] == "2026-11-18T14:13:22.120000Z"
    assert shown["received_at"] == verdict.written(there) == "2026-11-18T14:13:22.000005Z"
    with pytest.raises(NotAVerdict, match="received_at"):
        Verdict.model_validate(pending.model_dump() | {"received_at": there.replace(tzinfo=None)})


def another(name: str, value: Any) -> Any:
    """A value of the same field's kind that is not this one."""
    if name in PARTICULAR:
        return PARTICULAR[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, datetime):
        return value + timedelta(microseconds=1)
    if isinstance(value, list):
        return value[:-1]
    return "another" if value is None or isinstance(value, str) else value + 1


@pytest.mark.parametrize("name", FIELDS_PROMISED[1:])
def test_what_makes_a_revision(complete: Verdict, name: str) -> None:
    """A difference in any field, to or from a value, makes a new revision, but for exactly four."""
    changed = complete.model_copy(update={name: another(name, getattr(complete, name))})
    assert Verdict.model_validate(changed.model_dump()) == changed != complete
    assert verdict.says_the_same(complete, changed) is (name in NOT_COMPARED)
    assert verdict.says_the_same(changed, complete) is (name in NOT_COMPARED)


def test_what_makes_no_revision(complete: Verdict) -> None:
    """The same result, stored and read back or with another order of keys, makes none; one deep inside makes one."""
    stored = Verdict.model_validate_json(complete.model_dump_json())
    summary = dict(reversed((complete.check_summary or {}).items()))
    assert verdict.says_the_same(complete, stored.model_copy(update={"check_summary": summary}))
    raw = complete.model_dump()
    raw["judges"][2]["sub_point_results"]["face"] = None
    assert not verdict.says_the_same(complete, Verdict.model_validate(raw))


def test_revise(complete: Verdict, pending: Verdict) -> None:
    """The first result is revision 1, one that says the same keeps the number, one that differs has the next."""
    found = complete.model_copy(update={"revision": 0})
    same = found.model_copy(update={"generated_image_url": "https://new", "received_at": LATER})
    other = found.model_copy(update={"override_reason": "by hand"})
    assert verdict.revise(None, found) == complete
    assert verdict.revise(complete, same) == same.model_copy(update={"revision": 1})
    assert verdict.revise(complete, other) == other.model_copy(update={"revision": 2})
    assert verdict.revise(verdict.revise(complete, other), found).revision == 3
    assert verdict.revise(verdict.without_tree(pending, "x").model_copy(update={"revision": 1}), found).revision == 2


def test_is_frozen_and_closed(complete: Verdict) -> None:
    """A verdict cannot be changed, and takes no field that is not its own."""
    with pytest.raises(NotAVerdict, match="frozen"):
        complete.revision = 2  # type: ignore[misc]  # that it is refused is the point
    for part, extra in ((Verdict, complete.model_dump() | {"run": {}}), (Judge, {"issues": []})):
        with pytest.raises(NotAVerdict, match="Extra inputs"):
            part.model_validate(extra)


def test_schema(complete: Verdict, pending: Verdict) -> None:
    """The schema is a schema, takes the verdicts, requires every field at every level, and refuses what is none."""
    schema = verdict.json_schema()
    Draft202012Validator.check_schema(schema)
    assert (schema["$id"], schema["title"]) == ("urn:runflow-receiver:verdict.v1", "verdict.v1")
    for closed in (schema, *schema["$defs"].values()):
        assert sorted(closed["required"]) == sorted(closed["properties"])
        assert closed["additionalProperties"] is False
    assert schema["properties"]["received_at"] == {"format": "date-time", "title": "Received At", "type": "string"}
    validator = Draft202012Validator(schema)
    good = json.loads(complete.model_dump_json())
    for each in (good, json.loads(pending.model_dump_json())):
        validator.validate(each)
    wrong: list[dict[str, object]] = [
        {"top_issues": None}, {"cost": 0.05}, {"revision": "1"}, {"tree": "gone"}, {"run": {}}, {"judges": [{}]},
    ]  # fmt: skip
    for bad in wrong:
        with pytest.raises(ValidationError):
            validator.validate(good | bad)


def test_lists_leave_out() -> None:
    """What the API's list leaves out are fields of the verdict."""
    assert {"judges", "issues", "gate_failures", "action", "check_summary"} == NOT_IN_LISTS <= set(Verdict.model_fields)
