"""Looking into the store from outside: when everything is quiet, what is stored, and the audit."""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, select

from receiver.store.audit import audit
from receiver.store.database import Database
from receiver.store.tables import deliveries, events, fetches, verdicts
from tests.acceptance.processes import DEADLINE, Installation

LookInto = Callable[[str], Database]
"""Opens the database at this address, and closes it when the test ends."""


async def quiet(database: Database) -> None:
    """Waits until no event, no fetch and no delivery waits or is under way, for as long as they become fewer."""
    fewest, deadline = sys.maxsize, 0.0
    while unfinished := await database.read(_unfinished):
        if unfinished < fewest:
            fewest, deadline = unfinished, time.monotonic() + DEADLINE
        assert time.monotonic() < deadline, f"{unfinished} that wait or are under way, and no fewer"
        await asyncio.sleep(0.2)


def _unfinished(conn: Connection) -> int:
    open_ones = (
        select(func.count()).select_from(events).where(events.c.waiting),
        select(func.count()).select_from(fetches).where(fetches.c.due_at.is_not(None)),
        select(func.count()).select_from(verdicts).where(verdicts.c.revision == 0),
        select(func.count()).select_from(deliveries).where(deliveries.c.state.in_(("pending", "leased"))),
    )
    return sum(int(conn.execute(query).scalar_one()) for query in open_ones)


async def leased(database: Database) -> int:
    """How many fetches and deliveries are some process's."""

    def count(conn: Connection) -> int:
        of_fetches = select(func.count()).select_from(fetches).where(fetches.c.leased)
        of_deliveries = select(func.count()).select_from(deliveries).where(deliveries.c.state == "leased")
        return int(conn.execute(of_fetches).scalar_one()) + int(conn.execute(of_deliveries).scalar_one())

    return await database.read(count)


async def stored(database: Database) -> set[UUID]:
    """The evaluations whose event is stored."""
    return await database.read(lambda conn: set(conn.scalars(select(events.c.evaluation_id))))


async def repeats(database: Database) -> int:
    """How many repeats were counted, over all events."""
    return await database.read(lambda conn: int(conn.execute(select(func.sum(events.c.repeats))).scalar_one()))


async def check_audit(place: Installation) -> dict[str, Any]:
    """`receiver audit` adds up, and has no exception to tell of."""
    printed = await place.run("audit", "--json")
    assert printed.status == 0, printed
    books: dict[str, Any] = json.loads(printed.output)
    assert books["adds_up"]
    assert books["exceptions"] == []
    return books


async def check_books(database: Database, *, delivered: int) -> None:
    """The same without a process of its own; and so many deliveries in all were made, none is a dead letter."""
    books = await database.read(audit, [])
    assert books.adds_up
    assert books.exceptions == []
    assert sum(sink.by_state["delivered"] for sink in books.sinks) == sum(sink.due for sink in books.sinks) == delivered
