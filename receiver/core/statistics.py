"""What many verdicts say together: counts, rates, quantiles, what fails most, cost and lag, out of their tallies."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal, localcontext
from itertools import accumulate
from math import ceil
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from receiver.core.matching import as_text
from receiver.core.tallies import Tallies

TOP: Final = 10
"""How many of the most frequent are named."""
_EXACT: Final = Context(prec=10_000)
"""Digits. Sums of costs are exact whatever they are."""
_PER_PASS: Final = Decimal("0.000001")


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


class Scores(_Figures):
    """Of `weighted_pass_rate`, to four decimals, over those that have one. A quantile is a score that occurred."""

    count: int
    mean: float | None = None
    p10: float | None = None
    p25: float | None = None
    p50: float | None = None
    p75: float | None = None
    p90: float | None = None


class Lag(_Figures):
    """Milliseconds, to two digits. A quantile is a lag that occurred."""

    count: int
    p50: int | None = None
    p90: int | None = None
    p99: int | None = None
    longest: int | None = None


class SinkLag(Lag):
    """From the moment a revision was due to a sink until the sink had it; without replays."""

    sink: str


class JudgeFailures(_Figures):
    """How often a judge failed an image, of all its opinions."""

    name: str | None
    opinions: int
    failed: int
    fail_rate: float | None


class IssueCategory(_Figures):
    """In how many evaluations judges found an issue of this category."""

    category: str | None
    evaluations: int


class IssueSubcategory(_Figures):
    """The same of a subcategory."""

    category: str | None
    subcategory: str | None
    evaluations: int


class FailureCode(_Figures):
    """How many evaluations failed for this."""

    failure_code: str
    evaluations: int


class Cost(_Figures):
    """Credits as decimal strings, exact. `unknown`: how many evaluations have no cost (not billable, or without their tree)."""

    total: str
    known: int
    unknown: int
    per_pass: str | None = Field(default=None, description="The total for each that passed, to six decimals.")


class Statistics(_Figures):
    """Of all verdicts of one bucket and one group."""

    total: int
    passed: int
    failed: int = Field(description="Those whose overall_passed is false.")
    undecided: int = Field(description="Those whose overall_passed is null.")
    pass_rate: float | None = Field(default=None, description="passed of passed and failed; null when there are none")
    by_status: dict[str, int]
    by_event: dict[str, int]
    by_tree: dict[str, int]
    score: Scores
    issue_categories: list[IssueCategory]
    issue_subcategories: list[IssueSubcategory]
    judges: list[JudgeFailures] = Field(description="Those that failed most images first.")
    failure_codes: list[FailureCode]
    cost: Cost
    fetch_lag: Lag = Field(description="From the event's arrival until its tree was first read.")
    delivery_lag: list[SinkLag]


def statistics(of: Tallies) -> Statistics:
    """The figures of these tallies."""
    verdicts = of.get("overall_passed", {})
    passed, failed = verdicts.get(True, 0), verdicts.get(False, 0)
    return Statistics(
        total=sum(verdicts.values()),
        passed=passed,
        failed=failed,
        undecided=verdicts.get(None, 0),
        pass_rate=_share(passed, passed + failed),
        by_status=_named(of, "status"),
        by_event=_named(of, "event"),
        by_tree=_named(of, "tree"),
        score=_scores(_known(of, "score")),
        issue_categories=[
            IssueCategory(category=category, evaluations=number) for category, number in _top(of.get("category", {}))
        ],
        issue_subcategories=[
            IssueSubcategory(category=category, subcategory=subcategory, evaluations=number)
            for (category, subcategory), number in _top(of.get("subcategory", {}))
        ],
        judges=_judges(of.get("judge", {})),
        failure_codes=[
            FailureCode(failure_code=code, evaluations=number) for code, number in _top(_known(of, "failure_code"))
        ],
        cost=_cost(of.get("cost", {}), passed),
        fetch_lag=Lag(**_lag(of.get("fetch_ms", {}))),
        delivery_lag=_by_sink(of.get("delivery_ms", {})),
    )


def _named(of: Tallies, what: str) -> dict[str, int]:
    """With the word `null` for those that have none."""
    return {as_text(value): times for value, times in _top(of.get(what, {}), most=None)}


def _known(of: Tallies, what: str) -> dict[Any, int]:
    return {value: times for value, times in of.get(what, {}).items() if value is not None}


def _top(counted: Mapping[Any, int], most: int | None = TOP) -> list[tuple[Any, int]]:
    """The most frequent first; of equals in the order of their names, so that the same question has the same answer."""
    return sorted(counted.items(), key=lambda item: (-item[1], str(item[0])))[:most]


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def quantiles(counted: Mapping[Any, int], shares: Sequence[float]) -> list[Any]:
    """For each share the smallest value that so large a share of all is not above; None of none."""
    if not counted:
        return [None] * len(shares)
    values = sorted(counted)
    up_to = list(accumulate(counted[value] for value in values))
    return [values[bisect_left(up_to, max(ceil(share * up_to[-1]), 1))] for share in shares]


def _scores(counted: Mapping[float, int]) -> Scores:
    whole = sum(counted.values())
    mean = round(sum(value * times for value, times in counted.items()) / whole, 6) if whole else None
    p10, p25, p50, p75, p90 = quantiles(counted, (0.1, 0.25, 0.5, 0.75, 0.9))
    return Scores(count=whole, mean=mean, p10=p10, p25=p25, p50=p50, p75=p75, p90=p90)


def _lag(counted: Mapping[int, int]) -> dict[str, Any]:
    p50, p90, p99, longest = quantiles(counted, (0.5, 0.9, 0.99, 1))
    return {"count": sum(counted.values()), "p50": p50, "p90": p90, "p99": p99, "longest": longest}


def _by_sink(counted: Mapping[tuple[str, int], int]) -> list[SinkLag]:
    sinks: dict[str, dict[int, int]] = {}
    for (sink, lag), times in counted.items():
        sinks.setdefault(sink, {})[lag] = times
    return [SinkLag(sink=sink, **_lag(sinks[sink])) for sink in sorted(sinks)]


def _judges(counted: Mapping[tuple[str | None, bool | None], int]) -> list[JudgeFailures]:
    opinions: dict[str | None, int] = {}
    failed: dict[str | None, int] = {}
    for (name, passed), times in counted.items():
        opinions[name] = opinions.get(name, 0) + times
        failed[name] = failed.get(name, 0) + (times if passed is False else 0)
    return [
        JudgeFailures(name=name, opinions=opinions[name], failed=times, fail_rate=_share(times, opinions[name]))
        for name, times in _top(failed)
    ]


def _cost(counted: Mapping[str | None, int], passed: int) -> Cost:
    unknown = counted.get(None, 0)
    with localcontext(_EXACT):
        total = sum((Decimal(cost) * times for cost, times in counted.items() if cost is not None), Decimal(0))
        per_pass = (total / passed).quantize(_PER_PASS) if passed else None
    return Cost(
        total=_plain(total),
        known=sum(counted.values()) - unknown,
        unknown=unknown,
        per_pass=None if per_pass is None else _plain(per_pass),
    )


_plain: Callable[[Decimal], str] = "{:f}".format
"""Without an exponent."""
