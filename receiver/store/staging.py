"""From stored events to pending verdicts with a fetch: what the intake leaves to others, so that it stays one insert."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, case, literal, select

from receiver.core.verdict import Origin, Verdict
from receiver.store.hours import note_late
from receiver.store.intake import upsert
from receiver.store.results import row_of
from receiver.store.rows import insert_new, insert_rows, update_rows
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
    """What is to become of an event: its pending verdict, when its tree is to be fetched, and until when it is held.

    `due_at` None: there is nothing to fetch, for `reason`. `oddities` are for the log.
    """

    event: WaitingEvent
    verdict: Verdict
    oddities: list[str]
    due_at: datetime | None
    hold_until: datetime
    reason: str | None = None


def stage(conn: Connection, plan: Callable[[WaitingEvent], Staged], *, limit: int, now: datetime) -> list[Staged]:
    """Sees to the oldest `limit` waiting events: they have a pending verdict then, and whoever fetches has the rest to do."""
    all_staged = [plan(event) for event in _take(conn, limit)]
    if not all_staged:
        return []
    first = {staged.event.evaluation_id: staged for staged in reversed(all_staged)}
    inserted = _insert_pending(conn, [staged.verdict for staged in first.values()])
    note_late(conn, (first[key].verdict.received_at for key in inserted), now)
    _ask(conn, [staged for key, staged in first.items() if key in inserted], now)
    others = {
        key
        for staged in all_staged
        if (key := staged.event.evaluation_id) not in inserted or staged is not first[key]
        if staged.due_at is not None
    }
    for evaluation_id in sorted(others):
        ask_again(conn, evaluation_id, now)
    return all_staged


def _take(conn: Connection, limit: int) -> list[WaitingEvent]:
    """Takes events off the waiting list; another process that looks meanwhile passes over them."""
    columns = (events.c[name] for name in WaitingEvent._fields)
    oldest = select(*columns).where(WAITING).order_by(events.c.received_at).limit(limit)
    taken = [WaitingEvent(*row) for row in conn.execute(oldest.with_for_update(skip_locked=True))]
    seen_to = [{"evaluation_id": each.evaluation_id, "event": each.event, "waiting": False} for each in taken]
    update_rows(conn, events, seen_to)
    return taken


def _insert_pending(conn: Connection, found: Sequence[Verdict]) -> set[UUID]:
    """Inserts those that are new, and returns their ids; another process may be at another event of the same evaluation."""
    rows = [row_of(verdict) | {"due_to": "[]", "tree_updated_at": None, "fetched_at": None} for verdict in found]
    # In the order of their ids, so that two processes cannot wait for each other.
    return insert_new(conn, verdicts, sorted(rows, key=lambda row: row["evaluation_id"].int))


def _ask(conn: Connection, new: Sequence[Staged], now: datetime) -> None:
    rows = [
        {
            "evaluation_id": it.event.evaluation_id,
            "due_at": it.due_at,
            "started_at": now,
            "hold_until": it.hold_until,
            "last_error": it.reason,
            "leased": False,
            "claim": 0,
            "asked": 1,
            "attempts": 0,
        }
        for it in new
    ]
    insert_rows(conn, fetches, rows)


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
