"""Rules tried on verdicts: counts, examples and reasons; the rules are those of live routing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.explaining import why
from receiver.core.matching import Filter
from receiver.core.routing import Route, due_to
from receiver.core.trial import Trial
from receiver.core.verdict import Issue
from tests.web.seeds import key, verdict

PASSED = Filter(overall_passed=("true",))
FAILED = Filter(overall_passed=("false",))


def route(sink: str, *match: dict[str, Any], takes_samples: bool = False) -> Route:
    return Route(sink, tuple(Filter.model_validate(each) for each in match), takes_samples)


def test_counts() -> None:
    """Each verdict counts for the sinks that it is due to, for nowhere or for several; what is pending for none of them."""
    trial = Trial([route("passed", {"overall_passed": "true"}), route("shots", {"task_type": "headshot"})])
    trial.look_at(verdict(1, overall_passed=True, task_type="headshot", client_ref="a"))
    trial.look_at(verdict(2, overall_passed=True))
    trial.look_at(verdict(3, overall_passed=False))
    trial.look_at(verdict(4, overall_passed=True, tree="pending"))
    trial.look_at(verdict(5, overall_passed=True, origin="sample"))
    assert (trial.verdicts, trial.pending, trial.samples) == (4, 1, 1)
    assert {name: each.due.count for name, each in trial.sinks.items()} == {"passed": 2, "shots": 1}
    assert (trial.nowhere.count, trial.to_several.count) == (2, 1)
    assert trial.to_several.examples == [(key(1), "a", "passed, shots")]
    assert [example.why for example in trial.nowhere.examples] == [
        "passed: overall_passed is false, not true; shots: task_type is null, not headshot",
        "passed: it is a sample; shots: it is a sample",
    ]


def test_compared() -> None:
    """Against other rules: what each sink would gain and lose, also one that is new and one that is gone."""
    tried = [route("kept", {"overall_passed": "false"}), route("new", {"overall_passed": "null"})]
    present = [route("kept", {"overall_passed": ["true", "false"]}), route("gone", {"status": "completed"})]
    trial = Trial(tried, present)
    for number, passed in enumerate((True, True, False, None)):
        trial.look_at(verdict(number, overall_passed=passed, status="completed" if number else "failed"))
    found = {name: (each.due.count, each.gained.count, each.lost.count) for name, each in trial.sinks.items()}
    assert found == {"kept": (1, 0, 2), "new": (1, 1, 0), "gone": (0, 0, 3)}
    assert trial.sinks["kept"].lost.examples[0] == (key(0), None, "overall_passed is true, not false")
    assert trial.sinks["gone"].lost.examples[0].why == "there is no such sink"
    assert trial.sinks["new"].gained.examples == [(key(3), None, "overall_passed is null")]
    assert (trial.nowhere.count, trial.nowhere_at_present) == (2, 0)


def test_examples_are_few() -> None:
    """As many examples as asked for, the first; all are counted."""
    trial = Trial([route("all")], [], most=2)
    for number in range(5):
        trial.look_at(verdict(number))
    assert (trial.sinks["all"].due.count, trial.sinks["all"].gained.count) == (5, 5)
    assert [each.evaluation_id for each in trial.sinks["all"].due.examples] == [key(0), key(1)]


def test_no_sinks() -> None:
    """Without sinks all go nowhere, and the reason says so."""
    trial = Trial([])
    trial.look_at(verdict(1))
    assert trial.nowhere.examples[0].why == "there is no sink"


@pytest.mark.parametrize(
    ("match", "reason"),
    [
        ([], "it takes everything"),
        ([{}], "an empty match takes everything"),
        ([{"status": ["failed", "completed"], "overall_passed": False}], "overall_passed is false and status is completed"),
        ([{"status": "failed"}, {"client_ref_prefix": "é"}], "client_ref is état"),
        ([{"status": "failed"}, {"client_ref_prefix": ["x", "y"]}],
         "status is completed, not failed; client_ref is état, not beginning with x or y"),
        ([{"weighted_pass_rate_max": 0.5}], "weighted_pass_rate is 0.7, not at most 0.5"),
        ([{"weighted_pass_rate_min": 0.7, "issue_category": "anatomy"}],
         "issue_category is anatomy, null and weighted_pass_rate is 0.7"),
        ([{"issue_category": "identity"}], "issue_category is anatomy, null, not identity"),
        ([{"completed_after": "2026-11-26"}], "completed_at is 2026-11-25T12:00:50Z, not at least 2026-11-26T00:00:00Z"),
        ([{"task_type": ["null"]}], f"task_type is {'t' * 59}…, not null"),
    ],
)  # fmt: skip
def test_why(match: list[dict[str, Any]], reason: str) -> None:
    """The words that decided, with what the verdict has there; a long text is cut."""
    it = verdict(
        1, overall_passed=False, weighted_pass_rate=0.7, client_ref="état", task_type="t" * 100,
        issues=[Issue(category="anatomy"), Issue(category=None), Issue(category="anatomy")],
    )  # fmt: skip
    assert why(route("it", *match), it) == reason


@given(
    passed=st.lists(st.sampled_from([True, False, None]), max_size=6),
    origins=st.lists(st.sampled_from(["callback", "sample", "reconciled"]), min_size=6, max_size=6),
    matches=st.lists(st.lists(st.sampled_from([PASSED, FAILED, Filter()]), max_size=2), max_size=3),
)
def test_as_live(passed: list[bool | None], origins: list[str], matches: list[list[Filter]]) -> None:
    """Whatever the rules, each sink is counted as often as live routing would send there."""
    routes = [Route(f"s{n}", tuple(match), takes_samples=n == 0) for n, match in enumerate(matches)]
    there = [verdict(n, overall_passed=each, origin=origins[n]) for n, each in enumerate(passed)]
    trial = Trial(routes, routes)
    for each in there:
        trial.look_at(each)
    live = [due_to(routes, each, ()) for each in there]
    assert {name: each.due.count for name, each in trial.sinks.items()} == {
        each.sink: sum(each.sink in sinks for sinks in live) for each in routes
    }
    assert trial.nowhere.count == trial.nowhere_at_present == live.count([])
    assert all(not (each.gained.count or each.lost.count) for each in trial.sinks.values())
