"""The outbox as people see it: listed, counted, retried, discarded."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Connection, and_, func, select, true, update

from receiver.store.outbox import State
from receiver.store.tables import deliveries

RETRYABLE: Sequence[State] = ("dead", "discarded", "pending")
DISCARDABLE: Sequence[State] = ("dead", "pending")


class DeliveryFilter(BaseModel):
    """Which deliveries: all that is given must hold; several values of one mean any of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: tuple[int, ...] = ()
    states: tuple[State, ...] = ()
    sinks: tuple[str, ...] = ()
    evaluation_ids: tuple[UUID, ...] = ()


class DeliveryRecord(BaseModel):
    """One delivery as it is shown."""

    id: int
    evaluation_id: UUID
    sink: str
    revision: int
    replay_id: str
    state: State
    attempts: int
    created_at: datetime
    due_at: datetime | None
    ended_at: datetime | None
    remote_id: str | None
    last_error: str | None


class Count(NamedTuple):
    """How many deliveries of a sink are in a state."""

    sink: str
    state: State
    deliveries: int


def page(
    conn: Connection, filter_: DeliveryFilter, *, limit: int, before_id: int | None = None
) -> list[DeliveryRecord]:
    """The newest first; the next page begins before the last one's id."""
    query = select(*(deliveries.c[name] for name in DeliveryRecord.model_fields)).where(_condition(filter_))
    if before_id is not None:
        query = query.where(deliveries.c.id < before_id)
    return [
        DeliveryRecord(**row._asdict()) for row in conn.execute(query.order_by(deliveries.c.id.desc()).limit(limit))
    ]


def counts(conn: Connection, filter_: DeliveryFilter) -> list[Count]:
    """How many there are, by sink and state."""
    by = (deliveries.c.sink, deliveries.c.state)
    query = select(*by, func.count()).where(_condition(filter_)).group_by(*by).order_by(*by)
    return [Count(*row) for row in conn.execute(query)]


def retry(conn: Connection, filter_: DeliveryFilter, now: datetime) -> int:
    """Makes dead, discarded and waiting ones due now, with all their attempts and time before them again. Returns how many."""
    fresh = {"state": "pending", "due_at": now, "attempts": 0, "started_at": now, "ended_at": None}
    return _change(conn, filter_, RETRYABLE, fresh)


def discard(conn: Connection, filter_: DeliveryFilter, now: datetime) -> int:
    """Gives up on dead and waiting ones for good. Returns how many."""
    return _change(conn, filter_, DISCARDABLE, {"state": "discarded", "due_at": None, "ended_at": now})


def _change(conn: Connection, filter_: DeliveryFilter, states: Sequence[State], values: dict[str, object]) -> int:
    changed = update(deliveries).where(_condition(filter_), deliveries.c.state.in_(states)).values(values)
    return conn.execute(changed).rowcount


def _condition(filter_: DeliveryFilter) -> ColumnElement[bool]:
    wanted = (
        (deliveries.c.id, filter_.ids),
        (deliveries.c.state, filter_.states),
        (deliveries.c.sink, filter_.sinks),
        (deliveries.c.evaluation_id, filter_.evaluation_ids),
    )
    return and_(true(), *(column.in_(values) for column, values in wanted if values))
