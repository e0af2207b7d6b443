"""From stored events to pending verdicts with a fetch: what the intake leaves to others, so that it stays one insert."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, bindparam, case, insert, literal, select, update

from receiver.core.routing import Route
from receiver.core.verdict import Origin, Verdict
from receiver.store.intake import upsert
from receiver.store.results import Found, Released, release, row_of
from receiver.store.tables import WAITING, events, fetches, verdicts


class WaitingEvent(NamedTuple):
    """A stored event that nobody has seen to."""

    evaluation_id: UUID
    event: str
    body: bytes
    origin: Origin
    received_at: datetime
    secret_label: str | None
    request_id: str | None
    repeats: int


class Staged(NamedTuple):
    """What is to become of it: `verdict` with `tree` pending is fetched and held until then; any other is released at once."""

    verdict: Verdict
    hold_until: datetime

    @property
    def to_fetch(self) -> bool:
        """Whether its tree is to be fetched."""
        return self.verdict.tree == "pending"


class StageResult(NamedTuple):
    """How many events were seen to, how many fetches that asks for, and what was released without one."""

    events: int
    fetches: int
    released: list[Released]


def stage(
    conn: Connection, plan: Callable[[WaitingEvent], Staged], routes: Sequence[Route], *, limit: int, now: datetime
) -> StageResult:
    """Sees to the oldest `limit` waiting events."""
    waiting = _take(conn, limit)
    if not waiting:
        return StageResult(0, 0, [])
    first: dict[UUID, Staged] = {}
    later = []
    for each in waiting:
        staged = plan(each)
        if first.setdefault(each.evaluation_id, staged) is not staged:
            later.append(staged)
    inserted = _insert_pending(conn, [staged.verdict for staged in first.values()])
    new = [staged for key, staged in first.items() if key in inserted]
    later += [staged for key, staged in first.items() if key not in inserted]
    to_fetch = [(staged.verdict.evaluation_id, staged.hold_until) for staged in new if staged.to_fetch]
    _ask(conn, to_fetch, now)
    asked_again = {staged.verdict.evaluation_id for staged in later if staged.to_fetch}
    for evaluation_id in sorted(asked_again):
        ask_again(conn, evaluation_id, now)
    released = release(conn, [Found(staged.verdict) for staged in new if not staged.to_fetch], routes, now)
    return StageResult(len(waiting), len(to_fetch) + len(asked_again), released)


def _take(conn: Connection, limit: int) -> list[WaitingEvent]:
    """Takes events off the waiting list; another process that looks meanwhile passes over them."""
    columns = (events.c[name] for name in WaitingEvent._fields)
    oldest = select(*columns).where(WAITING).order_by(events.c.received_at).limit(limit)
    taken = [WaitingEvent(*row) for row in conn.execute(oldest.with_for_update(skip_locked=True))]
    if taken:
        # Row by row: one condition that names all of them takes SQLAlchemy ten times as long to build as this to run.
        at_key = (events.c.evaluation_id == bindparam("id"), events.c.event == bindparam("name"))
        keys = [{"id": each.evaluation_id, "name": each.event} for each in taken]
        conn.execute(update(events).values(waiting=False).where(*at_key), keys)
    return taken


def _insert_pending(conn: Connection, found: Sequence[Verdict]) -> set[UUID]:
    """Inserts those that are new, and returns their ids; another process may be at another event of the same evaluation."""
    pending = [verdict.model_copy(update={"tree": "pending", "tree_reason": None}) for verdict in found]
    rows = [row_of(verdict) | {"due_to": "[]", "tree_updated_at": None} for verdict in pending]
    made = upsert(conn)(verdicts).on_conflict_do_nothing().returning(verdicts.c.evaluation_id)
    # In the order of their ids, so that two processes cannot wait for each other.
    return set(conn.scalars(made, sorted(rows, key=lambda row: row["evaluation_id"])))


def _ask(conn: Connection, fetched: Sequence[tuple[UUID, datetime]], now: datetime) -> None:
    if fetched:
        rows = [
            {"evaluation_id": key, "due_at": now, "started_at": now, "hold_until": hold_until, "last_error": None}
            | {"leased": False, "claim": 0, "asked": 1, "attempts": 0}
            for key, hold_until in fetched
        ]
        conn.execute(insert(fetches), rows)


def ask_again(conn: Connection, evaluation_id: UUID, now: datetime) -> None:
    """Has the tree fetched once more: at once, or as soon as the fetch that is under way has ended."""
    row = {"evaluation_id": evaluation_id, "due_at": now, "started_at": now, "hold_until": None, "last_error": None}
    again = {
        "asked": fetches.c.asked + 1,
        "started_at": now,
        "attempts": case((fetches.c.leased, 1), else_=0),
        # Typed as the column is: a bare time would be text of another form on SQLite.
        "due_at": case((fetches.c.leased, fetches.c.due_at), else_=literal(now, fetches.c.due_at.type)),
    }
    conn.execute(
        upsert(conn)(fetches)
        .values(row | {"leased": False, "claim": 0, "asked": 1, "attempts": 0})
        .on_conflict_do_update(index_elements=[fetches.c.evaluation_id], set_=again)
    )
