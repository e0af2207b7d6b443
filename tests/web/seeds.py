"""Verdicts put straight into the store, as the pipeline would have."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, insert

from receiver.core.routing import Route
from receiver.core.verdict import Verdict
from receiver.store.results import Found, release, row_of
from receiver.store.tables import verdicts
from tests.web.receivers import Receiver

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def key(number: int) -> UUID:
    """The id of the verdict with this number."""
    return UUID(f"0193a5c0-0000-7000-8000-{number:012x}")


def verdict(number: int, **fields: Any) -> Verdict:
    """A verdict that arrived so many minutes after noon."""
    values: dict[str, Any] = {
        "evaluation_id": key(number),
        "event": "evaluation.completed",
        "status": "completed",
        "received_at": NOON + timedelta(minutes=number),
        "completed_at": NOON + timedelta(minutes=number, seconds=-10),
        "tree": "complete",
    }
    return Verdict.model_validate(values | fields)


def stored(
    conn: Connection, wanted: Sequence[Verdict], *, tree: dict[str, Any] | None = None, routes: Sequence[Route] = ()
) -> None:
    """Stores them; all but pending ones are released, with `tree` as what Runflow answered, and so due to the routes."""
    rows = [row_of(each) | {"due_to": "[]", "tree_updated_at": None} for each in wanted]
    conn.execute(insert(verdicts), [row | {"revision": 0} for row in rows])
    body = orjson.dumps(tree or {})
    release(conn, [Found(each, body) for each in wanted if each.tree != "pending"], routes, NOON)


async def store(receiver: Receiver, *wanted: Verdict, tree: dict[str, Any] | None = None) -> None:
    """The same in the store of a running receiver."""
    await receiver.service.database.write(stored, wanted, tree=tree)
