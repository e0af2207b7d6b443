"""What happens when more comes than can be stored? Four times the connections, slow syncs, a lock that others hold.

The rate of callbacks that are taken must not collapse, memory must not grow, whoever is sent away must be told soon and told
when to come again; and whatever was answered 2xx must be in the database afterwards, by its id.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from pydantic import BaseModel

from bench.measure import TITLES, How, Load, fresh, press, served
from bench.processes import Memory, memory_of
from bench.sender import UNAVAILABLE, Outcome
from bench.slow import HOLD_SECONDS, REST_SECONDS, SYNC_MS, locked_at_times, slow_sync
from bench.stores import Kind, evaluation_ids, migrate
from bench.tables import Claim, table

TITLE = "Back-pressure"

MORE_CONNECTIONS = 4
MANY_CONNECTIONS = 32
"""While syncs are slow. Each connection waits for one sync or two, so fewer could not send more, whatever the server does."""
LEAST = 0.6
"""Of the rate of the peak, while it is pressed."""
LONGEST_REFUSAL_MS = 5_000
FLAT = 1.05
HEADROOM = 1.5
"""Over the rate of the peak: how many callbacks are made ready."""
PRESSURES = {
    "peak": "the peak: as many connections as in all other parts",
    "connections": f"{MORE_CONNECTIONS} times the connections",
    "slow": f"{MANY_CONNECTIONS} times the connections, and each sync takes {SYNC_MS} ms longer",
    "locked": (
        f"{MORE_CONNECTIONS} times the connections, and another holds the lock for {HOLD_SECONDS:g}"
        f" of every {HOLD_SECONDS + REST_SECONDS:g} s"
    ),
}


class Pressed(BaseModel):
    """One pressure. `lost`: how many callbacks were answered 2xx and are not stored."""

    outcome: Outcome
    memory: Memory
    acknowledged: int
    lost: int

    @property
    def growth(self) -> float:
        """The last quarter's highest memory over the second quarter's: the first has the warm-up in it."""
        quarter = len(self.memory.series) // 4 or 1
        parts = [mb for _, mb in self.memory.series]
        return max(parts[-quarter:]) / max(parts[quarter : 2 * quarter] or parts)


class Pressures(BaseModel):
    """By database and kind of pressure."""

    stores: dict[Kind, dict[str, Pressed]]


def run(how: How) -> Pressures:
    """The peak first; what can be sent under pressure is made ready by it."""
    return Pressures(stores={kind: _all(kind, how) for kind in how.databases})


def _all(kind: Kind, how: How) -> dict[str, Pressed]:
    peak = _pressed(kind, "peak", how.full._replace(seconds=2 * how.seconds), how)
    assert peak is not None  # which every machine can make
    found = {"peak": peak}
    load = how.full._replace(
        seconds=how.pressure_seconds,
        per_second=peak.outcome.per_second * HEADROOM,
    )
    for name in PRESSURES:
        times = MANY_CONNECTIONS if name == "slow" else MORE_CONNECTIONS
        pressing = load._replace(connections=how.connections * times)
        if name not in found and (pressed := _pressed(kind, name, pressing, how)) is not None:
            found[name] = pressed
    return found


def _pressed(kind: Kind, name: str, load: Load, how: How) -> Pressed | None:
    """None where this pressure cannot be made on this machine."""
    with fresh(kind, how) as (here, url):
        migrate(url)
        more: Mapping[str, str] | None = slow_sync(url, here) if name == "slow" else {}
        if more is None:
            return None
        acknowledged = here / "acknowledged"
        with served(url, here, more=more) as server, memory_of(server.pid) as memory, _others(name, url):
            outcome = press([server], load, acknowledged=acknowledged)
        if not outcome.answers.keys() <= {202, UNAVAILABLE}:
            raise ValueError(f"{kind}, {name}: answers {outcome.answers}")
        ids = _ids(acknowledged)
        return Pressed(outcome=outcome, memory=memory, acknowledged=len(ids), lost=len(ids - evaluation_ids(url)))


def _others(name: str, url: str) -> AbstractContextManager[None]:
    return locked_at_times(url, HOLD_SECONDS, REST_SECONDS) if name == "locked" else nullcontext()


def _ids(acknowledged: Path) -> set[bytes]:
    packed = acknowledged.read_bytes()
    return {packed[at : at + 16] for at in range(0, len(packed), 16)}


def markdown(pressures: Pressures) -> str:
    """A table for each database."""
    return "\n\n".join(_table(kind, found) for kind, found in pressures.stores.items())


def _table(kind: Kind, found: dict[str, Pressed]) -> str:
    head = [
        TITLES[kind],
        "taken/s",
        "of the peak",
        "p99, longest ms",
        "refused",
        "refusals: p50, p99, longest ms",
        "memory, MB, over time",
        "acknowledged",
        "of them lost",
    ]
    return table(head, [_row(name, each, found["peak"]) for name, each in found.items()])


def _row(name: str, pressed: Pressed, peak: Pressed) -> list[str]:
    outcome, refusals = pressed.outcome, pressed.outcome.refusals
    times = f"{refusals.p50:,.0f}, {refusals.p99:,.0f}, {refusals.longest:,.0f}"
    return [
        PRESSURES[name],
        f"{outcome.per_second:,.0f}",
        f"{outcome.per_second / peak.outcome.per_second:.2f}",
        f"{outcome.p99:,.0f}, {outcome.longest:,.0f}",
        f"{refusals.count:,}",
        times if refusals.count else "",
        pressed.memory.shown(),
        f"{pressed.acknowledged:,}",
        str(pressed.lost),
    ]


def claims(pressures: Pressures) -> list[Claim]:
    """The least of what was taken, the longest refusal, memory's growth, and that nothing was lost."""
    return [claim for kind, found in pressures.stores.items() for claim in _claims(TITLES[kind], found)]


def _claims(title: str, found: dict[str, Pressed]) -> list[Claim]:
    peak = found["peak"].outcome.per_second
    pressed = {name: each for name, each in found.items() if name != "peak"}
    taken = {name: each.outcome.per_second / peak for name, each in pressed.items()}
    refusals = [each.outcome.refusals for each in pressed.values()]
    silent = sum(each.without_retry_after for each in refusals)
    growth = max(each.growth for each in pressed.values())
    lost = sum(each.lost for each in found.values())
    worst = f"{title}, pressed: taken/s over the peak, where it is least"
    return [
        *(
            Claim(f"{title}, {PRESSURES[name]}: taken/s over the peak", rate, at_least=LEAST)
            for name, rate in taken.items()
        ),
        Claim(worst, min(taken.values()), at_least=LEAST, in_short=True),
        Claim(
            f"{title}, pressed: longest refusal", max(r.longest for r in refusals), " ms", at_most=LONGEST_REFUSAL_MS
        ),
        Claim(f"{title}, pressed: 503 without Retry-After", silent, at_most=0),
        Claim(f"{title}, pressed: memory, last quarter over second", growth, at_most=FLAT),
        Claim(f"{title}, pressed: answered 2xx and not stored", lost, at_most=0, in_short=True),
    ]
