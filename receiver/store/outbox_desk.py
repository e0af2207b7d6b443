"""The outbox as people see it: listed, counted, retried, discarded."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, Connection, TextClause, and_, func, literal, or_, select, true, update

from receiver.core.verdict import Moment
from receiver.store import lanes
from receiver.store.attempts import note_deed
from receiver.store.outbox import State
from receiver.store.tables import CLAIMABLE, DEAD, deliveries


class DeliveryFilter(BaseModel):
    """Which deliveries: all that is given must hold; several values of one mean any of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: tuple[int, ...] = ()
    states: tuple[State, ...] = ()
    sinks: tuple[str, ...] = ()
    evaluation_ids: tuple[UUID, ...] = ()


class DeliveryRecord(BaseModel):
    """One delivery as it is shown."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)

    id: int
    evaluation_id: UUID
    sink: str
    revision: int
    replay_id: str = Field(description="Empty, or the replay that asked for it.")
    state: State
    attempts: int = Field(description="Since it was created or last retried; one under way counts.")
    created_at: Moment
    due_at: Moment | None = Field(
        description="When it is due next; while leased, when the lease ends; null when it has ended."
    )
    ended_at: Moment | None = Field(description="When it was delivered, died or was discarded.")
    remote_id: str | None = Field(description="The id that the other side gave the message, if it gave one.")
    last_error: str | None = Field(description="Why the last attempt did not succeed.")


class PausedSink(BaseModel):
    """A sink whose last try failed by its own fault: nothing is sent to it until then, and then one message as a probe."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)

    sink: str
    paused_until: Moment | None
    failures: int = Field(description="In a row.")
    reason: str | None


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


def paused_sinks(conn: Connection) -> list[PausedSink]:
    """All that are paused, by name."""
    prefix = lanes.sink_lane("")
    return [
        PausedSink(
            sink=it.name.removeprefix(prefix), paused_until=it.paused_until, failures=it.failures, reason=it.reason
        )
        for it in lanes.troubled(conn)
        if it.name.startswith(prefix)
    ]


def retry_one(conn: Connection, delivery_id: int, now: datetime, by: str) -> tuple[DeliveryRecord | None, bool]:
    """The delivery as it is then, None if there is none, and whether it was of a state that may be retried.

    A sink that is paused tries again at once.
    """
    one = DeliveryFilter(ids=(delivery_id,))
    is_retried = retry(conn, one, now, by) > 0
    record = next(iter(page(conn, one, limit=1)), None)
    if record is not None and is_retried:
        lanes.probe_now(conn, lanes.sink_lane(record.sink), now)
    return record, is_retried


def counts(conn: Connection, filter_: DeliveryFilter) -> list[Count]:
    """How many there are, by sink and state."""
    return _counts(conn, _condition(filter_))


def retryable(conn: Connection, filter_: DeliveryFilter, now: datetime) -> list[Count]:
    """How many `retry` would change."""
    return _counts(conn, _retryable(filter_, now))


def discardable(conn: Connection, filter_: DeliveryFilter, now: datetime) -> list[Count]:
    """How many `discard` would change."""
    return _counts(conn, _discardable(filter_, now))


def retry(conn: Connection, filter_: DeliveryFilter, now: datetime, by: str | None = None) -> int:
    """Makes dead and waiting ones due now, with all their attempts and time before them again. Returns how many.

    Those that were discarded on purpose are among them only where their ids, or their state, are asked for.
    `by` is who wants it, for the timeline.
    """
    note_deed(conn, "retried", _retryable(filter_, now), now, by)
    fresh = {"state": "pending", "due_at": now, "attempts": 0, "started_at": now, "ended_at": None}
    return conn.execute(update(deliveries).where(_retryable(filter_, now)).values(fresh)).rowcount


def discard(conn: Connection, filter_: DeliveryFilter, now: datetime, by: str | None = None) -> int:
    """Gives up on dead and waiting ones. Returns how many."""
    note_deed(conn, "discarded", _discardable(filter_, now), now, by)
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
    given = (column.in_(values) for column, values in wanted if values)
    return and_(true(), *given, *_to_the_letter(filter_.states))


def _to_the_letter(states: Sequence[State]) -> Iterator[TextClause]:
    """The conditions of the partial indexes that serve these states."""
    if set(states) == {"dead"}:
        yield DEAD
    elif states and set(states) <= {"pending", "leased"}:
        yield CLAIMABLE
