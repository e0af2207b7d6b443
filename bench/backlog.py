"""Work that waits, put into a database before a measurement: verdicts as Runflow makes them, what is due to sinks, fetches."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import Connection, Table, insert

from bench.callbacks import uuid7
from receiver.core.callback import Callback
from receiver.core.evaluation import WIDE_EMBEDS
from receiver.core.evaluation import Evaluation as Tree
from receiver.core.verdict import Verdict, from_callback, from_tree
from receiver.offline.evaluator import Evaluator
from receiver.offline.trees import callback_bytes, tree
from receiver.store.database import Database
from receiver.store.results import new_delivery, row_of
from receiver.store.tables import deliveries, fetches, verdicts

KINDS = 100
"""Different evaluations; all others differ from one of them in their id."""
TOGETHER = 50
"""Deliveries that are due at the same moment: as many as one write of the fetch lane releases."""
AT_ONCE = 1_000
"""Rows of one transaction."""


class Kind(NamedTuple):
    """One evaluation in all its shapes: what the callback alone says, the whole verdict, and the API's answer."""

    evaluation_id: UUID
    pending: Verdict
    complete: Verdict
    answer: bytes


def kinds() -> list[Kind]:
    """Evaluations as the offline Runflow makes them; the same each time but for times and ids."""
    evaluator = Evaluator(secret="whsec_only_for_measurements_0123456789abcdef")
    return [_kind(evaluator, evaluator.add()) for _ in range(KINDS)]


def _kind(evaluator: Evaluator, evaluation_id: UUID) -> Kind:
    evaluation = evaluator.evaluations.get(evaluation_id)
    callback, _ = Callback.read(callback_bytes(evaluation))
    pending = from_callback(
        callback,
        evaluation_id=evaluation_id,
        event=f"evaluation.{evaluation.status}",
        received_at=datetime.now(UTC),
        origin="callback",
    )
    answer = orjson.dumps(tree(evaluation, WIDE_EMBEDS))
    found, _ = Tree.read(answer)
    return Kind(evaluation_id, pending, from_tree(found, pending).model_copy(update={"revision": 1}), answer)


async def store_verdicts(database: Database, count: int, *, complete: bool) -> list[UUID]:
    """Stores so many verdicts, complete or still pending, and returns their ids."""
    rows = [row_of(each.complete if complete else each.pending) for each in kinds()]
    ids = [uuid7() for _ in range(count)]
    await _store(database, verdicts, (_renamed(row, key) for key, row in zip(ids, cycle(rows), strict=False)))
    return ids


def _renamed(row: dict[str, Any], key: UUID) -> dict[str, Any]:
    document = row["document"].replace(str(row["evaluation_id"]), str(key))
    return row | {"evaluation_id": key, "document": document, "due_to": "[]", "tree_updated_at": None}


async def make_due(database: Database, sink: str, ids: Sequence[UUID], *, times: int = 1) -> None:
    """Deliveries of each verdict to this sink, due since a moment ago: one, and replays of it."""
    keys = [(key, f"r{number}" if number else "") for number in range(times) for key in ids]
    began = database.now() - timedelta(seconds=len(keys) / TOGETHER / 1000)
    moments = (began + timedelta(milliseconds=number // TOGETHER) for number in range(len(keys)))
    rows = (
        new_delivery(key, sink, 1, moment, replay_id) for (key, replay_id), moment in zip(keys, moments, strict=True)
    )
    await _store(database, deliveries, rows)


async def ask_for(database: Database, ids: Sequence[UUID]) -> None:
    """A fetch of each evaluation, due now."""
    now = database.now()
    fetch: dict[str, Any] = {
        "due_at": now,
        "started_at": now,
        "hold_until": now + timedelta(hours=1),
        "last_error": None,
    }
    fetch |= {"leased": False, "claim": 0, "asked": 1, "attempts": 0}
    await _store(database, fetches, ({**fetch, "evaluation_id": key} for key in ids))


async def _store(database: Database, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    while batch := list(islice(rows, AT_ONCE)):
        await database.write(_insert, table, batch)


def _insert(conn: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    conn.execute(insert(table), rows)
