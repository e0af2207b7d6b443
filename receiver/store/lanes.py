"""What all processes must agree on: a paused lane or sink, who drains a paced sink, and who is alive."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import Column, ColumnElement, Connection, Row, delete, func, or_, select, true, update

from receiver.store.intake import upsert
from receiver.store.tables import DUE, deliveries, fetches, lanes, processes, ratings

FETCH = "fetch"
MOST_SUSPECTS = 100
"""Of a lane: the newest are kept."""
MOST_PAUSES = 3
"""That begin with one suspect alone, while the lane took others in between: from then on it is the suspect's own failure."""

Suspect = int | UUID
"""A delivery's id, or that of an evaluation whose tree is fetched."""


def sink_lane(sink: str) -> str:
    """The lane of a sink."""
    return f"sink:{sink}"


class LaneState(NamedTuple):
    """`failures` in a row that were the lane's own; paused until `paused_until`, if that is in the future.

    `suspects`: how many pauses began with each alone, while the lane took others in between; the newest last.
    """

    name: str
    paused_until: datetime | None = None
    failures: int = 0
    reason: str | None = None
    suspects: Mapping[Suspect, int] = MappingProxyType({})

    def finds_out(self, suspect: Suspect) -> bool:
        """Whether it is this one, and not the lane, that fails."""
        return self.suspects.get(suspect, 0) >= MOST_PAUSES

    @property
    def newest_suspect(self) -> Suspect | None:
        """The one with which the newest such pause began: it is not to be the probe where there is another."""
        return next(reversed([*self.suspects]), None)


def all_but(column: Column[Any], suspect: Suspect | None) -> ColumnElement[bool]:
    """A condition that leaves this one out, if it is given."""
    return true() if suspect is None else column != suspect


_STATE = (lanes.c.name, lanes.c.paused_until, lanes.c.failures, lanes.c.reason, lanes.c.suspects)


def state(conn: Connection, name: str) -> LaneState:
    """The lane's state; one that was never paused has none."""
    row = conn.execute(select(*_STATE).where(lanes.c.name == name)).first()
    return _lane_state(row) if row else LaneState(name)


def troubled(conn: Connection) -> list[LaneState]:
    """All lanes whose last try failed by their own fault."""
    rows = conn.execute(select(*_STATE).where(lanes.c.failures > 0).order_by(lanes.c.name))
    return [_lane_state(row) for row in rows]


def _lane_state(row: Row[*tuple[Any, ...]]) -> LaneState:
    return LaneState(row.name, row.paused_until, row.failures, row.reason, _known(row.suspects))


def pause(
    conn: Connection, name: str, *, until: datetime, reason: str, now: datetime, suspects: Sequence[Suspect] = ()
) -> bool:
    """Pauses the lane; False if it was paused already (what was under way then fails as well, and counts once).

    `suspects` are those that were refused by themselves. Where the lane was well until now, that counts against them:
    whatever failed before, something was taken since.
    """
    made = upsert(conn)(lanes).values(name=name, paused_until=until, failures=1, reason=reason)
    paused = made.on_conflict_do_update(
        index_elements=[lanes.c.name],
        set_={"paused_until": until, "failures": lanes.c.failures + 1, "reason": reason},
        where=or_(lanes.c.paused_until.is_(None), lanes.c.paused_until <= now),
    ).returning(lanes.c.failures, lanes.c.suspects)
    row = conn.execute(paused).first()
    if row is not None and row.failures == 1 and suspects:
        counted = _one_more(_known(row.suspects), suspects)
        conn.execute(update(lanes).where(lanes.c.name == name).values(suspects=counted))
    return row is not None


def _known(document: str | None) -> dict[Suspect, int]:
    return {
        int(name) if name.isdecimal() else UUID(name): count for name, count in orjson.loads(document or "{}").items()
    }


def _one_more(known: dict[Suspect, int], suspects: Sequence[Suspect]) -> str:
    newest = {each: known.pop(each, 0) + 1 for each in suspects}
    kept = [*known.items(), *newest.items()][-MOST_SUSPECTS:]
    return orjson.dumps({str(suspect): count for suspect, count in kept}).decode()


def resume(conn: Connection, name: str) -> bool:
    """Clears the lane's failures; False if there were none."""
    cleared = (
        update(lanes)
        .where(lanes.c.name == name, lanes.c.failures > 0)
        .values(paused_until=None, failures=0, reason=None)
        .returning(lanes.c.name)
    )
    return conn.execute(cleared).first() is not None


def probe_now(conn: Connection, name: str | None, now: datetime) -> None:
    """Ends the wait of a paused lane, or of all, so that the next try is made at once: somebody says that it is mended."""
    paused = update(lanes).where(lanes.c.failures > 0, lanes.c.paused_until > now).values(paused_until=now)
    conn.execute(paused if name is None else paused.where(lanes.c.name == name))


def hold(conn: Connection, name: str, holder: str, *, until: datetime, now: datetime) -> bool:
    """Makes `holder` the one process that drains this lane until then; False if another is."""
    made = upsert(conn)(lanes).values(name=name, failures=0, holder=holder, held_until=until)
    held = made.on_conflict_do_update(
        index_elements=[lanes.c.name],
        set_={"holder": holder, "held_until": until},
        where=or_(lanes.c.holder.is_(None), lanes.c.holder == holder, lanes.c.held_until <= now),
    ).returning(lanes.c.name)
    return conn.execute(held).first() is not None


def beat(conn: Connection, process: str, *, host: str, pid: int, now: datetime, gone_after: timedelta) -> int:
    """Notes that this process lives, forgets those not seen for long; returns how many live."""
    made = upsert(conn)(processes).values(id=process, host=host, pid=pid, started_at=now, seen_at=now)
    conn.execute(made.on_conflict_do_update(index_elements=[processes.c.id], set_={"seen_at": now}))
    conn.execute(delete(processes).where(processes.c.seen_at < now - gone_after))
    return conn.execute(select(func.count()).select_from(processes)).scalar_one()


def leave(conn: Connection, process: str) -> None:
    """Forgets this process, and leaves the lanes that it held to others."""
    conn.execute(delete(processes).where(processes.c.id == process))
    conn.execute(update(lanes).where(lanes.c.holder == process).values(holder=None, held_until=None))


def probe(conn: Connection, now: datetime) -> None:
    """Writes something that matters to nobody, to see whether anything can be written."""
    made = upsert(conn)(lanes).values(name="probe", failures=0, held_until=now)
    conn.execute(made.on_conflict_do_update(index_elements=[lanes.c.name], set_={"held_until": now}))


def free_all_leases(conn: Connection, now: datetime) -> None:
    """Makes everything that is leased due now: for a process that knows that it is the only one."""
    conn.execute(update(deliveries).where(deliveries.c.state == "leased").values(state="pending", due_at=now))
    conn.execute(update(fetches).where(fetches.c.leased).values(leased=False, due_at=now))
    conn.execute(update(ratings).where(DUE).values(due_at=now))  # also those that only wait, which does no harm
    conn.execute(update(lanes).values(holder=None, held_until=None))
    conn.execute(delete(processes))
