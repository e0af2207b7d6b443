"""Verdicts as CSV: whatever a text is, it comes back, and no spreadsheet takes it for a formula."""

import csv
import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.flat import APOSTROPHE, BYTE_ORDER_MARK, COLUMNS, csv_head, csv_lines, ndjson_lines
from receiver.core.verdict import NOT_IN_LISTS, Verdict

KEY = UUID(int=1)
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
NUMBERS = ("schema_version", "weighted_pass_rate", "cost", "eval_duration_ms", "attempt_number", "revision")
LISTS = ("top_issues", "top_strengths")
TEXTS = [name for name, field in Verdict.model_fields.items() if field.annotation == str | None and name != "cost"]
OF_A_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")
text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
formula = st.builds(
    str.__add__, st.sampled_from(["=", "+", "-", "@", "\t", "\r", "\n", "'", "''", " =", "＝", '"', ",", ";"]), text
)


def verdict(**fields: Any) -> Verdict:
    return Verdict(evaluation_id=KEY, event="evaluation.completed", received_at=NOON, tree="complete", **fields)


def rows(*verdicts: Verdict) -> list[list[str]]:
    """The cells that any reader of CSV finds behind the head."""
    content = (csv_head() + csv_lines(each.model_dump_json() for each in verdicts)).decode("utf-8-sig")
    head, *found = csv.reader(io.StringIO(content, newline=""), strict=True)
    assert tuple(head) == COLUMNS
    return found


def undone(cell: str) -> str:
    """As docs/export.md tells."""
    return cell.removeprefix("'")


def test_the_columns_are_the_fields_of_the_list() -> None:
    """In the order of the verdict; each is a text, a number, a list, or of the rest, which no text of others can be."""
    assert [name for name in Verdict.model_fields if name not in NOT_IN_LISTS] == list(COLUMNS)
    others = {"evaluation_id", "event", "overall_passed", "tree", "origin"}
    moments = {"superseded_at", "submitted_at", "completed_at", "received_at"}
    assert {*NUMBERS, *LISTS, *TEXTS, *others, *moments} == set(COLUMNS)


@given(st.lists(st.fixed_dictionaries({}, optional={name: st.none() | text | formula for name in TEXTS}), max_size=4))
def test_any_text(fields: list[dict[str, Any]]) -> None:
    """It survives CSV and undoing, and nothing that is read begins as a formula does. An empty cell is null or empty."""
    found = rows(*(verdict(**each) for each in fields))
    assert len(found) == len(fields)
    for cells, given_ in zip(found, fields, strict=True):
        for name in TEXTS:
            cell = cells[COLUMNS.index(name)]
            assert undone(cell) == (given_.get(name) or "")
            assert not OF_A_FORMULA.match(cell)


@given(st.lists(text | formula))
def test_any_list(texts: list[str]) -> None:
    """A list is JSON, which begins with a bracket."""
    [cells] = rows(verdict(top_issues=texts))
    assert json.loads(cells[COLUMNS.index("top_issues")]) == texts


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**63 - 1))
def test_numbers_stay_numbers(rate: float, whole: int) -> None:
    """Negative ones too, exactly."""
    [cells] = rows(verdict(weighted_pass_rate=rate, eval_duration_ms=whole))
    assert float(cells[COLUMNS.index("weighted_pass_rate")]) == rate
    assert cells[COLUMNS.index("eval_duration_ms")] == str(whole)


@pytest.mark.parametrize("cost", ["0.050000", "-0.05", "+1", ".5", "123456789012345678901234567890.123"])
def test_costs_are_numbers(cost: str) -> None:
    """Digit by digit as Runflow wrote them."""
    assert rows(verdict(cost=cost))[0][COLUMNS.index("cost")] == cost


@pytest.mark.parametrize("cost", ["-1+1", "=1", "+", "-"])
def test_what_is_no_cost_is_text(cost: str) -> None:
    """Runflow's client lets none of these in; a formula that looks like one would do no less harm."""
    assert rows(verdict(cost=cost))[0][COLUMNS.index("cost")] == APOSTROPHE + cost


def test_a_line(samples: Path) -> None:
    """One as it is: CRLF, quotes where they must be, true and false, nothing for null, a mark before all."""
    whole = Verdict.model_validate_json((samples / "verdict_completed.json").read_bytes())
    assert csv_head().startswith(BYTE_ORDER_MARK + b"schema_version,evaluation_id,event,")
    assert csv_head().endswith(b",revision\r\n")
    line = csv_lines([whole.model_dump_json()])
    assert line.startswith(
        b'1,01a1ef00-87be-711d-ab0d-549b6f03675a,evaluation.completed,completed,false,0.7,"[""Facial'
    )
    assert b",regenerate,,order-88213/headshot-03," in line
    assert line.endswith(b",2026-11-18T14:13:25.120000Z,complete,,callback,1\r\n")
    assert csv_lines([]) == b""


def test_a_document_of_another_time() -> None:
    """A field that a stored document lacks is empty, and one that nobody knows has no column."""
    line = csv_lines([f'{{"new": [1], "evaluation_id": "{KEY}", "revision": 2}}']).decode()
    [cells] = csv.reader([line])
    assert {name: cell for name, cell in zip(COLUMNS, cells, strict=True) if cell} == {
        "evaluation_id": str(KEY),
        "revision": "2",
    }


@given(text)
def test_ndjson(reference: str) -> None:
    """One line for each, whatever is in it."""
    documents = [verdict(client_ref=reference).model_dump_json(), verdict().model_dump_json()]
    lines = ndjson_lines(documents).split(b"\n")
    assert [line.decode() for line in lines] == [*documents, ""]
