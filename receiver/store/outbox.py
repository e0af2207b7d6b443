"""The outbox: what is due to which sink. Leases, fencing, write-backs; how deliveries move is drawn in docs/states.md."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, case, func, literal, select

from receiver.store import lanes
from receiver.store.attempts import Failure, Noted, note_deliveries
from receiver.store.hours import note_late_deliveries
from receiver.store.tables import CLAIMABLE, deliveries, revisions, verdicts
from receiver.store.types import moment_text

State = Literal["pending", "leased", "delivered", "dead", "discarded"]
HOLD = timedelta(seconds=30)
"""For how long a process drains a paced sink before another may; it holds on while there is work."""
LOCKED_WAIT = timedelta(milliseconds=250)
"""How long to leave alone what is due and locked by another process, which is at it or hangs."""
STATES: tuple[State, ...] = ("pending", "leased", "delivered", "dead", "discarded")

# To the driver: through Core each row costs several times what it costs the database.
_POSTGRES_LEASE = """
UPDATE deliveries SET state = 'leased', due_at = $1, claim = claim + 1, attempts = attempts + 1,
  started_at = CASE attempts WHEN 0 THEN $3 ELSE started_at END
WHERE id = ANY($2::bigint[])
"""
_SQLITE_LEASE = """
UPDATE deliveries SET state = 'leased', due_at = ?1, claim = claim + 1, attempts = attempts + 1,
  started_at = CASE attempts WHEN 0 THEN ?3 ELSE started_at END
WHERE id = ?2
"""
_POSTGRES_SETTLE = """
UPDATE deliveries SET state = it.state, due_at = it.due_at, ended_at = it.ended_at, remote_id = it.remote_id,
  last_error = it.error, attempts = attempts - it.uncounted::int
FROM unnest($1::bigint[], $2::int[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[], $8::bool[])
  AS it (id, claim, state, due_at, ended_at, remote_id, error, uncounted)
WHERE deliveries.id = it.id AND deliveries.claim = it.claim AND deliveries.state = 'leased'
"""
_SQLITE_SETTLE = """
UPDATE deliveries SET state = ?3, due_at = ?4, ended_at = ?5, remote_id = ?6, last_error = ?7, attempts = attempts - ?8
WHERE id = ?1 AND claim = ?2 AND state = 'leased'
"""


class Claimed(NamedTuple):
    """A delivery that is this process's until the lease ends. `attempts` counts this one, `started_at` is when the first began;
    `document` is verdict.v1 as JSON.
    """

    id: int
    claim: int
    attempts: int
    created_at: datetime
    started_at: datetime
    replay_id: str
    evaluation_id: UUID
    document: str


class Settled(NamedTuple):
    """How an attempt ended. `uncounted`: it used up no attempt (given back at a stop, or the sink's own failure).

    `failure` is kept for the timeline.
    `late`: it was delivered more than `hours.LATE` after it was created, so that what was counted is to be counted again.
    """

    id: int
    claim: int
    state: State
    due_at: datetime | None = None
    ended_at: datetime | None = None
    remote_id: str | None = None
    error: str | None = None
    uncounted: bool = False
    failure: Failure | None = None
    late: bool = False


def claim(
    conn: Connection,
    sink: str,
    *,
    limit: int,
    lease: timedelta,
    now: datetime,
    but: lanes.Suspect | None = None,
) -> list[Claimed]:
    """Leases what is due to `sink`, except `but`, the longest due first.

    Counts the attempt now: one that kills its process counts too.
    """
    columns = [deliveries.c[name] for name in (*Claimed._fields[:-1], "revision")]
    due = (
        select(*columns)
        .where(_claimable(sink), deliveries.c.due_at <= now, lanes.all_but(deliveries.c.id, but))
        .order_by(deliveries.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")  # apart from the documents, or they might be sorted and locked as well
    )
    newest = select(verdicts.c.document).where(verdicts.c.evaluation_id == due.c.evaluation_id)
    earlier = select(revisions.c.document).where(
        revisions.c.evaluation_id == due.c.evaluation_id, revisions.c.revision == due.c.revision
    )
    document = func.coalesce(earlier.scalar_subquery(), newest.scalar_subquery())
    started_at = case((due.c.attempts == 0, literal(now, due.c.started_at.type)), else_=due.c.started_at)
    counted = due.c.claim + 1, due.c.attempts + 1
    query = select(due.c.id, *counted, due.c.created_at, started_at, due.c.replay_id, due.c.evaluation_id, document)
    claimed = sorted(map(Claimed._make, conn.execute(query)))
    if claimed:
        _lease(conn, [each.id for each in claimed], now + lease, now)
    return claimed


def _lease(conn: Connection, ids: list[int], until: datetime, now: datetime) -> None:
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql(_POSTGRES_LEASE, (until, ids, now))
    else:
        texts = moment_text(until), moment_text(now)
        conn.exec_driver_sql(_SQLITE_LEASE, [(texts[0], each, texts[1]) for each in ids])


def settle(conn: Connection, settled: Sequence[Settled]) -> None:
    """Writes attempts back. One whose lease was lost changes nothing: another process has it now."""
    if any(each.failure for each in settled):
        failed = [(it, it.failure) for it in _firsts(settled).values() if it.failure]
        note_deliveries(conn, [Noted(it.id, it.claim, failure, it.due_at) for it, failure in failed])
    if conn.dialect.name == "postgresql":
        firsts = _firsts(settled)
        columns = zip(*(firsts[key][:-2] for key in sorted(firsts)), strict=True)
        conn.exec_driver_sql(_POSTGRES_SETTLE, tuple(list(column) for column in columns))
    else:
        conn.exec_driver_sql(_SQLITE_SETTLE, [_sqlite_row(each) for each in settled])
    late = {each.id: each.ended_at for each in settled if each.late and each.ended_at is not None}
    if late:
        note_late_deliveries(conn, sorted(late), max(late.values()))


def _firsts(settled: Sequence[Settled]) -> dict[tuple[int, int], Settled]:
    """Of two outcomes of one attempt the first counts, as it does where they are written one after the other."""
    return {(each.id, each.claim): each for each in reversed(settled)}


def _sqlite_row(settled: Settled) -> tuple[Any, ...]:
    due_at, ended_at = settled.due_at, settled.ended_at
    moments = due_at and moment_text(due_at), ended_at and moment_text(ended_at)
    return (*settled[:3], *moments, *settled[5:-2])


def next_due(conn: Connection, sink: str) -> datetime | None:
    """When the next delivery to this sink is due, or its lease ends."""
    due: datetime | None = conn.execute(select(func.min(deliveries.c.due_at)).where(_claimable(sink))).scalar_one()
    return due


def _claimable(sink: str) -> ColumnElement[bool]:
    return and_(deliveries.c.sink == sink, CLAIMABLE)


class TakenDeliveries(NamedTuple):
    """What may be sent now: nothing while the sink is paused, one as a probe after it. `next_moment`: when to look again.

    `lane` is the state of the sink's lane.
    """

    claimed: list[Claimed]
    probing: bool
    next_moment: datetime | None
    lane: lanes.LaneState


def take(
    conn: Connection,
    sink: str,
    *,
    limit: int,
    lease: timedelta,
    now: datetime,
    idle: bool,
    sole_holder: str | None,
    hold: timedelta = HOLD,
) -> TakenDeliveries:
    """Claims up to `limit`, as the state of the sink permits. `idle`: nothing is under way in this process.

    A paced sink is drained by one process at a time: `sole_holder` is this one's id, None where the sink has no pace.
    It stays the one for `hold` after each claim.
    """
    name = lanes.sink_lane(sink)
    lane = lanes.state(conn, name)
    if lane.paused_until is not None and lane.paused_until > now:
        return TakenDeliveries([], probing=True, next_moment=lane.paused_until, lane=lane)
    probing = lane.failures > 0
    if sole_holder is not None:
        due = next_due(conn, sink)
        if due is None or due > now:
            return TakenDeliveries([], probing, next_moment=due, lane=lane)
        if not lanes.hold(conn, name, sole_holder, until=now + hold, now=now):
            return TakenDeliveries([], probing, next_moment=now + hold, lane=lane)
    permitted = limit if not probing else int(idle)
    if not permitted:
        return TakenDeliveries([], probing, next_moment=None, lane=lane)
    due_now = partial(claim, conn, sink, limit=permitted, lease=lease, now=now)
    claimed = (due_now(but=lane.newest_suspect) if probing else []) or due_now()
    if len(claimed) == permitted:  # there may be more that is due
        return TakenDeliveries(claimed, probing, next_moment=now, lane=lane)
    due = next_due(conn, sink)
    if due is not None and not claimed and due <= now:
        due = now + LOCKED_WAIT
    return TakenDeliveries(claimed, probing, next_moment=due, lane=lane)
