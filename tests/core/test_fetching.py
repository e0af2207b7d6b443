"""When a tree is fetched again: the grace, the growing wait, what the API asks for, and the end."""

from datetime import UTC, datetime, timedelta

import pytest

from receiver.core.fetching import (
    FEWEST_TRIES,
    FIRST,
    GIVE_UP_AFTER,
    GRACE,
    GRACE_STEP,
    LONGEST,
    Trouble,
    has_grace,
    next_try,
)

START = datetime(2026, 11, 18, 14, 13, 22, tzinfo=UTC)
TICK = timedelta(microseconds=1)
GRACED = {Trouble.NOT_FOUND, Trouble.NOT_TERMINAL}


@pytest.mark.parametrize("trouble", Trouble)
def test_grace(trouble: Trouble) -> None:
    """So soon after the callback, what only says that the API lags is looked at again shortly; nothing else, and not later."""
    within, after = START + GRACE - TICK, START + GRACE
    assert has_grace(trouble, START, within) is (trouble in GRACED)
    assert not has_grace(trouble, START, after)
    expected = GRACE_STEP if trouble in GRACED else LONGEST
    assert next_try(trouble, 99, START, within, after=None, spread=0) == within + expected


@pytest.mark.parametrize(
    ("attempts", "after", "wait"),
    [
        (1, None, FIRST),
        (3, None, 4 * FIRST),
        (99, None, LONGEST),
        (1, timedelta(seconds=30), timedelta(seconds=30)),
        (10, timedelta(seconds=30), 512 * FIRST),
        (1, timedelta(0), FIRST),
    ],
)
def test_wait(attempts: int, after: timedelta | None, wait: timedelta) -> None:
    """The wait doubles to an hour, and is as long as the API asks for where that is longer."""
    now = START + timedelta(hours=1)
    assert next_try(Trouble.SERVER_ERROR, attempts, START, now, after=after, spread=0) == now + wait


def test_gives_up() -> None:
    """After a day there is no next try."""
    last, too_late = START + GIVE_UP_AFTER - TICK, START + GIVE_UP_AFTER
    for trouble in Trouble:
        assert next_try(trouble, 1, START, last, after=None, spread=1) == last + FIRST / 2
        assert next_try(trouble, FEWEST_TRIES, START, too_late, after=None, spread=1) is None


def test_the_day_may_have_passed_without_a_try() -> None:
    """The machine was off, or the key refused: then there are tries for an hour, however late it is."""
    now = START + 3 * GIVE_UP_AFTER
    for attempts in range(1, FEWEST_TRIES):
        due_at = next_try(Trouble.UNREACHABLE, attempts, START, now, after=None, spread=1)
        assert due_at is not None
        now = due_at
    assert now - START > 3 * GIVE_UP_AFTER + timedelta(minutes=60)
    assert next_try(Trouble.UNREACHABLE, FEWEST_TRIES, START, now, after=None, spread=0) is None
