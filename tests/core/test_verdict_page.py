"""`docs/verdict.md` says what the code does: every field, its kind and an example, and the envelope."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from receiver.core.envelope import Message
from receiver.core.fetching import Trouble
from receiver.core.verdict import Action, GateFailure, Issue, Judge, Verdict
from receiver.pipeline.stage import SAMPLE
from receiver.store.fetches import NO_API_KEY, NOTHING_TRIED

PAGE = (Path(__file__).parents[2] / "docs" / "verdict.md").read_text()
ROW = re.compile(r"^\| `([a-z_\[\].]+)` \| ([^|]+) \| [^|]+ \| `(.+)` \|$", re.MULTILINE)
ROWS = {name: (kind, json.loads(example)) for name, kind, example in ROW.findall(PAGE)}
NESTED: dict[str, type[BaseModel]] = {
    "judges[]": Judge,
    "issues[]": Issue,
    "gate_failures[]": GateFailure,
    "action": Action,
}
KINDS = {
    "whole number": int, "number": float, "text": str, "UUID": str, "time": str, "true, false": bool, "object": dict,
    "list of text": list, "list of objects": list,
}  # fmt: skip


def changed(complete: Verdict, name: str, value: Any) -> dict[str, Any]:
    """The verdict as JSON with another value in the field of that name, as the page writes names."""
    content: dict[str, Any] = json.loads(complete.model_dump_json())
    outer, _, inner = name.rpartition(".")
    part = content if not outer else content[outer.removesuffix("[]")]
    (part[0] if isinstance(part, list) else part)[inner] = value
    return content


def test_fields() -> None:
    """The page names every field, nested ones too, once, in the order of the message, and no other."""
    nested = {f"{outer}.{name}" for outer, model in NESTED.items() for name in model.model_fields}
    assert set(ROWS) == set(Verdict.model_fields) | nested
    assert [name for name in ROWS if "." not in name] == list(Verdict.model_fields)
    section = PAGE[PAGE.index("## Fields") : PAGE.index("## Envelope")]
    assert section.count("\n| `") == len(ROW.findall(PAGE)) == len(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_kinds_and_examples(complete: Verdict, name: str) -> None:
    """An example is a value that the field takes, of the kind that is named, and null is taken where the page says so."""
    kind, example = ROWS[name]
    nullable = "null" in kind
    Verdict.model_validate_json(json.dumps(changed(complete, name, example)))
    assert example is None or type(example) is KINDS[kind.removesuffix(" or null")]
    if nullable:
        Verdict.model_validate_json(json.dumps(changed(complete, name, None)))
    else:
        with pytest.raises(ValidationError):
            Verdict.model_validate_json(json.dumps(changed(complete, name, None)))


def test_envelope(complete: Verdict) -> None:
    """The page's envelope is the one that is sent, and its table names each attribute of it."""
    shown = json.loads(re.findall(r"```json\n(.+?)```", PAGE, re.DOTALL)[0])
    sent = json.loads(Message(complete, shown["source"], replay_id="x").cloud_event)
    assert {**sent, "data": {}} == {**shown, "replayid": "x"}
    table = PAGE[PAGE.index("| attribute |") : PAGE.index("## Revisions")]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(sent) - {"data", "specversion"}


def test_callback_s_fields(pending: Verdict) -> None:
    """What the page says is filled from the callback alone is what is filled."""
    sentence = PAGE[PAGE.index("only what the callback holds") : PAGE.index("Why a tree is")]
    named = set(re.findall(r"`(\w+)`", sentence))
    always = {"schema_version", "evaluation_id", "event", "received_at", "tree", "origin", "revision"}
    filled = {name for name, value in pending if value not in (None, []) and name not in always}
    assert filled == named - {"failure_code"}


def test_reasons() -> None:
    """The page lists why there may be no tree, and nothing else."""
    listed = PAGE[PAGE.index("Why a tree is") : PAGE.index("## Envelope")].partition("\n\n")[2]
    reasons = {reason for line in listed.splitlines() for reason in re.findall(r"`([a-z_]+)`", line.partition(":")[0])}
    assert reasons == {*Trouble, NO_API_KEY, SAMPLE, NOTHING_TRIED}


def test_file_exists(samples: Path) -> None:
    """The page's link to the whole example leads somewhere."""
    for target in re.findall(r"\]\((\.\./[^)]+)\)", PAGE):
        assert (samples.parents[1] / "docs" / target).resolve().is_file()
