"""When to try again: the wait doubles between its bounds, and what the other side asks for is honoured within reason."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.retry import backoff, retry_after

HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)

spans = st.timedeltas(timedelta(milliseconds=1), timedelta(days=400))
spreads = st.floats(0, 1)


@given(failures=st.integers(-1, 10**6), first=spans, longest=spans, spread=spreads)
def test_backoff_bounds(failures: int, first: timedelta, longest: timedelta, spread: float) -> None:
    """The wait is between half and all of `first` doubled for each further failure, and never over `longest`."""
    doubled = first
    for _ in range(min(failures - 1, 40)):
        doubled = min(doubled * 2, longest)
    whole = min(doubled, longest)
    assert whole / 2 - TICK <= backoff(failures, first=first, longest=longest, spread=spread) <= whole + TICK


@given(failures=st.integers(0, 200), first=spans, longest=spans, spread=spreads)
def test_backoff_grows(failures: int, first: timedelta, longest: timedelta, spread: float) -> None:
    """With the same spread, one failure more never means a shorter wait."""
    one, two = (backoff(count, first=first, longest=longest, spread=spread) for count in (failures, failures + 1))
    assert one <= two


@pytest.mark.parametrize(("failures", "seconds"), [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (10**9, 60)])
def test_backoff_doubles(failures: int, seconds: int) -> None:
    """One second, two, four and so on to a minute; with the most spread, half of it."""
    first, longest = timedelta(seconds=1), timedelta(minutes=1)
    assert backoff(failures, first=first, longest=longest, spread=0) == timedelta(seconds=seconds)
    assert backoff(failures, first=first, longest=longest, spread=1) == timedelta(seconds=seconds / 2)


@pytest.mark.parametrize(("factor", "waits"), [(1, [5, 5, 5]), (1.5, [5, 7.5, 11.25]), (100, [5, 500, 3600])])
def test_backoff_by_a_factor(factor: float, waits: list[float]) -> None:
    """Each wait is `factor` times the one before, so that 1 is a steady one."""
    span = {"first": timedelta(seconds=5), "longest": HOUR}
    seconds = [backoff(count, **span, factor=factor, spread=0).total_seconds() for count in (1, 2, 3)]
    assert seconds == waits
    assert backoff(10**9, **span, factor=factor, spread=0) in (timedelta(seconds=5), HOUR)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("  ", None),
        ("0", 0),
        ("7", 7),
        (" 120 ", 120),
        ("00000000010", 10),
        ("3600", 3600),
        ("3601", 3600),
        ("10000000000", 3600),
        ("9" * 5000, 3600),
        ("-1", None),
        ("+5", None),
        ("1.5", None),
        ("1e3", None),
        ("1_000", None),
        ("5, 6", None),
        ("5s", None),
        ("nan", None),
        ("inf", None),
        ("\u0665", None),
        ("\u00b2", None),
        ("\u20035", None),
        ("Wed, 18 Nov 2026 14:13:22 GMT", None),
    ],
)
def test_retry_after(header: str | None, seconds: int | None) -> None:
    """Whole seconds in ASCII digits count, up to the cap; the date form and everything else do not."""
    assert retry_after(header, HOUR) == (None if seconds is None else timedelta(seconds=seconds))


@given(header=st.text() | st.integers().map(str), longest=spans)
def test_retry_after_never_raises(header: str, longest: timedelta) -> None:
    """No header makes it raise, ask for a wait over the cap, or one into the past."""
    wait = retry_after(header, longest)
    assert wait is None or timedelta(0) <= wait <= longest + TICK
