"""Ratings: each person's newest thumb for an evaluation, and whether Runflow has it; how they move is in docs/states.md."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, func, or_, select, update

from receiver.core.rating import Click, Rating
from receiver.core.verdict import Verdict
from receiver.store.intake import upsert
from receiver.store.tables import DUE, ratings, revisions, verdicts

State = Literal["due", "told", "refused"]


class DueRating(NamedTuple):
    """One that is this process's to see to until the lease ends. `attempts` counts this one."""

    evaluation_id: UUID
    person: str
    is_positive: bool | None
    sink: str
    place: str
    revision: int
    claim: int
    attempts: int
    started_at: datetime


class TakenRatings(NamedTuple):
    """What is to be seen to now, and when to look again."""

    due: list[DueRating]
    next_moment: datetime | None


def rate(conn: Connection, click: Click, now: datetime) -> bool:
    """Notes what was clicked; it is due at once. False if the same click, or a later one of that person's, was noted before."""
    fresh = {"state": "due", "due_at": now, "started_at": now, "attempts": 0, "last_error": None}
    made = upsert(conn)(ratings).values(claim=0, **click._asdict(), **fresh)
    newest = made.on_conflict_do_update(
        index_elements=[ratings.c.evaluation_id, ratings.c.person],
        set_={**{name: made.excluded[name] for name in Click._fields}, **fresh, "claim": ratings.c.claim + 1},
        where=ratings.c.clicked_at < made.excluded.clicked_at,
    ).returning(ratings.c.person)
    return conn.execute(newest).first() is not None


def next_due(conn: Connection) -> datetime | None:
    """When the next is due, or its lease ends."""
    due: datetime | None = conn.execute(select(func.min(ratings.c.due_at)).where(DUE)).scalar_one()
    return due


def take(conn: Connection, *, limit: int, lease: timedelta, now: datetime) -> TakenRatings:
    """Leases what is due, the longest due first."""
    columns = [ratings.c[name] for name in DueRating._fields]
    query = (
        select(*columns)
        .where(DUE, ratings.c.due_at <= now)
        .order_by(ratings.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    found = [DueRating._make(row) for row in conn.execute(query)]
    due = [each._replace(claim=each.claim + 1, attempts=each.attempts + 1) for each in found]
    for each in due:
        conn.execute(
            update(ratings)
            .where(ratings.c.evaluation_id == each.evaluation_id, ratings.c.person == each.person)
            .values(due_at=now + lease, claim=each.claim, attempts=each.attempts)
        )
    return TakenRatings(due, now if len(due) == limit else next_due(conn))


def settle(
    conn: Connection, due: DueRating, state: State, *, due_at: datetime | None = None, error: str | None = None
) -> bool:
    """Writes back what became of it. False if its person clicked again meanwhile, or the lease was lost."""
    settled = (
        update(ratings)
        .where(
            ratings.c.evaluation_id == due.evaluation_id,
            ratings.c.person == due.person,
            ratings.c.claim == due.claim,
            ratings.c.state == "due",
        )
        .values(state=state, due_at=due_at, last_error=error)
        .returning(ratings.c.person)
    )
    return conn.execute(settled).first() is not None


def of(conn: Connection, evaluation_id: UUID) -> Sequence[Rating]:
    """What people say of it, the newest last. What Runflow refused is not said."""
    query = (
        select(ratings.c.person, ratings.c.is_positive)
        .where(
            ratings.c.evaluation_id == evaluation_id,
            ratings.c.is_positive.is_not(None),
            or_(ratings.c.state == "due", ratings.c.state == "told"),
        )
        .order_by(ratings.c.clicked_at, ratings.c.person)
    )
    return [Rating._make(row) for row in conn.execute(query)]


def rated(conn: Connection, evaluation_id: UUID, revision: int) -> Verdict | None:
    """The result as it stood in the message that was clicked, or the newest where that is not kept."""
    earlier = select(revisions.c.document).where(
        revisions.c.evaluation_id == evaluation_id, revisions.c.revision == revision
    )
    newest = select(verdicts.c.document).where(verdicts.c.evaluation_id == evaluation_id, verdicts.c.revision > 0)
    document = conn.scalar(earlier) or conn.scalar(newest)
    return None if document is None else Verdict.model_validate_json(document)
