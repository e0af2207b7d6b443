"""How long does an answer take? To one connection with nothing else going on, and at half of the full load.

Idle is compared with one fdatasync on that machine, measured just before: an answer cannot come sooner. Half load is held for a
minute in three parts, each on a server of its own: where the machine is shared, one bad second would be the p99 of the whole.
"""

from typing import Literal

from pydantic import BaseModel

from bench import stores
from bench.figures import Figure, figure
from bench.measure import How, Measured, Variant, folder, measure
from bench.rates import NAMED
from bench.tables import Claim, table

TITLE = "Time of an answer"
EMPTY = "empty"
IDLE_SECONDS = 10.0
"""At most: an idle connection tells in that time what there is to tell."""
HALF_PARTS = 3


class Latency(BaseModel):
    """Of one server. `sync_ms`: one fdatasync of 4 KiB."""

    sync_ms: float
    idle: Measured
    half: list[Measured]
    half_rate: float

    def at_half(self, name: Literal["per_second", "p50", "p99"]) -> Figure:
        """Over its parts."""
        return figure(getattr(each.outcome, name) for each in self.half)

    @property
    def longest(self) -> float:
        """Milliseconds of the slowest answer of the whole minute at half load."""
        return max(each.outcome.longest for each in self.half)

    @property
    def over_100_ms(self) -> int:
        """Answers of the whole minute at half load that took longer."""
        return sum(each.outcome.over_100_ms for each in self.half)


class Latencies(BaseModel):
    """By database, and `empty` for the route that does nothing."""

    servers: dict[str, Latency]


def run(how: How) -> Latencies:
    """Each on servers of its own."""
    return Latencies(servers={name: _measure(NAMED[name], how) for name in (EMPTY, *how.databases)})


def _measure(variant: Variant, how: How) -> Latency:
    half_rate = measure(variant, how.full, how).outcome.per_second / 2
    with folder() as here:
        sync_ms = stores.sync_ms(here)
    idle = how.full._replace(connections=1, seconds=min(how.latency_seconds, IDLE_SECONDS))
    half = how.full._replace(seconds=how.latency_seconds / HALF_PARTS, rate=half_rate)
    return Latency(
        sync_ms=sync_ms,
        idle=measure(variant, idle, how),
        half=[measure(variant, half, how) for _ in range(HALF_PARTS)],
        half_rate=half_rate,
    )


def markdown(latencies: Latencies) -> str:
    """Milliseconds."""
    head = [
        "time of an answer, ms",
        "one fdatasync",
        "idle p50",
        "idle p99",
        "half load, callbacks/s",
        "p50",
        "p99",
        "longest",
        "over 100 ms",
    ]
    return table(head, [_row(name, each) for name, each in latencies.servers.items()])


def _row(name: str, latency: Latency) -> list[str]:
    idle = latency.idle.outcome
    return [
        NAMED[name].title,
        f"{latency.sync_ms:.2f}",
        f"{idle.p50:.2f}",
        f"{idle.p99:.2f}",
        f"{latency.at_half('per_second').middle:,.0f} of {latency.half_rate:,.0f}",
        latency.at_half("p50").shown(2),
        latency.at_half("p99").shown(2),
        f"{latency.longest:.1f}",
        str(latency.over_100_ms),
    ]


def claims(latencies: Latencies) -> list[Claim]:
    """Idle over one fdatasync; half load's p99, and how many answers took over 100 ms."""
    found = []
    for name, each in latencies.servers.items():
        if name != EMPTY:
            found += [
                Claim(
                    f"{NAMED[name].title}: idle p50 less one fdatasync",
                    each.idle.outcome.p50 - each.sync_ms,
                    " ms",
                    at_most=1,
                    in_short=True,
                ),
                Claim(
                    f"{NAMED[name].title}: p99 at half load",
                    each.at_half("p99").middle,
                    " ms",
                    at_most=12,
                    in_short=True,
                ),
                Claim(f"{NAMED[name].title}: answers over 100 ms at half load", each.over_100_ms, at_most=0),
            ]
    return found
