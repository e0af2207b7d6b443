"""How long does an answer take? To one connection with nothing else going on, and at half of the full load.

Idle is compared with one fdatasync on that machine, measured just before: an answer cannot come sooner.
"""

from pydantic import BaseModel

from bench import stores
from bench.measure import How, Measured, Variant, folder, measure
from bench.rates import NAMED
from bench.tables import Claim, table

TITLE = "Time of an answer"
EMPTY = "empty"
IDLE_SECONDS = 10.0
"""At most: an idle connection tells in that time what there is to tell."""


class Latency(BaseModel):
    """Of one server. `sync_ms`: one fdatasync of 4 KiB."""

    sync_ms: float
    idle: Measured
    half: Measured
    half_rate: float


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
    half = how.full._replace(seconds=how.latency_seconds, rate=half_rate)
    return Latency(
        sync_ms=sync_ms,
        idle=measure(variant, idle, how),
        half=measure(variant, half, how),
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
    idle, half = latency.idle.outcome, latency.half.outcome
    return [
        NAMED[name].title,
        f"{latency.sync_ms:.2f}",
        f"{idle.p50:.2f}",
        f"{idle.p99:.2f}",
        f"{half.per_second:,.0f} of {latency.half_rate:,.0f}",
        f"{half.p50:.2f}",
        f"{half.p99:.2f}",
        f"{half.longest:.1f}",
        str(half.over_100_ms),
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
                    f"{NAMED[name].title}: p99 at half load", each.half.outcome.p99, " ms", at_most=12, in_short=True
                ),
                Claim(
                    f"{NAMED[name].title}: answers over 100 ms at half load", each.half.outcome.over_100_ms, at_most=0
                ),
            ]
    return found
