"""Filters as SQL answer what the same filters answer in Python, on both databases."""

from datetime import UTC, timedelta, timezone
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.core.matching import WORDS, Comparison, Filter, matches_any
from receiver.core.verdict import Issue, Verdict
from receiver.store import reading, results
from receiver.store.database import Database
from receiver.store.filters import after_all
from receiver.store.results import Found
from receiver.store.tables import deliveries, issues, trees, verdicts
from tests.store.building import NOW, key
from tests.store.places import put, rows, sql

# Few values, so that filters hit; with all that SQL's own comparisons would get wrong.
TEXTS = (
    "", "a", "A", "ab", "aB", "a%", "a%b", "a_b", "axb", "a/b", "a\\b", "é", "É", "e\u0301", "null", "true", "None", " a", "a ",
    "x" * 254, "x" * 255, "x" * 256, "x" * 255 + "y", "\U0001f600", "\U0001f600b", "\ufffd",
    "\ud7ff", "\ud7ffz", "\ue000", "\U0010ffff", "\U0010ffff\U0010ffff", "a\U0010ffff", "b",
)  # fmt: skip
texts = st.sampled_from(TEXTS) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
rates = st.sampled_from([0.0, 0.1, 0.5, 1.0, 0.1 + 0.2, 1 / 3]) | st.floats(allow_nan=False, allow_infinity=False)
times = st.sampled_from([NOW + timedelta(microseconds=n) for n in range(3)]) | st.datetimes(timezones=st.just(UTC))
written_times = times | st.sampled_from([NOW.replace(tzinfo=None), NOW.astimezone(timezone(timedelta(hours=-7)))])


@st.composite
def verdicts_of(draw: st.DrawFn) -> Verdict:
    """A verdict of which any field that filters look at may be anything, or missing."""
    maybe = st.none() | texts
    tree = draw(st.sampled_from(["complete", "unavailable", "pending"]))
    found = st.lists(st.builds(Issue, category=maybe), max_size=3) if tree == "complete" else st.just([])
    return Verdict(
        evaluation_id=key(0),
        event=draw(st.sampled_from(["evaluation.completed", "evaluation.failed"])),
        received_at=NOW,
        overall_passed=draw(st.none() | st.booleans()),
        weighted_pass_rate=draw(st.none() | rates),
        completed_at=draw(st.none() | times),
        issues=draw(found),
        tree=tree,
        origin=draw(st.sampled_from(["callback", "reconciled", "sample"])),
        **{
            name: draw(maybe)
            for name in (
                "status",
                "failure_code",
                "primary_action_code",
                "task_type",
                "model_id",
                "client_ref",
                "run_id",
            )
        },
    )


def _values(word: str) -> st.SearchStrategy[Any]:
    field, comparison, _ = WORDS[word]
    if field == "overall_passed":
        return st.sampled_from(["true", "false", "null", True, False])
    if comparison in (Comparison.AT_LEAST, Comparison.AT_MOST):
        return rates if field == "weighted_pass_rate" else written_times
    known = st.sampled_from(["null", "complete", "callback", "evaluation.completed", "unavailable"])
    return texts | known


filters = st.fixed_dictionaries(
    {}, optional={word: st.lists(_values(word), min_size=1, max_size=3) for word in WORDS}
).map(Filter.model_validate) | st.sampled_from(sorted(WORDS)).flatmap(
    lambda word: st.lists(_values(word), min_size=1, max_size=3).map(
        lambda values: Filter.model_validate({word: values})
    )
)


async def stored(database: Database, found: list[Verdict]) -> list[Verdict]:
    """These verdicts alone, as they are stored, each under a key of its own."""
    numbered = [verdict.model_copy(update={"evaluation_id": key(n)}) for n, verdict in enumerate(found)]
    for table in (verdicts, issues, trees, deliveries):
        await database.write(sql, f"DELETE FROM {table.name}")
    pending = [
        results.row_of(verdict.model_copy(update={"tree": "pending"})) | {"due_to": "[]", "tree_updated_at": None}
        for verdict in numbered
    ]
    await database.write(put, verdicts, *pending)
    released = [Found(each, b"{}" if each.tree == "complete" else None) for each in numbered if each.tree != "pending"]
    await database.write(results.release, released, [], NOW)
    documents = await database.read(rows, verdicts, "document")
    return [Verdict.model_validate_json(document) for [document] in documents]


async def ids(database: Database, filter_: Filter) -> set[UUID]:
    page = await database.read(reading.page, filter_, limit=1000)
    return {verdict.evaluation_id for verdict in page.items}


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(found=st.lists(verdicts_of(), min_size=1, max_size=8), wanted=st.lists(filters, min_size=1, max_size=12))
async def test_sql_and_python_agree(
    database: Database, monkeypatch: pytest.MonkeyPatch, found: list[Verdict], wanted: list[Filter]
) -> None:
    """Whatever the verdicts and the filter are, SQL finds those that the filter matches, and no others."""
    there = await stored(database, found)
    for number, filter_ in enumerate(wanted):
        monkeypatch.setattr(reading, "FEW", number % 3)  # what is rare is found otherwise than what is common
        expected = {verdict.evaluation_id for verdict in there if filter_.matches(verdict)}
        assert await ids(database, filter_) == expected, filter_


async def test_every_value_of_every_word(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each text word, each pair of a stored text and one that is looked for: SQL and Python agree."""
    names = ["client_ref", "status"]
    there = await stored(
        database,
        [
            Verdict(evaluation_id=key(0), event="evaluation.completed", received_at=NOW, tree="complete",
                    issues=[Issue(category=value)], **dict.fromkeys(names, value))
            for value in (None, *TEXTS)
        ],
    )  # fmt: skip
    for few, word in product((0, reading.FEW), ("client_ref", "client_ref_prefix", "status", "issue_category")):
        monkeypatch.setattr(reading, "FEW", few)  # what is rare is found otherwise than what is common
        for value in TEXTS:
            filter_ = Filter.model_validate({word: [value]})
            expected = {verdict.evaluation_id for verdict in there if filter_.matches(verdict)}
            assert await ids(database, filter_) == expected, (word, value)


@given(st.text(max_size=3) | st.sampled_from(TEXTS), st.text(max_size=5))
def test_after_all(prefix: str, text: str) -> None:
    """What begins with a text is, by its bytes, from that text on and before the one after all that begin so."""
    above = after_all(prefix)
    written = text.encode("utf-8", "surrogatepass")
    within = written >= prefix.encode("utf-8", "surrogatepass")
    within &= above is None or written < above.encode("utf-8", "surrogatepass")
    assert within == text.startswith(prefix) or not prefix


@pytest.mark.parametrize("word", WORDS)
async def test_no_value(database: Database, word: str) -> None:
    """Of a verdict with all values and one with none, `null` finds the second; a bound finds what has a value alone."""
    bare = Verdict(evaluation_id=key(0), event="evaluation.completed", received_at=NOW, tree="complete")
    texts_of = ("status", "failure_code", "primary_action_code", "task_type", "model_id", "client_ref", "run_id")
    whole = bare.model_copy(
        update={"overall_passed": True, "weighted_pass_rate": 0.5, "completed_at": NOW, "issues": [Issue(category="a")]}
        | dict.fromkeys(texts_of, "a")
    )
    there = await stored(database, [whole, bare])
    bounds = {
        "weighted_pass_rate_min": -1,
        "weighted_pass_rate_max": 2,
        "completed_after": "1970-01-01",
        "completed_before": "2286-11-20",
    }
    filter_ = Filter.model_validate({word: bounds.get(word, "null")})
    never_null = ("event", "tree", "origin", "client_ref_prefix")
    expected = {key(0)} if word in bounds else set() if word in never_null else {key(1)}
    assert await ids(database, filter_) == expected
    assert {verdict.evaluation_id for verdict in there if filter_.matches(verdict)} == expected


@pytest.mark.parametrize(
    ("word", "field", "step"),
    [
        ("weighted_pass_rate_min", "weighted_pass_rate", 2**-53),
        ("weighted_pass_rate_max", "weighted_pass_rate", -(2**-53)),
        ("completed_after", "completed_at", timedelta(microseconds=1)),
        ("completed_before", "completed_at", timedelta(microseconds=-1)),
    ],
)
async def test_bounds_include_themselves(database: Database, word: str, field: str, step: Any) -> None:
    """The smallest step beyond a bound is outside, the bound itself is not."""
    at = 0.7 if field == "weighted_pass_rate" else NOW
    made = [
        Verdict(evaluation_id=key(0), event="evaluation.completed", received_at=NOW, tree="complete", **{field: value})
        for value in (at - step, at, at + step)
    ]
    await stored(database, made)
    assert await ids(database, Filter.model_validate({word: at})) == {key(1), key(2)}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(found=st.lists(verdicts_of(), min_size=1, max_size=8), match=st.lists(filters, max_size=3))
async def test_several_tables(database: Database, found: list[Verdict], match: list[Filter]) -> None:
    """A sink's `match` takes what SQL finds for any of its tables; without tables it takes all."""
    there = await stored(database, found)
    expected = {verdict.evaluation_id for verdict in there if matches_any(tuple(match), verdict)}
    found_by_sql = [await ids(database, filter_) for filter_ in match or [Filter()]]
    assert set().union(*found_by_sql) == expected
