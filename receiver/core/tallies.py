"""How often each value occurred: what all figures about many verdicts are made of, and what adds up over hours and groups."""

from collections.abc import Mapping, Sequence
from typing import Any

Tallies = dict[str, dict[Any, int]]
"""By what was looked at (`score`, `cost`, …): how often each value was there. None is a value: there was none."""


def count(into: Tallies, what: str, value: Any, times: int) -> None:
    """Counts a value so many times more."""
    counted = into.setdefault(what, {})
    counted[value] = counted.get(value, 0) + times


def add(into: Tallies, more: Mapping[str, Mapping[Any, int]]) -> None:
    """Counts all of `more` as well."""
    for what, counted in more.items():
        mine = into.setdefault(what, {})
        for value, times in counted.items():
            mine[value] = mine.get(value, 0) + times


def two_digits(milliseconds: int) -> int:
    """A lag to two digits, so that millions of lags have a few hundred values; a negative one, of two clocks, is none."""
    if milliseconds < 100:
        return max(milliseconds, 0)
    return round(milliseconds, 2 - len(str(milliseconds)))


def four_decimals(score: float) -> float:
    """A score as exact as anybody means it, so that millions of scores have at most 10,001 values between 0 and 1."""
    return round(score, 4)


def as_lists(tallies: Tallies) -> dict[str, list[list[Any]]]:
    """In a form that JSON can hold."""
    return {what: [[value, times] for value, times in counted.items()] for what, counted in tallies.items()}


def from_lists(lists: Mapping[str, Sequence[Any]]) -> Tallies:
    """Back from that form: a value of several parts is a tuple, and then all values of the kind are."""
    return {
        what: {tuple(value): times for value, times in pairs} if _has_parts(pairs) else dict(pairs)
        for what, pairs in lists.items()
    }


def _has_parts(pairs: Sequence[Any]) -> bool:
    return bool(pairs) and isinstance(pairs[0][0], list)
