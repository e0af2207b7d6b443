"""Releasing results: the verdict, its tree as rows, and one delivery for each sink it is due to, in one transaction."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import Connection, Row, Table, delete, select

from receiver.core.routing import Route, due_to
from receiver.core.verdict import Verdict, revise
from receiver.store import releases
from receiver.store.hours import note_late
from receiver.store.intake import clip
from receiver.store.rows import insert_rows, one_of, put_rows, update_rows
from receiver.store.tables import actions, deliveries, gate_failures, issues, judges, revisions, trees, verdicts

_CHILDREN = (judges, issues, gate_failures, actions)


class Found(NamedTuple):
    """A result that may be released. `tree` is Runflow's answer as it came, `tree_updated_at` when Runflow last changed it."""

    verdict: Verdict
    tree: bytes | None = None
    tree_updated_at: datetime | None = None


class Released(NamedTuple):
    """What became of a result. `sinks` is empty where it changed nothing, or where nothing matched."""

    verdict: Verdict
    is_new: bool
    sinks: list[str]


def release(conn: Connection, found: Sequence[Found], routes: Sequence[Route], now: datetime) -> list[Released]:
    """Writes each result under its revision. One that is older than what is stored changes nothing."""
    if not found:
        return []
    stored = _stored(conn, [each.verdict.evaluation_id for each in found])
    given_before = _given_before(conn, list(stored.values()))
    batch = _Batch(now, routes)
    released = []
    for each in found:
        before = stored[each.verdict.evaluation_id]
        if _is_older(each, before):
            continue
        released.append(batch.add(each, before, given_before[each.verdict.evaluation_id]))
    batch.write(conn)
    note_late(conn, (each.verdict.received_at for each in released), now)
    return released


def _stored(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, Row[Any]]:
    columns = (
        "evaluation_id",
        "document",
        "revision",
        "due_to",
        "tree",
        "tree_updated_at",
        "released_at",
        "fetched_at",
    )
    query = (
        select(*(verdicts.c[name] for name in columns))
        .where(one_of(conn, verdicts.c.evaluation_id, ids))
        .order_by(verdicts.c.evaluation_id)
        .with_for_update()
    )
    return {row.evaluation_id: row for row in conn.execute(query)}


def _given_before(conn: Connection, stored: Sequence[Row[Any]]) -> dict[UUID, set[str]]:
    """The sinks that any earlier revision was due to."""
    given: dict[UUID, set[str]] = {row.evaluation_id: set(orjson.loads(row.due_to)) for row in stored}
    revised = [row.evaluation_id for row in stored if row.revision > 1]
    earlier = select(revisions.c.evaluation_id, revisions.c.due_to).where(
        one_of(conn, revisions.c.evaluation_id, revised)
    )
    for key, sinks in conn.execute(earlier) if revised else ():
        given[key].update(orjson.loads(sinks))
    return given


def _is_older(found: Found, before: Row[Any]) -> bool:
    """An answer read from a replica that lags must not undo a newer one, nor a callback alone a tree."""
    if found.tree is None:
        return bool(before.revision > 0)
    return (
        found.tree_updated_at is not None
        and before.tree_updated_at is not None
        and found.tree_updated_at < before.tree_updated_at
    )


class _Batch:
    """The rows of several results, table by table, so that each table costs one statement."""

    def __init__(self, now: datetime, routes: Sequence[Route]) -> None:
        self._now = now
        self._routes = routes
        self._superseded: list[dict[str, Any]] = []
        self._verdicts: list[dict[str, Any]] = []
        self._trees: list[dict[str, Any]] = []
        self._replaced: list[UUID] = []
        self._children: dict[Table, list[dict[str, Any]]] = {table: [] for table in _CHILDREN}
        self._deliveries: list[dict[str, Any]] = []
        self._new: list[Verdict] = []

    def add(self, found: Found, before: Row[Any], given_before: Collection[str]) -> Released:
        # The first result has nothing to be compared with, so what was stored before it need not be read.
        stored = Verdict.model_validate_json(before.document) if before.revision else None
        verdict = revise(stored, found.verdict)
        is_new = verdict.revision != before.revision
        sinks = due_to(self._routes, verdict, given_before) if is_new else []
        if is_new and before.revision > 0:
            self._superseded.append(before._asdict())
        self._verdicts.append(
            row_of(verdict)
            | {"due_to": orjson.dumps(sinks).decode() if is_new else before.due_to}
            | {"released_at": self._now if is_new else before.released_at}
            | {"tree_updated_at": found.tree_updated_at or before.tree_updated_at}
            | {"fetched_at": before.fetched_at or (None if found.tree is None else self._now)}
        )
        if found.tree is not None:
            self._add_tree(verdict, found.tree, replaces=before.tree == "complete")
        self._deliveries += [self._delivery(verdict, sink) for sink in sinks]
        self._new += [verdict] if is_new else []
        return Released(verdict, is_new, sinks)

    def _add_tree(self, verdict: Verdict, body: bytes, *, replaces: bool) -> None:
        key = verdict.evaluation_id
        self._trees.append({"evaluation_id": key, "fetched_at": self._now, "body": body})
        self._replaced += [key] if replaces else []
        self._children[judges] += [
            {
                **judge.__dict__,
                "evidence": _json(judge.evidence),
                "sub_point_results": _json(judge.sub_point_results),
                "evaluation_id": key,
                "position": position,
            }
            for position, judge in enumerate(verdict.judges)
        ]
        self._children[issues] += [
            {**issue.__dict__, "category": clip(issue.category), "evaluation_id": key, "position": position}
            for position, issue in enumerate(verdict.issues)
        ]
        self._children[gate_failures] += [
            {**failure.__dict__, "evaluation_id": key, "position": position}
            for position, failure in enumerate(verdict.gate_failures)
        ]
        if verdict.action is not None:
            self._children[actions].append({**verdict.action.__dict__, "evaluation_id": key})

    def _delivery(self, verdict: Verdict, sink: str) -> dict[str, Any]:
        return new_delivery(verdict.evaluation_id, sink, verdict.revision, self._now)

    def write(self, conn: Connection) -> None:
        columns = [column.name for column in revisions.columns]
        insert_rows(conn, revisions, [{name: row[name] for name in columns} for row in self._superseded])
        update_rows(conn, verdicts, self._verdicts)
        put_rows(conn, trees, self._trees)
        for table, rows in self._children.items():
            if self._replaced:
                conn.execute(delete(table).where(one_of(conn, table.c.evaluation_id, self._replaced)))
            insert_rows(conn, table, rows)
        insert_rows(conn, deliveries, self._deliveries)
        releases.add(conn, releases.rows_of(self._new, self._now))


def row_of(verdict: Verdict) -> dict[str, Any]:
    """The columns of `verdicts` that follow from the result itself."""
    return {
        "evaluation_id": verdict.evaluation_id,
        "event": verdict.event,
        "status": clip(verdict.status),
        "overall_passed": verdict.overall_passed,
        "weighted_pass_rate": verdict.weighted_pass_rate,
        "primary_action_code": clip(verdict.primary_action_code),
        "failure_code": clip(verdict.failure_code),
        "client_ref": clip(verdict.client_ref),
        "run_id": clip(verdict.run_id),
        "model_id": clip(verdict.model_id),
        "task_type": clip(verdict.task_type),
        "tree": verdict.tree,
        "tree_reason": verdict.tree_reason,
        "origin": verdict.origin,
        "revision": verdict.revision,
        "received_at": verdict.received_at,
        "completed_at": verdict.completed_at,
        "document": verdict.model_dump_json(),
        "cost": verdict.cost,
        "eval_duration_ms": verdict.eval_duration_ms,
        "submitted_at": verdict.submitted_at,
    }


def new_delivery(evaluation_id: UUID, sink: str, revision: int, now: datetime, replay_id: str = "") -> dict[str, Any]:
    """The row of a delivery that is due now."""
    return {
        "evaluation_id": evaluation_id,
        "sink": sink,
        "revision": revision,
        "replay_id": replay_id,
        "state": "pending",
        "due_at": now,
        "claim": 0,
        "attempts": 0,
        "created_at": now,
        "started_at": now,
    }


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
