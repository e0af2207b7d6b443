"""Why a verdict went where it went: all that the tables know of one evaluation, in the order in which it happened."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Connection, Row, Table, literal, select

from receiver.core.callback import read_callback
from receiver.core.evaluation import Evaluation
from receiver.core.timeline import (
    MOST_ODDITIES,
    Delivered,
    DeliveryDue,
    DeliveryFailed,
    Discarded,
    Entry,
    FetchDue,
    Fetched,
    FetchFailed,
    OtherBytes,
    Rated,
    Received,
    Released,
    Repeated,
    Replayed,
    Retried,
    Timeline,
    in_order,
)
from receiver.core.verdict import Verdict
from receiver.store import lanes
from receiver.store.lanes import LaneState
from receiver.store.tables import (
    attempts,
    deliveries,
    events,
    fetches,
    other_bodies,
    ratings,
    revisions,
    trees,
    verdicts,
)

MOST: Final = 1000
"""Rows of one table. An evaluation that was replayed more often than this shows the newest."""

Rows = Sequence[Row[Any]]
Paused = Mapping[str, LaneState]


def timeline(conn: Connection, evaluation_id: UUID, now: datetime) -> Timeline | None:
    """What happened to this evaluation here and what is to come, or None where nothing is known of it."""
    known = select(literal(1)).where(events.c.evaluation_id == evaluation_id)
    if conn.scalar(known.union_all(select(literal(1)).where(verdicts.c.evaluation_id == evaluation_id))) is None:
        return None
    paused = {lane.name: lane for lane in lanes.troubled(conn) if lane.paused_until and lane.paused_until > now}
    others = _newest(conn, other_bodies, evaluation_id, "received_at")
    tried = _newest(conn, attempts, evaluation_id, "at")
    sent = _newest(conn, deliveries, evaluation_id, "id")
    rated = _newest(conn, ratings, evaluation_id, "clicked_at")
    entries = [
        *_arrivals(_newest(conn, events, evaluation_id, "received_at"), others),
        *_fetches(conn, evaluation_id, [row for row in tried if row.delivery_id == 0], paused),
        *_revisions(conn, evaluation_id, sent),
        *_deliveries(sent, [row for row in tried if row.delivery_id != 0], paused),
        *map(_rated, rated),
    ]
    return Timeline(items=in_order(entries), complete=all(len(rows) < MOST for rows in (others, tried, sent, rated)))


def _newest(conn: Connection, table: Table, evaluation_id: UUID, order: str) -> Rows:
    found = select(table).where(table.c.evaluation_id == evaluation_id).order_by(table.c[order].desc()).limit(MOST)
    return conn.execute(found).all()


def _arrivals(first: Rows, others: Rows) -> Iterator[Entry]:
    for row in first:
        yield Received(
            at=row.received_at,
            event=row.event,
            origin=row.origin,
            secret_label=row.secret_label,
            request_id=row.request_id,
            oddities=_odd(row),
            waiting=row.waiting,
        )
        if row.repeats:
            yield Repeated(at=row.last_repeat_at, event=row.event, repeats=row.repeats)
    for row in others:
        yield OtherBytes(at=row.received_at, event=row.event, size=len(row.body), oddities=_odd(row))


def _odd(row: Row[Any]) -> list[str]:
    return read_callback(row.body, row.event)[1][:MOST_ODDITIES]


def _fetches(conn: Connection, evaluation_id: UUID, tried: Rows, paused: Paused) -> Iterator[Entry]:
    tree = conn.execute(select(trees).where(trees.c.evaluation_id == evaluation_id)).first()
    if tree is not None:
        yield Fetched(at=tree.fetched_at, oddities=Evaluation.read(tree.body)[1][:MOST_ODDITIES])
    # A tree that a later answer may have replaced and did not is noted, and here all the same.
    told = set() if tree is None else {tree.fetched_at}
    for row in tried:
        match row.outcome:
            case "fetched":
                if row.at not in told:
                    told.add(row.at)
                    yield Fetched(at=row.at)
            case "older":
                yield Fetched(at=row.at, outcome="older")
            case _:
                yield FetchFailed(
                    at=row.at,
                    outcome=row.outcome,
                    attempt=row.attempt,
                    reason=row.error,
                    detail=row.detail,
                    status=row.status,
                    due_at=row.due_at,
                )
    fetch = conn.execute(select(fetches).where(fetches.c.evaluation_id == evaluation_id)).first()
    if fetch is not None and fetch.due_at is not None:
        state = _state(fetch.leased, paused.get(lanes.FETCH))
        yield FetchDue(at=fetch.due_at, hold_until=fetch.hold_until, **state)


def _revisions(conn: Connection, evaluation_id: UUID, sent: Rows) -> Iterator[Entry]:
    """Where a revision was released before schema 0002, its deliveries tell when; where it has none, nothing does."""
    for table in (revisions, verdicts):
        columns = (table.c[name] for name in ("revision", "released_at", "due_to", "document"))
        for row in conn.execute(select(*columns).where(table.c.evaluation_id == evaluation_id, table.c.revision > 0)):
            begun = (it.created_at for it in sent if it.revision == row.revision and not it.replay_id)
            at = row.released_at or min(begun, default=None)
            if at is not None:
                yield _released(at, row)


def _released(at: datetime, row: Row[Any]) -> Released:
    verdict = Verdict.model_validate_json(row.document)
    return Released(
        at=at,
        revision=row.revision,
        tree=verdict.tree,
        tree_reason=verdict.tree_reason,
        status=verdict.status,
        overall_passed=verdict.overall_passed,
        sinks=orjson.loads(row.due_to),
    )


def _deliveries(sent: Rows, tried: Rows, paused: Paused) -> Iterator[Entry]:
    by_id = {row.id: row for row in sent}
    ends = {(row.delivery_id, row.at) for row in tried if row.outcome in ("dead", "discarded")}
    for row in tried:
        if row.delivery_id in by_id:
            yield _noted(row, by_id[row.delivery_id])
    for row in sent:
        if row.replay_id:
            yield Replayed(**_of(row), at=row.created_at)
        if (row.id, row.ended_at) not in ends:
            yield _stands(row, paused)


def _noted(row: Row[Any], delivery: Row[Any]) -> Entry:
    match row.outcome:
        case "retried":
            return Retried(**_of(delivery), at=row.at, by=row.detail)
        case "discarded":
            return Discarded(**_of(delivery), at=row.at, by=row.detail)
    return _failed(delivery, at=row.at, outcome=row.outcome, attempt=row.attempt, reason=row.error, due_at=row.due_at)


def _failed(delivery: Row[Any], **how: Any) -> DeliveryFailed:
    return DeliveryFailed.model_validate(_of(delivery) | how)


def _stands(row: Row[Any], paused: Paused) -> Entry:
    match row.state:
        case "delivered":
            return Delivered(**_of(row), at=row.ended_at, attempt=row.attempts, remote_id=row.remote_id)
        case "discarded":  # these two before schema 0002: it would be noted now
            return Discarded(**_of(row), at=row.ended_at, by=None)
        case "dead":
            how = {"outcome": "dead", "attempt": row.attempts, "reason": row.last_error, "due_at": None}
            return _failed(row, at=row.ended_at, **how)
        case _:
            state = _state(row.state == "leased", paused.get(lanes.sink_lane(row.sink)))
            return DeliveryDue(**_of(row), at=row.due_at, **state)


def _rated(row: Row[Any]) -> Rated:
    return Rated(
        at=row.clicked_at,
        person=row.person,
        is_positive=row.is_positive,
        sink=row.sink,
        revision=row.revision,
        state=row.state,
        reason=row.last_error,
        due_at=row.due_at,
    )


def _of(row: Row[Any]) -> dict[str, Any]:
    return {"delivery": row.id, "sink": row.sink, "revision": row.revision, "replay_id": row.replay_id}


def _state(leased: bool, lane: LaneState | None) -> dict[str, Any]:
    pause = {"paused_until": lane and lane.paused_until, "pause_reason": lane and lane.reason}
    return {"state": "leased" if leased else "pending", **pause}
