"""When to try again: pure decisions. `spread` is a random number from 0 to 1 that the caller draws."""

from datetime import timedelta
from typing import Final, NamedTuple

_ENOUGH_STEPS = 64


class Waits(NamedTuple):
    """How long to wait between tries: `first`, then each time `factor` times as long, up to `longest`."""

    first: timedelta = timedelta(seconds=1)
    longest: timedelta = timedelta(hours=1)
    factor: float = 2.0


USUAL: Final = Waits()


def backoff(failures: int, *, first: timedelta, longest: timedelta, spread: float, factor: float = 2.0) -> timedelta:
    """How long to wait after so many failures in a row: growing by `factor` from `first` to `longest`.

    Up to half of it is taken off at random, so that those that failed together do not come back together.
    """
    steps = min(max(failures - 1, 0), _ENOUGH_STEPS)
    seconds = min(first.total_seconds() * factor**steps, longest.total_seconds())
    return timedelta(seconds=seconds * (1 - spread / 2))


def retry_after(header: str | None, longest: timedelta) -> timedelta | None:
    """The seconds of a `Retry-After` header, capped; None if there is none or it is no number of seconds.

    The date form is passed over: it would need both clocks to agree, and the wait without it is right as well.
    """
    if header is None or not header.strip().isdecimal() or not header.isascii():
        return None
    return timedelta(seconds=min(float(header), longest.total_seconds()))
