"""What people and programs ask for: stored verdicts by filter and page, one verdict, its embedded objects."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, func, literal, select, true, tuple_

from receiver.core.evaluation import embedded
from receiver.core.lenient import read_json
from receiver.core.matching import Filter
from receiver.core.verdict import Verdict
from receiver.store.filters import condition
from receiver.store.tables import trees, verdicts

Sort = Literal["received_at", "completed_at"]


class Position(NamedTuple):
    """Where a page ended: the sort column's value and the id, which no two rows share."""

    at: datetime
    evaluation_id: UUID


class Page(NamedTuple):
    """Verdicts, the newest first, and where the next page begins, if there is one."""

    items: list[Verdict]
    end: Position | None


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
    """A page of stored verdicts, newest first by `sort`; those without that time are left out of it."""
    column = verdicts.c[sort]
    query = select(verdicts.c.document, column, verdicts.c.evaluation_id).where(
        condition(filter_), arrived.condition(), column.is_not(None)
    )
    if after is not None:
        query = query.where(tuple_(column, verdicts.c.evaluation_id) < tuple_(*_bound(column, after)))
    newest = query.order_by(column.desc(), verdicts.c.evaluation_id.desc()).limit(limit + 1)
    rows = conn.execute(newest).all()
    end = Position(*rows[limit - 1][1:]) if len(rows) > limit else None
    return Page([Verdict.model_validate_json(row.document) for row in rows[:limit]], end)


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
