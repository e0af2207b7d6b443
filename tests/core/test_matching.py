"""Which verdicts a filter takes: every word, lists, no value, bounds, and what is refused."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from receiver.core.matching import WORDS, Filter, as_text, matches_any
from receiver.core.verdict import Issue, Verdict

WORDS_OF_THE_API = {
    "overall_passed", "status", "event", "failure_code", "primary_action_code", "task_type", "model_id", "client_ref",
    "client_ref_prefix", "run_id", "issue_category", "weighted_pass_rate_min", "weighted_pass_rate_max", "completed_after",
    "completed_before", "tree", "origin",
}  # fmt: skip
MODEL = "019cdc1f-d680-70c6-a6a3-a4506513270e"
RUN = "01a1eef7-00b4-781f-a8e2-5d940ed90475"
TIME_WORDS = ("completed_after", "completed_before")
RATE_WORDS = ("weighted_pass_rate_min", "weighted_pass_rate_max")


@pytest.fixture(scope="module")
def empty(pending: Verdict) -> Verdict:
    """A verdict of which nothing is known."""
    return Verdict(
        evaluation_id=pending.evaluation_id,
        event="evaluation.completed",
        received_at=pending.received_at,
        tree="pending",
    )


def test_words_are_the_api_s() -> None:
    """The table of words, the filter's fields and the promised filters are the same set; each looks at a verdict's field."""
    assert set(WORDS) == set(Filter.model_fields) == WORDS_OF_THE_API
    assert {word.field for word in WORDS.values()} <= set(Verdict.model_fields)


@pytest.mark.parametrize(
    ("word", "holding", "not_holding"),
    [
        ("overall_passed", ["false", False, ["true", "false"], ["null", False]], ["true", True, "null", ["true", "null"]]),
        ("status", ["completed", ["failed", "completed"]], ["failed", "null", "Completed", "complete"]),
        ("event", ["evaluation.completed"], ["evaluation.failed"]),
        ("failure_code", ["null", ["timed_out", "null"]], ["timed_out", "", "None"]),
        ("primary_action_code", ["regenerate"], ["null", "regen"]),
        ("task_type", ["headshot"], ["ad_creative"]),
        ("model_id", [MODEL], [MODEL.upper(), "null"]),
        ("client_ref", ["order-88213/headshot-03"], ["order-88213", "null"]),
        ("client_ref_prefix", ["order-88213/headshot-03", "o", "", ["x", "o"]], ["rder", "Order", "null", "order-88213/x"]),
        ("run_id", [RUN, ["a", RUN]], ["null"]),
        ("issue_category", ["identity", "technical_quality", ["x", "identity"]], ["anatomy", "null", "ident"]),
        ("weighted_pass_rate_min", [0.7, "0.7", 0, "-1", [0.9, 0.1]], [0.7000001, 1, [0.8, 0.9]]),
        ("weighted_pass_rate_max", [0.7, "0.7", 1, [0.1, 0.9]], [0.6999999, 0, [0, 0.5]]),
        ("completed_after", ["2026-11-18T15:13:22.547913+01:00", "2026-11-18"], ["2026-11-18T14:13:22.547914Z", "2027-01-01"]),
        ("completed_before", ["2026-11-18T14:13:22.547913", "2026-11-19T00:00:00Z"], ["2026-11-18T14:13:22.547912Z"]),
        ("tree", ["complete", ["pending", "complete"]], ["unavailable", "null"]),
        ("origin", ["callback"], ["sample", ["reconciled", "sample"]]),
    ],
)  # fmt: skip
def test_each_word(complete: Verdict, word: str, holding: list[Any], not_holding: list[Any]) -> None:
    """A word holds for its own values, bounds included, and for no others; a list means any of."""
    for value in holding:
        assert Filter(**{word: value}).matches(complete), value
    for value in not_holding:
        assert not Filter(**{word: value}).matches(complete), value


@pytest.mark.parametrize("word", sorted(WORDS_OF_THE_API - {"event", "tree", "origin", *TIME_WORDS, *RATE_WORDS}))
def test_null(empty: Verdict, word: str) -> None:
    """`"null"` holds exactly where there is no value, alone and in a list; a prefix holds only where there is one."""
    for value in ("null", ["x" if word != "overall_passed" else "true", "null"]):
        assert Filter(**{word: value}).matches(empty) is (word != "client_ref_prefix")
    assert not Filter(**{word: "true"}).matches(empty)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("weighted_pass_rate_min", -1e308),
        ("weighted_pass_rate_max", 1e308),
        ("completed_after", "0001-01-01"),
        ("completed_before", "9999-12-31"),
        ("client_ref_prefix", ""),
    ],
)
def test_bounds_never_match_no_value(empty: Verdict, word: str, value: Any) -> None:
    """Not even the widest bound takes in a verdict without a value."""
    assert not Filter(**{word: value}).matches(empty)


def test_all_words_must_hold(complete: Verdict) -> None:
    """Inside a filter all must hold; among several filters one is enough; none at all is everything."""
    fits, fits_not = Filter(status=("completed",), task_type=("headshot",)), Filter(task_type=("x",))
    assert fits.matches(complete)
    assert not Filter(status=("completed",), task_type=("x",)).matches(complete)
    assert Filter().matches(complete)
    assert matches_any((), complete)
    assert matches_any((fits_not, fits), complete)
    assert not matches_any((fits_not, fits_not), complete)


def test_issue_without_category(complete: Verdict) -> None:
    """An issue that has no category is an issue: it is not the same as none."""
    verdict = complete.model_copy(update={"issues": [Issue(detail="d")]})
    assert not Filter(issue_category=("null",)).matches(verdict)
    assert not Filter(issue_category=("identity",)).matches(verdict)


def test_no_value_and_nul(complete: Verdict) -> None:
    """A NUL, which no stored text can hold, finds what was stored in its place."""
    verdict = complete.model_copy(update={"client_ref": "a\ufffd"})
    assert Filter(client_ref="a\0").matches(verdict)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"judges": "x"}, "judges"),
        *(({word: []}, word) for word in sorted(WORDS_OF_THE_API)),
        ({"overall_passed": "yes"}, "overall_passed"),
        ({"overall_passed": 1}, "overall_passed"),
        ({"overall_passed": ["true", None]}, "overall_passed"),
        ({"status": 5}, "status"),
        ({"status": {"a": 1}}, "status"),
        ({"weighted_pass_rate_min": "half"}, "weighted_pass_rate_min"),
        ({"weighted_pass_rate_min": "null"}, "weighted_pass_rate_min"),
        ({"weighted_pass_rate_max": float("nan")}, "weighted_pass_rate_max"),
        ({"weighted_pass_rate_max": "inf"}, "weighted_pass_rate_max"),
        ({"completed_after": "soon"}, "completed_after"),
        ({"completed_before": "0001-01-01T00:00:00+01:00"}, "completed_before"),
    ],
)
def test_refused(words: dict[str, Any], named: str) -> None:
    """An unknown word, an empty list and a value of the wrong kind are errors that name the word."""
    with pytest.raises(ValidationError) as caught:
        Filter(**words)
    assert {error["loc"][0] for error in caught.value.errors()} == {named}


def test_given() -> None:
    """The words that are given come out with their values as tuples, times in UTC, ready for a query."""
    moment = datetime(2026, 11, 18, 15, tzinfo=timezone(timedelta(hours=1)))
    words = {
        "completed_after": moment,
        "overall_passed": [True, "null"],
        "weighted_pass_rate_min": "0.5",
        "status": None,
    }
    assert Filter(**words).given() == {
        "overall_passed": ("true", "null"),
        "weighted_pass_rate_min": (0.5,),
        "completed_after": (datetime(2026, 11, 18, 14, tzinfo=UTC),),
    }


def test_as_text() -> None:
    """Values are compared as filters write them."""
    assert [as_text(value) for value in (None, True, False, "x", 5)] == ["null", "true", "false", "x", "5"]
