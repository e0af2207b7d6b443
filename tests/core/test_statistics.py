"""Figures out of tallies: what a plain count over all values would say."""

from decimal import Decimal
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.statistics import TOP, quantiles, statistics
from receiver.core.tallies import Tallies, add, as_lists, count, from_lists, two_digits

SHARES = (0.1, 0.5, 0.9, 0.99, 1)


def counted(**values: list[Any]) -> Tallies:
    tallies: Tallies = {}
    for what, those in values.items():
        for value in those:
            count(tallies, what, value, 1)
    return tallies


@given(st.lists(st.integers(0, 50), min_size=1, max_size=200))
def test_quantiles(values: list[int]) -> None:
    """The smallest value that so large a share is not above: what the sorted list has at that place."""
    expected = [sorted(values)[max(ceil(share * len(values)), 1) - 1] for share in SHARES]
    assert quantiles(counted(x=values)["x"], SHARES) == expected


def test_nothing() -> None:
    """Of no verdicts there is nothing to say, and it is said."""
    found = statistics({})
    assert (found.total, found.pass_rate, found.score.p50, found.fetch_lag.longest) == (0, None, None, None)
    assert (found.cost.total, found.cost.per_pass, found.judges) == ("0", None, [])


def test_counts_and_rates() -> None:
    """Verdicts without a decision count, and are in no rate."""
    found = statistics(counted(overall_passed=[True, True, False, None], status=["completed"] * 3 + [None]))
    assert (found.total, found.passed, found.failed, found.undecided) == (4, 2, 1, 1)
    assert found.pass_rate == pytest.approx(2 / 3, abs=1e-6)
    assert found.by_status == {"completed": 3, "null": 1}


@given(st.lists(st.decimals(-(10**12), 10**12, places=9), max_size=30), st.integers(0, 5))
def test_cost(costs: list[Decimal], unknown: int) -> None:
    """Sums of decimals are exact, as often as each occurs; what has no cost is counted."""
    texts = [f"{cost:f}" for cost in costs]
    found = statistics(counted(cost=[*texts, *[None] * unknown], overall_passed=[True] * 3)).cost
    assert Decimal(found.total) == sum(costs, Decimal(0))
    assert (found.known, found.unknown) == (len(costs), unknown)
    assert found.per_pass == f"{(sum(costs, Decimal(0)) / 3).quantize(Decimal('0.000001')):f}"


def test_cost_of_any_length() -> None:
    """A cost with more digits than any float has is summed to the last."""
    found = statistics(counted(cost=["1" * 60 + ".5", "0.00000000000000000000000000000000000001"])).cost
    assert found.total == "1" * 60 + ".50000000000000000000000000000000000001"


def test_the_most_frequent() -> None:
    """The most frequent first, equals by name, and no more than are asked for."""
    values = [f"code-{number:02}" for number in range(TOP + 5) for _ in range(2 if number == 7 else 1)]
    found = [each.failure_code for each in statistics(counted(failure_code=[*values, None])).failure_codes]
    assert found == ["code-07", *[f"code-{number:02}" for number in range(TOP) if number != 7]]


def test_judges() -> None:
    """A judge's opinions are all of them; those that fail most come first; one without a name is one too."""
    opinions = [("a", True), ("a", False), ("b", False), ("b", False), ("b", None), (None, True)]
    found = [
        (each.name, each.opinions, each.failed, each.fail_rate) for each in statistics(counted(judge=opinions)).judges
    ]
    assert found == [("b", 3, 2, 0.666667), ("a", 2, 1, 0.5), (None, 1, 0, 0.0)]


def test_lags() -> None:
    """Each sink has its own."""
    found = statistics(counted(delivery_ms=[("slack", 900), ("a", 5), ("a", 7)], fetch_ms=[10, 20, 30]))
    assert [(each.sink, each.count, each.longest) for each in found.delivery_lag] == [("a", 2, 7), ("slack", 1, 900)]
    assert (found.fetch_lag.p50, found.fetch_lag.p99) == (20, 30)


@pytest.mark.parametrize(
    ("lag", "kept"),
    [(-5, 0), (0, 0), (99, 99), (100, 100), (1049, 1000), (1051, 1100), (99_600, 100_000), (86_400_000, 86_000_000)],
)
def test_two_digits(lag: int, kept: int) -> None:
    """A lag is kept to two digits."""
    assert two_digits(lag) == kept


_values = (
    st.none()
    | st.booleans()
    | st.integers(0, 9)
    | st.text(max_size=3)
    | st.tuples(st.text(max_size=2), st.integers(0, 3))
)
_tallies = st.dictionaries(st.text(max_size=3), st.dictionaries(_values, st.integers(1, 9), max_size=4), max_size=4)


@given(_tallies, _tallies)
def test_sums_and_back(one: Tallies, other: Tallies) -> None:
    """Adding adds each count; what is written as lists is read back."""
    both = from_lists(as_lists(one))
    assert both == one
    add(both, other)
    for what in one.keys() | other.keys():
        for value in one.get(what, {}).keys() | other.get(what, {}).keys():
            assert both[what][value] == one.get(what, {}).get(value, 0) + other.get(what, {}).get(value, 0)
