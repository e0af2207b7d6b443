"""Which sinks a result is due to."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from receiver.core.matching import Filter, matches_any
from receiver.core.verdict import Verdict


class Route(NamedTuple):
    """A sink and what it takes. `takes_samples`: whether verdicts of sample callbacks go there as well."""

    sink: str
    match: tuple[Filter, ...] = ()
    takes_samples: bool = False


def due_to(routes: Sequence[Route], verdict: Verdict, given_before: Collection[str]) -> list[str]:
    """The sinks, in the order of the routes: those that match now, and those that were given an earlier revision.

    A sink that is not configured any more gets nothing new. A sample goes nowhere but to sinks that take samples.
    """
    return [
        route.sink
        for route in routes
        if (route.takes_samples or verdict.origin != "sample")
        and (route.sink in given_before or matches_any(route.match, verdict))
    ]
