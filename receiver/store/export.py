"""All verdicts that a filter lets through, oldest arrival first, in chunks that are small whatever is stored.

Each chunk is a short transaction of its own. One transaction for the whole would be of one moment, but would also keep
PostgreSQL from clearing up, and SQLite's log from being used again, for as long as the slowest reader takes. When a verdict
arrived never changes, so a position in this order stays good: across chunks, a broken connection, days. What is there when the
end is looked up comes exactly once, each verdict as it is when its chunk is read.
"""

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, bindparam, case, func, select, tuple_

from receiver.core.matching import Filter
from receiver.store.database import Database
from receiver.store.filters import condition
from receiver.store.reading import Position
from receiver.store.tables import verdicts

CHUNK_ROWS = 2000
"""Verdicts that are looked at for one chunk, whether or not the filter lets them through: what bounds its time."""
CHUNK_CHARACTERS = 2**20
"""A chunk ends with the document that reaches this: what bounds the memory. A document itself may be longer."""
_FIRST_ROWS = 64

_POSITION = (verdicts.c.received_at, verdicts.c.evaluation_id)
_EARLIEST = Position(datetime.fromisoformat("0001-01-01T00:00:00Z"), UUID(int=0))


class Span(NamedTuple):
    """From the oldest arrival that is stored to the newest."""

    first: Position
    last: Position


class Chunk(NamedTuple):
    """Documents, which are `verdict.v1` as JSON on one line each, as they are stored.

    `looked_at` is how many verdicts that was, `end` the position of the last of them.
    """

    documents: list[str]
    looked_at: int
    end: Position


def span(conn: Connection) -> Span | None:
    """What is stored now; None where there is nothing."""
    newest_first = [column.desc() for column in _POSITION]
    first, last = (
        conn.execute(select(*_POSITION).order_by(*order).limit(1)).one_or_none() for order in (_POSITION, newest_first)
    )
    return None if first is None or last is None else Span(Position(*first), Position(*last))


def position_of(conn: Connection, evaluation_id: UUID) -> Position | None:
    """Where a verdict is in the order of arrival; None where there is none."""
    row = conn.execute(select(*_POSITION).where(verdicts.c.evaluation_id == evaluation_id)).one_or_none()
    return None if row is None else Position(*row)


async def chunks(
    database: Database, filter_: Filter, *, until: Position, after: Position | None = None
) -> AsyncGenerator[Chunk]:
    """All chunks behind `after` up to and with `until`, the next one being read meanwhile. Raises `StoreUnavailable`.

    To be closed (`aclosing`) where it is not read to its end: that ends what is being read.
    """
    query = _query(filter_, database.kind)
    reading = asyncio.create_task(database.read(_chunk, query, after or _EARLIEST, until, _FIRST_ROWS))
    try:
        while (chunk := await reading) is not None:
            # Rows are asked for by their number, and left out by their size: twice as many as came last are enough.
            rows = min(2 * chunk.looked_at, CHUNK_ROWS)
            reading = asyncio.create_task(database.read(_chunk, query, chunk.end, until, rows))
            yield chunk
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _chunk(conn: Connection, query: Select[Any], after: Position, until: Position, rows: int) -> Chunk | None:
    values = {
        "after_at": after.at,
        "after_id": after.evaluation_id,
        "until_at": until.at,
        "until_id": until.evaluation_id,
    }
    documents, size, looked_at, row = [], 0, 0, None
    for row in conn.execute(query, values | {"rows": rows}):
        looked_at += 1
        if row[0] is not None:
            documents.append(row[0])
            size += len(row[0])
            if size >= CHUNK_CHARACTERS:
                break
    return None if row is None else Chunk(documents, looked_at, Position(*row[1:]))


def _query(filter_: Filter, kind: str) -> Select[Any]:
    """Made once for all chunks: making it costs as much as running it."""
    document = case((condition(filter_), verdicts.c.document)).label("document")
    here = tuple_(*_POSITION)
    query = select(document, *_POSITION).where(here > _bound("after"), here <= _bound("until")).order_by(*_POSITION)
    query = query.limit(bindparam("rows"))
    return _without_what_is_too_much(query) if kind == "postgresql" else query


def _bound(name: str) -> ColumnElement[Any]:
    at, evaluation_id = _POSITION
    return tuple_(bindparam(f"{name}_at", type_=at.type), bindparam(f"{name}_id", type_=evaluation_id.type))


def _without_what_is_too_much(query: Select[Any]) -> Select[Any]:
    """PostgreSQL sends all rows before the first can be looked at, so that it must do the counting itself.

    It knows the size of a document without unpacking it.
    """
    size = func.octet_length(query.selected_columns.document)
    before = func.coalesce(func.sum(size).over(order_by=_POSITION, rows=(None, -1)), 0)
    rows = query.add_columns(before.label("before")).subquery()
    position = (rows.c.received_at, rows.c.evaluation_id)
    return select(rows.c.document, *position).where(rows.c.before < CHUNK_CHARACTERS).order_by(*position)
