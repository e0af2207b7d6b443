"""The outbox: what is due to which sink. Leases, fencing, write-backs; how deliveries move is drawn in docs/states.md."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, select, update

from receiver.core.verdict import Verdict
from receiver.store import lanes
from receiver.store.tables import CLAIMABLE, deliveries, revisions, verdicts

State = Literal["pending", "leased", "delivered", "dead", "discarded"]
HOLD = timedelta(seconds=30)
"""For how long a process drains a paced sink before another may; it holds on while there is work."""
LOCKED_WAIT = timedelta(milliseconds=250)
"""How long to leave alone what is due and locked by another process, which is at it or hangs."""
STATES: tuple[State, ...] = ("pending", "leased", "delivered", "dead", "discarded")


class Claimed(NamedTuple):
    """A delivery that is this process's until the lease ends. `attempts` counts this one."""

    id: int
    claim: int
    attempts: int
    started_at: datetime
    replay_id: str
    verdict: Verdict


class Settled(NamedTuple):
    """How an attempt ended. `uncounted`: it used up no attempt (given back at a stop, or the sink's own failure)."""

    id: int
    claim: int
    state: State
    due_at: datetime | None = None
    ended_at: datetime | None = None
    remote_id: str | None = None
    error: str | None = None
    uncounted: bool = False


def claim(conn: Connection, sink: str, *, limit: int, lease: timedelta, now: datetime) -> list[Claimed]:
    """Leases what is due to `sink`, the longest due first. Counts the attempt now: one that kills its process counts too."""
    due = (
        select(deliveries.c.id)
        .where(_claimable(sink), deliveries.c.due_at <= now)
        .order_by(deliveries.c.due_at, deliveries.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")  # evaluated once; a subquery might be run again, and lock more than the limit
    )
    leased = (
        update(deliveries)
        .where(deliveries.c.id.in_(select(due.c.id)))
        .values(state="leased", claim=deliveries.c.claim + 1, attempts=deliveries.c.attempts + 1, due_at=now + lease)
        .returning(deliveries.c.id)
    )
    ids = list(conn.scalars(leased))
    if not ids:
        return []
    this_revision = (revisions.c.evaluation_id == deliveries.c.evaluation_id) & (
        revisions.c.revision == deliveries.c.revision
    )
    columns = [deliveries.c[name] for name in ("id", "claim", "attempts", "started_at", "replay_id")]
    query = (
        select(*columns, func.coalesce(revisions.c.document, verdicts.c.document))
        .join(verdicts, verdicts.c.evaluation_id == deliveries.c.evaluation_id)
        .outerjoin(revisions, this_revision)
        .where(deliveries.c.id.in_(ids))
        .order_by(deliveries.c.id)
    )
    return [Claimed._make([*ours, Verdict.model_validate_json(document)]) for *ours, document in conn.execute(query)]


def settle(conn: Connection, settled: Sequence[Settled]) -> None:
    """Writes attempts back. One whose lease was lost changes nothing: another process has it now."""
    statement = (
        update(deliveries)
        .where(
            deliveries.c.id == bindparam("key"),
            deliveries.c.claim == bindparam("number"),
            deliveries.c.state == "leased",
        )
        .values(
            state=bindparam("now_is"),
            due_at=bindparam("due"),
            ended_at=bindparam("ended"),
            attempts=deliveries.c.attempts - bindparam("back"),
            remote_id=bindparam("remote"),
            last_error=bindparam("error"),
        )
    )
    rows: list[dict[str, Any]] = [
        {"key": it.id, "number": it.claim, "now_is": it.state, "due": it.due_at, "ended": it.ended_at}
        | {"back": int(it.uncounted), "remote": it.remote_id, "error": it.error}
        for it in sorted(settled, key=lambda each: (each.id, each.claim))
    ]
    conn.execute(statement, rows)


def next_due(conn: Connection, sink: str) -> datetime | None:
    """When the next delivery to this sink is due, or its lease ends."""
    due: datetime | None = conn.execute(select(func.min(deliveries.c.due_at)).where(_claimable(sink))).scalar_one()
    return due


def _claimable(sink: str) -> ColumnElement[bool]:
    return and_(deliveries.c.sink == sink, CLAIMABLE)


class TakenDeliveries(NamedTuple):
    """What may be sent now: nothing while the sink is paused, one as a probe after it. `next_moment`: when to look again."""

    claimed: list[Claimed]
    probing: bool
    next_moment: datetime | None


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
        return TakenDeliveries([], probing=True, next_moment=lane.paused_until)
    due = next_due(conn, sink)
    if due is None or due > now:
        return TakenDeliveries([], probing=False, next_moment=due)
    if sole_holder is not None and not lanes.hold(conn, name, sole_holder, until=now + hold, now=now):
        return TakenDeliveries([], probing=False, next_moment=now + hold)
    probing = lane.failures > 0
    permitted = limit if not probing else int(idle)
    claimed = claim(conn, sink, limit=permitted, lease=lease, now=now) if permitted else []
    due = next_due(conn, sink) if permitted else None
    if due is not None and not claimed:
        due = max(due, now + LOCKED_WAIT)
    return TakenDeliveries(claimed, probing, due)
