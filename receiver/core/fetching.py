"""When a tree is fetched again: pure decisions over what went wrong, how often, and since when."""

from datetime import datetime, timedelta
from enum import StrEnum

from receiver.core.retry import backoff

GRACE = timedelta(seconds=60)
"""For so long after the callback a 404 or an evaluation that is not terminal yet is no failure: the API may lag behind it."""
GRACE_STEP = timedelta(seconds=2)
FIRST = timedelta(seconds=1)
LONGEST = timedelta(hours=1)
GIVE_UP_AFTER = timedelta(hours=24)
FEWEST_TRIES = 14
"""With fewer nothing is given up, and these take an hour or more: the day may have passed while nobody could try."""


class Trouble(StrEnum):
    """Why there is no tree; the value is the verdict's `tree_reason`."""

    NOT_FOUND = "not_found"
    NOT_TERMINAL = "not_terminal"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    UNREACHABLE = "unreachable"
    UNREADABLE = "unreadable"
    KEY_REFUSED = "key_refused"
    REFUSED = "refused"


_GRACED = frozenset({Trouble.NOT_FOUND, Trouble.NOT_TERMINAL})


def has_grace(trouble: Trouble, started_at: datetime, now: datetime) -> bool:
    """Whether this is to be expected so soon, and so no failed attempt."""
    return trouble in _GRACED and now - started_at < GRACE


def next_try(
    trouble: Trouble, attempts: int, started_at: datetime, now: datetime, *, after: timedelta | None, spread: float
) -> datetime | None:
    """When to try again after `attempts` failed ones, or None to give up. `after` is what the API asked for."""
    if has_grace(trouble, started_at, now):
        return now + GRACE_STEP
    if now - started_at >= GIVE_UP_AFTER and attempts >= FEWEST_TRIES:
        return None
    wait = backoff(attempts, first=FIRST, longest=LONGEST, spread=spread)
    return now + (wait if after is None else max(wait, after))
