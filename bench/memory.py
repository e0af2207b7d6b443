"""How much memory does it take? Resident memory through a burst as fast as the answers come, and after it, pipeline stopped."""

import time

from pydantic import BaseModel

from bench.measure import TITLES, How, check_answers, check_stored, fresh, press, served
from bench.processes import Memory, memory_of
from bench.sender import Outcome
from bench.stores import Kind, count
from bench.tables import Claim, table

TITLE = "Memory"

AFTER_SECONDS = 10.0
SLOWEST = 100
"""Callbacks a second that are reckoned with: the burst ends when all of it was sent."""
MOST_MB = 150
FLAT = 1.05
"""The second half of the time may take so many times the memory that the first half took at most."""


class Burst(BaseModel):
    """One burst. `memory` goes from before it to some seconds after it; `sending` is how long it lasted."""

    outcome: Outcome
    sending: float
    memory: Memory

    @property
    def growth(self) -> float:
        """The most of the second half of the time over the most of the first."""
        half = self.memory.series[-1][0] / 2
        first, second = (max(mb for at, mb in self.memory.series if (at > half) is late) for late in (False, True))
        return second / first


class Bursts(BaseModel):
    """By database."""

    callbacks: int
    stores: dict[Kind, Burst]


def run(how: How) -> Bursts:
    """A burst on each database."""
    return Bursts(callbacks=how.burst, stores={kind: _burst(kind, how) for kind in how.databases})


def _burst(kind: Kind, how: How) -> Burst:
    seconds = how.burst / SLOWEST
    load = how.full._replace(seconds=seconds, warm_up=0, per_second=(how.burst - 10 * how.connections) / seconds)
    with fresh(kind, how) as (here, url):
        with served(url, here) as server, memory_of(server.pid) as memory:
            outcome = press([server], load)
            time.sleep(AFTER_SECONDS)
        check_answers(kind, outcome)
        check_stored(kind, [outcome], count(url, "events"))
    return Burst(outcome=outcome, sending=outcome.seconds, memory=memory)


def markdown(bursts: Bursts) -> str:
    """Megabytes, from the start of the burst to ten seconds after it."""
    head = ["database", "callbacks", "callbacks/s", "memory, MB, over time", "highest", "at the end"]
    return table(head, [_row(kind, each) for kind, each in bursts.stores.items()])


def _row(kind: Kind, burst: Burst) -> list[str]:
    return [
        TITLES[kind],
        f"{sum(burst.outcome.answers.values()) + sum(burst.outcome.answers_before.values()):,}",
        f"{burst.outcome.per_second:,.0f}",
        burst.memory.shown(8),
        f"{burst.memory.highest:.0f}",
        f"{burst.memory.last:.0f}",
    ]


def claims(bursts: Bursts) -> list[Claim]:
    """The most that there was, and whether it grew."""
    found = []
    for kind, each in bursts.stores.items():
        found.append(
            Claim(f"{TITLES[kind]}: memory, highest", each.memory.highest, " MB", at_most=MOST_MB, in_short=True)
        )
        found.append(Claim(f"{TITLES[kind]}: memory, second half over first", each.growth, at_most=FLAT))
    return found
