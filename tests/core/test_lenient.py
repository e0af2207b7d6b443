"""Reading a callback's fields and the tree: an odd field costs that field, and what is kept can be stored and written."""

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from receiver.core import verdict
from receiver.core.callback import Callback
from receiver.core.envelope import Message
from receiver.core.evaluation import Action, Evaluation, GateFailure, Judge, JudgeIssue, embedded
from receiver.core.lenient import Lenient, in_utc, read_json
from receiver.core.verdict import Verdict

FIELDS = [(model, name) for model in (Callback, Evaluation) for name in model.model_fields]
ABSENT = object()
NESTED: dict[str, type[Lenient]] = {
    "judges": Judge,
    "gate_failures": GateFailure,
    "action": Action,
    "issues": JudgeIssue,
}
SCHEMA = Draft202012Validator(verdict.json_schema(), format_checker=Draft202012Validator.FORMAT_CHECKER)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


def fields_of(model: type[Lenient]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with any of the model's fields, each of its own kind or of any."""
    plausible = st.datetimes().map(str) | st.sampled_from(["0.05", "completed", "data:,", "2026-11-18T14:13:22Z"])
    kinds = {
        name: json_values | plausible | (st.lists(inner) | inner if (inner := nested(name)) is not None else plausible)
        for name in model.model_fields
    }
    return st.fixed_dictionaries({}, optional=kinds)


def nested(name: str) -> st.SearchStrategy[dict[str, Any]] | None:
    """The objects that belong under a field of that name, if it holds objects."""
    return fields_of(NESTED[name]) if name in NESTED else None


def read(**fields: Any) -> tuple[Evaluation, list[str]]:
    """A tree with these fields, and what was odd."""
    return Evaluation.read(json.dumps(fields).encode())


def test_sample_has_no_oddity(tree_body: bytes) -> None:
    """The documented tree is read whole: every field that it fills is filled."""
    tree, oddities = Evaluation.read(tree_body)
    assert oddities == []
    raw = json.loads(tree_body)
    assert {name for name in Evaluation.model_fields if getattr(tree, name) is None} == {
        name for name in Evaluation.model_fields if raw[name] is None
    }
    assert [len(judge.issues or []) for judge in tree.judges or []] == [0, 2, 0, 0, 1]


@given(
    fields_of(Evaluation) | fields_of(Evaluation).map(lambda fields: {k: v for k, v in fields.items() if k in NESTED})
)
def test_the_quick_way_says_the_same(fields: dict[str, Any]) -> None:
    """What has nothing odd is read without leniency, and comes out as it would with it."""
    body = json.dumps(fields).encode()
    oddities: list[str] = []
    leniently = Evaluation.model_validate(read_json(body), context=oddities)
    assert Evaluation.read(body) == (leniently, list(dict.fromkeys(oddities)))


def test_the_quick_way_is_taken(tree_body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The documented tree needs no leniency."""
    monkeypatch.setattr(Evaluation, "model_validate", None)
    assert Evaluation.read(tree_body)[0].judges


@pytest.mark.parametrize(("model", "name"), FIELDS)
def test_each_field_alone(completed: bytes, tree_body: bytes, model: type[Lenient], name: str) -> None:
    """A field that is null, absent or of a wrong type costs that field, and no other, and is told once."""
    fields = json.loads(completed if model is Callback else tree_body)
    whole, _ = model.read(json.dumps(fields).encode())
    for wrong in (None, 7.5, True, "x\0", [], {}, [[]], 10**400, ABSENT):
        changed = {key: value for key, value in fields.items() if key != name}
        if wrong is not ABSENT:
            changed[name] = wrong
        partial, oddities = model.read(json.dumps(changed).encode())
        assert partial.model_dump(exclude={name}) == whole.model_dump(exclude={name})
        assert len(oddities) <= 1
        assert all(name in oddity for oddity in oddities)
        if wrong in (None, ABSENT):
            assert (getattr(partial, name), oddities) == (None, [])


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("weighted_pass_rate", 1, 1.0),
        ("weighted_pass_rate", 0, 0.0),
        ("weighted_pass_rate", -3.5, -3.5),
        ("weighted_pass_rate", 10**400, None),
        ("weighted_pass_rate", math.nan, None),
        ("weighted_pass_rate", -math.inf, None),
        ("weighted_pass_rate", True, None),
        ("weighted_pass_rate", "0.7", None),
        ("overall_passed", 1, None),
        ("overall_passed", "true", None),
        ("eval_duration_ms", 2**63 - 1, 2**63 - 1),
        ("eval_duration_ms", 2**63, None),
        ("attempt_number", -(2**63), -(2**63)),
        ("attempt_number", -(2**63) - 1, None),
        ("attempt_number", 1.5, None),
        ("attempt_number", True, None),
        ("cost", "0.050000", "0.050000"),
        ("cost", "+.5", "+.5"),
        ("cost", "-00.", "-00."),
        ("cost", "123456789012345678901234567890.123456789", "123456789012345678901234567890.123456789"),
        ("cost", "", None),
        ("cost", ".", None),
        ("cost", "1e5", None),
        ("cost", "0.05\n", None),
        ("cost", "\u0660", None),
        ("cost", "NaN", None),
        ("cost", 0.05, None),
        ("client_ref", "", ""),
        ("client_ref", "a\0b\0", "a\ufffdb\ufffd"),
        ("client_ref", "\ud83d cut", "\ufffd cut"),
        ("client_ref", 5, None),
        ("status_code", "resting", "resting"),
        ("job_class_code", "never heard of", "never heard of"),
        ("run_id", "not a uuid", "not a uuid"),
        ("top_issues", ["a", "b\0"], ["a", "b\ufffd"]),
        ("top_issues", ["a", None, 3, ["x"], "b"], ["a", "b"]),
        ("top_issues", [None], []),
        ("top_issues", "a", None),
        ("top_issues", {"0": "a"}, None),
        ("check_summary", {}, {}),
        ("check_summary", {"a\0": ["b\0", {"c": "d\0"}]}, {"a\ufffd": ["b\ufffd", {"c": "d\ufffd"}]}),
        ("check_summary", {"a": [math.nan, math.inf, 1.5]}, {"a": [None, None, 1.5]}),
        ("check_summary", {"a": [2**63 - 1, -(2**63)]}, {"a": [2**63 - 1, -(2**63)]}),
        ("check_summary", {"a": [2**63, -(10**30), 10**4000]}, {"a": [9223372036854775808.0, -1e30, None]}),
        ("check_summary", [1], None),
        ("unknown", 1, None),
    ],
)  # fmt: skip
def test_values(name: str, value: Any, kept: Any) -> None:
    """What is of the right kind is kept as it is, also at the bounds; what is not is told."""
    tree, oddities = read(**{name: value})
    assert getattr(tree, name, None) == kept
    assert type(getattr(tree, name, None)) is type(kept)
    assert len(oddities) == (
        name != "unknown" and (kept is None or (isinstance(kept, list) and len(kept) < len(value)))
    )


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2026-11-18T14:13:22Z", datetime(2026, 11, 18, 14, 13, 22, tzinfo=UTC)),
        ("2026-11-18T14:13:22+00:00", datetime(2026, 11, 18, 14, 13, 22, tzinfo=UTC)),
        ("2026-11-18T14:13:22.547+00:00", datetime(2026, 11, 18, 14, 13, 22, 547_000, tzinfo=UTC)),
        ("2026-11-18T14:13:22.547913Z", datetime(2026, 11, 18, 14, 13, 22, 547_913, tzinfo=UTC)),
        ("2026-11-18T14:13:22.547913999Z", datetime(2026, 11, 18, 14, 13, 22, 547_913, tzinfo=UTC)),
        ("2026-11-18T14:13:22.000+00:00", datetime(2026, 11, 18, 14, 13, 22, tzinfo=UTC)),
        ("2026-11-18T19:43:22+05:30", datetime(2026, 11, 18, 14, 13, 22, tzinfo=UTC)),
        ("2026-11-18T23:13:22-10:00", datetime(2026, 11, 19, 9, 13, 22, tzinfo=UTC)),
        ("2026-11-18T14:13:22", datetime(2026, 11, 18, 14, 13, 22, tzinfo=UTC)),
        ("2026-11-18 14:13:22Z", datetime(2026, 11, 18, 14, 13, 22, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("0001-01-01T00:00:00+01:00", None),
        ("9999-12-31T23:59:59-01:00", None),
        ("2026-02-30T00:00:00Z", None),
        ("1700000000", None),
        ("1700000000.5", None),
        (1700000000, None),
        ("", None),
        ("soon", None),
        (["2026-11-18T14:13:22Z"], None),
    ],
)  # fmt: skip
def test_times(written: Any, moment: datetime | None) -> None:
    """A time in any form of ISO 8601 is read as UTC; a number is no time, and one beyond the calendar is none."""
    tree, oddities = read(completed_at=written)
    assert tree.completed_at == moment
    assert moment is None or (tree.completed_at is not None and tree.completed_at.utcoffset() == timedelta(0))
    assert oddities == ([] if moment else ["completed_at is not readable"])


def test_in_utc_refuses_what_has_no_utc() -> None:
    """A time that would be before the year 1 in UTC is an error of value."""
    with pytest.raises(ValueError, match="out of range"):
        in_utc(datetime.fromisoformat("0001-01-01T00:00:00+01:00"))


def test_bad_items() -> None:
    """Bad items of a list are dropped and counted, the good ones stay in order, and what is odd inside them is told once."""
    tree, oddities = read(
        judges=[
            3,
            {"name": "a", "passed": 1, "evidence": ["x", 5], "issues": [None, {"category": 7, "detail": "d"}]},
            {"name": "b", "passed": "no", "issues": "many", "sub_point_results": []},
        ],
        gate_failures={},
        action=[],
    )
    assert [(judge.name, judge.passed, judge.evidence) for judge in tree.judges or []] == [
        ("a", None, ["x"]),
        ("b", None, None),
    ]
    assert [[issue.detail for issue in judge.issues or []] for judge in tree.judges or []] == [["d"], []]
    assert sorted(oddities) == [
        "action is not readable",
        "category is not readable",
        "evidence: 1 of 2 items are not readable",
        "gate_failures is not readable",
        "issues is not readable",
        "issues: 1 of 2 items are not readable",
        "judges: 1 of 3 items are not readable",
        "passed is not readable",
        "sub_point_results is not readable",
    ]


def test_oddities_stay_few() -> None:
    """A long list of nothing but bad items is told in one line."""
    assert read(top_issues=[0] * 10_000)[1] == ["top_issues: 10000 of 10000 items are not readable"]


def test_validation_without_collecting() -> None:
    """A model may be read where nobody collects what is odd."""
    tree = Evaluation.model_validate({"top_issues": [1, "a"], "cost": 5, "judges": [0]})
    assert (tree.top_issues, tree.cost, tree.judges) == (["a"], None, [])


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"3", b"{", b"\xff", b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"])
def test_no_object(body: bytes) -> None:
    """What is no JSON object is an error of value that shows nothing of the body."""
    with pytest.raises(ValueError, match=r"object|line"):
        Evaluation.read(body)
    with pytest.raises(ValueError, match="line 1") as caught:
        Evaluation.read(b'{"client_ref": "private')
    assert "private" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\ud83d"', "\ufffd"),
        (rb'"\uDE00\uD83D"', "\ufffd\ufffd"),
        (rb'"\ud83d\ud83d\ude00\ude00"', "\ufffd\U0001f600\ufffd"),
        (rb'"\ud83d\u0041\n\"\\"', '\ufffdA\n"\\'),
        (rb'["\\ud83d", "\\\ud83d"]', ["\\ud83d", "\\\ufffd"]),
        (rb'{"\ud83d": "\ud7ff\ue000"}', {"\ufffd": "\ud7ff\ue000"}),
        (b"\xef\xbb\xbf 1", 1),
        (b"\xef\xbb\xbf" + rb'"\udfff"', "\ufffd"),
    ],
)
def test_read_json(text: bytes, value: Any) -> None:
    """Half of a surrogate pair becomes the replacement character, every other escape stays, a byte order mark is no matter."""
    assert read_json(text) == value


def test_terminal() -> None:
    """Runflow has decided when the status is one of two, and not in any that is unknown."""
    states = ("completed", "failed", "pending", "running", "new", None)
    assert [read(status_code=state)[0].is_terminal for state in states] == [True, True, False, False, False, False]


def test_embedded(tree_body: bytes) -> None:
    """The objects that are kept and not sent are there under their names, null where they are missing."""
    raw = json.loads(tree_body)
    raw["model"]["pricing_note"] = math.nan
    assert embedded(raw) == {
        "run": raw["run"],
        "model": raw["model"] | {"pricing_note": None},
        "flow": None,
        "comfyui_workflow": None,
        "parent_evaluation": raw["parent_evaluation"],
    }


def test_deepest(pending: Verdict) -> None:
    """The deepest object that is read at all also goes through storage and out."""
    deep: Any = 1
    for _ in range(199):
        deep = {"a": deep}
    result = verdict.from_tree(read(check_summary=deep)[0], pending)
    assert result.check_summary == deep
    assert Verdict.model_validate_json(result.model_dump_json()) == result
    assert (
        json.loads(Message(result, "https://api.runflow.io/v1/evaluations").cloud_event)["data"]["check_summary"]
        == deep
    )
    with pytest.raises(ValueError, match="recursion limit"):
        read(check_summary={"a": deep})


@given(fields=fields_of(Evaluation))
def test_any_tree_becomes_a_message(pending: Verdict, fields: dict[str, Any]) -> None:
    """Any object is read, and its verdict goes through JSON unchanged, fits the schema, and holds no NUL."""
    tree, _ = read(**fields)
    result = verdict.from_tree(tree, pending)
    text = result.model_dump_json()
    assert Verdict.model_validate_json(text) == result
    assert verdict.says_the_same(result, verdict.from_tree(read(**fields)[0], pending))
    SCHEMA.validate(json.loads(text))
    sent = json.loads(Message(result, "https://api.runflow.io/v1/evaluations").cloud_event)
    assert sent["data"] == json.loads(text)
    assert "\\u0000" not in json.dumps(sent).replace("\\\\", "")


@given(fields=fields_of(Callback))
def test_any_callback_becomes_a_verdict(pending: Verdict, fields: dict[str, Any]) -> None:
    """The same of a callback alone."""
    callback, _ = Callback.read(json.dumps(fields).encode())
    result = verdict.from_callback(
        callback,
        evaluation_id=pending.evaluation_id,
        event="evaluation.failed",
        received_at=pending.received_at,
        origin="sample",
    )
    assert Verdict.model_validate_json(result.model_dump_json()) == result
    SCHEMA.validate(json.loads(result.model_dump_json()))
