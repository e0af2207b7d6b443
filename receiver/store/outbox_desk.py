"""The outbox as people see it: listed, counted, retried, discarded."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Connection, and_, func, literal, or_, select, true, update

from receiver.store.outbox import State
from receiver.store.tables import deliveries


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
    return _counts(conn, _condition(filter_))


def retryable(conn: Connection, filter_: DeliveryFilter, now: datetime) -> list[Count]:
    """How many `retry` would change."""
    return _counts(conn, _retryable(filter_, now))


def discardable(conn: Connection, filter_: DeliveryFilter, now: datetime) -> list[Count]:
    """How many `discard` would change."""
    return _counts(conn, _discardable(filter_, now))


def retry(conn: Connection, filter_: DeliveryFilter, now: datetime) -> int:
    """Makes dead and waiting ones due now, with all their attempts and time before them again. Returns how many.

    Those that were discarded on purpose are among them only where their ids, or their state, are asked for.
    """
    fresh = {"state": "pending", "due_at": now, "attempts": 0, "started_at": now, "ended_at": None}
    return conn.execute(update(deliveries).where(_retryable(filter_, now)).values(fresh)).rowcount


def discard(conn: Connection, filter_: DeliveryFilter, now: datetime) -> int:
    """Gives up on dead and waiting ones. Returns how many."""
    ended = {"state": "discarded", "due_at": None, "ended_at": now}
    return conn.execute(update(deliveries).where(_discardable(filter_, now)).values(ended)).rowcount


def _counts(conn: Connection, condition: ColumnElement[bool]) -> list[Count]:
    by = (deliveries.c.sink, deliveries.c.state)
    query = select(*by, func.count()).where(condition).group_by(*by).order_by(*by)
    return [Count(*row) for row in conn.execute(query)]


def _retryable(filter_: DeliveryFilter, now: datetime) -> ColumnElement[bool]:
    by_name = bool(filter_.ids) or "discarded" in filter_.states
    is_discarded = and_(deliveries.c.state == "discarded", literal(by_name))
    return and_(_condition(filter_), or_(_is_open(now), is_discarded))


def _discardable(filter_: DeliveryFilter, now: datetime) -> ColumnElement[bool]:
    return and_(_condition(filter_), _is_open(now))


def _is_open(now: datetime) -> ColumnElement[bool]:
    """Dead, or waiting; one whose lease has ended waits too, for whoever had it is gone."""
    lease_ended = and_(deliveries.c.state == "leased", deliveries.c.due_at <= now)
    return or_(deliveries.c.state.in_(("dead", "pending")), lease_ended)


def _condition(filter_: DeliveryFilter) -> ColumnElement[bool]:
    wanted = (
        (deliveries.c.id, filter_.ids),
        (deliveries.c.state, filter_.states),
        (deliveries.c.sink, filter_.sinks),
        (deliveries.c.evaluation_id, filter_.evaluation_ids),
    )
    return and_(true(), *(column.in_(values) for column, values in wanted if values))
