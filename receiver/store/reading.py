"""What people and programs ask for: stored verdicts by filter and page, one verdict, its embedded objects."""

from collections.abc import Sequence
from datetime import datetime
from heapq import nlargest
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, and_, func, literal, select, true, tuple_

from receiver.core.evaluation import embedded
from receiver.core.lenient import read_json
from receiver.core.matching import Filter
from receiver.core.verdict import Verdict
from receiver.store.filters import condition, in_order, indexed
from receiver.store.tables import trees, verdicts

Sort = Literal["received_at", "completed_at"]


FEW: Final = 2_000
"""So many are sorted in the time in which a page of something so rare among a million is found by walking."""


class Position(NamedTuple):
    """Where a page ended: the sort column's value and the id, which no two rows share."""

    at: datetime
    evaluation_id: UUID


class Page(NamedTuple):
    """Verdicts, the newest first, as JSON, and where the next page begins, if there is one."""

    documents: list[str]
    end: Position | None

    @property
    def items(self) -> list[Verdict]:
        """The verdicts, each made anew of its JSON."""
        return [Verdict.model_validate_json(document) for document in self.documents]


class Arrived(NamedTuple):
    """A span of arrivals: from `since` on, and before `until`."""

    since: datetime | None = None
    until: datetime | None = None

    def condition(self) -> ColumnElement[bool]:
        """What it says of a row of `verdicts`."""
        at = verdicts.c.received_at
        since = true() if self.since is None else at >= self.since
        return since if self.until is None else and_(since, at < self.until)


EVER: Final = Arrived()


def count(conn: Connection, arrived: Arrived) -> int:
    """How many verdicts arrived then. It counts them all: for a command that shows its progress."""
    return conn.execute(select(func.count()).select_from(verdicts).where(arrived.condition())).scalar_one()


def page(
    conn: Connection,
    filter_: Filter,
    *,
    limit: int,
    sort: Sort = "received_at",
    after: Position | None = None,
    arrived: Arrived = EVER,
) -> Page:
    """A page of stored verdicts, newest first by `sort`; those without that time are left out of it.

    What is rare is looked for by its own index, and sorted; what is common is found soon by walking along the times, of one
    word's rows alone where an index has them so. Left to the databases this is a matter of luck: SQLite knows no numbers, and
    PostgreSQL thinks that all is spread evenly (docs/decisions/0014-rare-and-common.md).
    """
    column = verdicts.c[sort]
    few = _few(conn, filter_)
    along = in_order(filter_) if few is None and sort == "received_at" else None
    wanted = and_(condition(filter_, by=(along,)), arrived.condition(), column.is_not(None))
    if after is not None:
        wanted = and_(wanted, tuple_(column, verdicts.c.evaluation_id) < tuple_(*_bound(column, after)))
    if few is not None:
        wanted = verdicts.c.evaluation_id.in_(_newest(conn, column, few, wanted, limit + 1))
    query = select(verdicts.c.document, column, verdicts.c.evaluation_id).where(wanted)
    rows = conn.execute(query.order_by(column.desc(), verdicts.c.evaluation_id.desc()).limit(limit + 1)).all()
    end = Position(*rows[limit - 1][1:]) if len(rows) > limit else None
    return Page([row.document for row in rows[:limit]], end)


def _few(conn: Connection, filter_: Filter) -> Select[tuple[UUID]] | None:
    """The ids that one word of the filter lets through, if they are few; None if no word does that."""
    for ids, condition_ in indexed(filter_):
        some = select(literal(1)).select_from(ids.table).where(condition_).limit(FEW + 1).subquery()
        if conn.execute(select(func.count()).select_from(some)).scalar_one() <= FEW:
            return select(ids).where(condition_)
    return None


def _newest(
    conn: Connection, column: Any, few: Select[tuple[UUID]], wanted: ColumnElement[bool], limit: int
) -> list[UUID]:
    # Sorted here: for the sake of an order, a database might walk along the times after all.
    found = conn.execute(select(column, verdicts.c.evaluation_id).where(verdicts.c.evaluation_id.in_(few), wanted))
    return [evaluation_id for _, evaluation_id in nlargest(limit, map(tuple, found))]


def _bound(column: Any, after: Position) -> Sequence[Any]:
    return literal(after.at, column.type), literal(after.evaluation_id, verdicts.c.evaluation_id.type)


def one(conn: Connection, evaluation_id: UUID) -> Verdict | None:
    """The newest result of one evaluation, or None."""
    document = conn.scalar(select(verdicts.c.document).where(verdicts.c.evaluation_id == evaluation_id))
    return None if document is None else Verdict.model_validate_json(document)


def embeds(conn: Connection, evaluation_id: UUID) -> dict[str, Any]:
    """The objects that Runflow embedded in the tree and that are no part of messages, as they came; null where not there."""
    body = conn.scalar(select(trees.c.body).where(trees.c.evaluation_id == evaluation_id))
    return embedded({} if body is None else read_json(body))
