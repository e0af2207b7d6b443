"""What was released, in one order: each revision has a position. Whoever reads on from one misses none and sees none twice.

A position is taken within the transaction that releases. SQLite has one writer: there positions are committed in their order.
On PostgreSQL a lower one may be committed after a higher one. So whoever takes positions holds, until its transaction ends, a
lock whose number says after which position its own are, and readers stop at the lowest of these (docs/decisions/0011).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Select, and_, func, literal, or_, select, text

from receiver.core.matching import Filter
from receiver.core.verdict import Verdict
from receiver.store.filters import condition
from receiver.store.rows import Rows, insert_rows
from receiver.store.tables import releases, revisions, verdicts

SPAN = 500
"""Positions that one page looks at, at most, when few of them match."""
_DISORDER = 1000
"""Rows among which the lowest position is looked for where a time is given: clocks and positions agree but for moments."""

_LOCKS: Final = 0x7276 << 48
"""Advisory locks of PostgreSQL from this number on are ours; what is added to it is a position."""
_TAKEN = "SELECT last_value - (NOT is_called)::int AS taken FROM releases_position_seq"
_HOLD = f"SELECT pg_advisory_xact_lock_shared({_LOCKS} + taken) FROM ({_TAKEN}) AS counter"  # noqa: S608 (constants)
_HELD = f"""
SELECT min((classid::bigint << 32 | objid::bigint) - {_LOCKS}) FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 16 = {_LOCKS >> 48}
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608 (constants)
_SQLITE_TAKEN = "SELECT seq FROM sqlite_sequence WHERE name = 'releases'"


class Reach(NamedTuple):
    """How far one can read: up to `settled` nothing can appear any more. `taken`: the last position that anybody has."""

    settled: int
    taken: int


class Entry(NamedTuple):
    """A released revision: `document` is verdict.v1 as JSON."""

    position: int
    document: str


class Page(NamedTuple):
    """Some of what was released, in order, and the position that it reaches to, which may be beyond the last of them."""

    entries: list[Entry]
    end: int


def add(conn: Connection, rows: Rows) -> None:
    """Gives each of these a position. The last that a transaction does, or nearly: others' readers wait for its end."""
    if rows and conn.dialect.name == "postgresql":
        conn.exec_driver_sql(_HOLD).close()
    insert_rows(conn, releases, rows)


def reach(conn: Connection) -> Reach:
    """How far one can read now, in a transaction that begins later than this."""
    if conn.dialect.name == "sqlite":
        taken: int = conn.scalar(text(_SQLITE_TAKEN)) or 0
        return Reach(taken, taken)
    # In this order: who is given a position up to `taken` held its lock before, and so is seen holding it, or has ended.
    taken = conn.execute(text(_TAKEN)).scalar_one()
    held: int | None = conn.execute(text(_HELD)).scalar_one()
    return Reach(taken if held is None else min(held, taken), taken)


def page(conn: Connection, after: int, *, upto: int, limit: int, filter_: Filter | None = None) -> Page:
    """What follows `after`, up to a position that is settled. A revision that was deleted since is passed over."""
    beyond = (releases.c.position > after, releases.c.position <= upto)
    first: int | None = conn.scalar(select(func.min(releases.c.position)).where(*beyond))
    if first is None:
        return Page([], upto)
    end = min(first + SPAN - 1, upto)
    query = _documents(filter_).where(releases.c.position.between(first, end))
    rows = conn.execute(query.order_by(releases.c.position).limit(limit)).all()
    there = [Entry(position, document) for position, document in rows if document is not None]
    if filter_ is not None:  # of earlier revisions there are no columns to ask
        there = [each for each in there if filter_.matches(Verdict.model_validate_json(each.document))]
    return Page(there, rows[-1].position if len(rows) == limit else end)


def _documents(filter_: Filter | None) -> Select[tuple[Any, ...]]:
    """Positions and documents: the newest result where it is that revision, or the earlier one that was kept."""
    newest = (verdicts.c.evaluation_id == releases.c.evaluation_id, verdicts.c.revision == releases.c.revision)
    earlier = (revisions.c.evaluation_id == releases.c.evaluation_id, revisions.c.revision == releases.c.revision)
    query = (
        select(releases.c.position, func.coalesce(verdicts.c.document, revisions.c.document).label("document"))
        .select_from(releases)
        .outerjoin(verdicts, and_(*newest))
        .outerjoin(revisions, and_(*earlier))
    )
    if filter_ is None:
        return query
    return query.where(or_(verdicts.c.evaluation_id.is_(None), condition(filter_)))


def before(conn: Connection, moment: datetime) -> int | None:
    """The position before the first that was released then or later; None where none was."""
    later = (
        select(releases.c.position)
        .where(releases.c.released_at >= literal(moment, releases.c.released_at.type))
        .order_by(releases.c.released_at)
        .limit(_DISORDER)
        .subquery()
    )
    first: int | None = conn.scalar(select(func.min(later.c.position)))
    return None if first is None else first - 1


def rows_of(released: Sequence[Verdict], now: datetime) -> list[dict[str, Any]]:
    """The rows of these revisions, without their positions."""
    return [{"evaluation_id": each.evaluation_id, "revision": each.revision, "released_at": now} for each in released]
