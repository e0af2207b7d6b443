"""The fetch lane's work: claims, write-backs, and what was held too long."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import BindParameter, ColumnElement, Connection, Row, bindparam, case, func, select, update

from receiver.core.routing import Route
from receiver.core.verdict import Verdict, without_tree
from receiver.store import lanes
from receiver.store.results import Found, Released, release
from receiver.store.tables import fetches, verdicts

HELD_AT_ONCE = 200
LOCKED_WAIT = timedelta(milliseconds=250)
"""How long to leave alone what is due and locked by another process, which is at it or hangs."""
NO_API_KEY = "no_api_key"
NOTHING_TRIED = "not_fetched_in_time"
"""Why there is no tree where no fetch has failed: the lane was paused or behind."""


class ClaimedFetch(NamedTuple):
    """One evaluation whose tree is this process's to fetch until the lease ends. `attempts` counts this one."""

    evaluation_id: UUID
    claim: int
    asked: int
    attempts: int
    started_at: datetime
    known: Verdict


class SettledFetch(NamedTuple):
    """How a fetch ended without a result: due again at `due_at`, or never. `uncounted`: it used up no attempt."""

    claimed: ClaimedFetch
    due_at: datetime | None
    error: str | None
    uncounted: bool = False


class FinishedFetch(NamedTuple):
    """A fetch that brought a result."""

    claimed: ClaimedFetch
    found: Found


def claim(conn: Connection, *, limit: int, lease: timedelta, now: datetime) -> list[ClaimedFetch]:
    """Leases what is due, the longest due first. Counts the attempt now, so that one that kills its process counts."""
    due = (
        select(fetches.c.evaluation_id)
        .where(fetches.c.due_at <= now)
        .order_by(fetches.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")  # evaluated once; a subquery might be run again, and lock more than the limit
    )
    leased = (
        update(fetches)
        .where(fetches.c.evaluation_id.in_(select(due.c.evaluation_id)))
        .values(leased=True, claim=fetches.c.claim + 1, attempts=fetches.c.attempts + 1, due_at=now + lease)
        .returning(*(fetches.c[name] for name in ("evaluation_id", "claim", "asked", "attempts", "started_at")))
    )
    rows: dict[UUID, list[Any]] = {row.evaluation_id: list(row) for row in conn.execute(leased)}
    known = select(verdicts.c.evaluation_id, verdicts.c.document).where(verdicts.c.evaluation_id.in_(rows))
    return [
        ClaimedFetch._make([*rows[key], Verdict.model_validate_json(document)]) for key, document in conn.execute(known)
    ]


def settle(conn: Connection, settled: Sequence[SettledFetch], now: datetime) -> None:
    """Writes back fetches without a result. One whose lease was lost changes nothing."""
    if settled:
        _end(conn, [(each.claimed, each.due_at, each.error, each.uncounted) for each in settled], now)


def finish(
    conn: Connection, finished: Sequence[FinishedFetch], routes: Sequence[Route], now: datetime
) -> list[Released]:
    """Releases what fetches brought. One whose lease was lost changes nothing."""
    leases = _leases(conn, [each.claimed.evaluation_id for each in finished])
    still_ours = [each for each in finished if _key(each.claimed) in leases]
    return _end_with(conn, [(each.claimed, each.found, None) for each in still_ours], routes, now)


def _leases(conn: Connection, ids: Sequence[UUID]) -> set[tuple[UUID, int]]:
    """Which claims on these are in force; they stay so until this transaction ends."""
    held = select(fetches.c.evaluation_id, fetches.c.claim).where(fetches.c.leased, fetches.c.evaluation_id.in_(ids))
    return {(key, number) for key, number in conn.execute(held.order_by(fetches.c.evaluation_id).with_for_update())}


def _key(claimed: ClaimedFetch) -> tuple[UUID, int]:
    return claimed.evaluation_id, claimed.claim


def _end_with(
    conn: Connection,
    ended: Sequence[tuple[ClaimedFetch, Found, str | None]],
    routes: Sequence[Route],
    now: datetime,
) -> list[Released]:
    """Releases results and ends their leases."""
    if not ended:
        return []
    released = release(conn, [found for _, found, _ in ended], routes, now)
    _end(conn, [(claimed, None, error, False) for claimed, _, error in ended], now)
    _no_longer_held(conn, [claimed.evaluation_id for claimed, _, _ in ended])
    return released


def _end(
    conn: Connection, ended: Sequence[tuple[ClaimedFetch, datetime | None, str | None, bool]], now: datetime
) -> None:
    """Ends leases. One that was asked for again meanwhile is due now, whatever this fetch said."""
    statement = (
        update(fetches)
        .where(fetches.c.evaluation_id == bindparam("key"), fetches.c.claim == bindparam("number"), fetches.c.leased)
        .values(
            leased=False,
            due_at=case((fetches.c.asked > bindparam("seen"), _moment("now")), else_=_moment("then")),
            attempts=fetches.c.attempts - bindparam("back"),
            # One that was given back says nothing new, and why there is no tree may have to be told.
            last_error=func.coalesce(bindparam("error", type_=fetches.c.last_error.type), fetches.c.last_error),
        )
    )
    rows = [
        {"key": it.evaluation_id, "number": it.claim, "seen": it.asked, "now": now}
        | {"then": due_at, "back": int(uncounted), "error": error}
        for it, due_at, error, uncounted in sorted(ended, key=lambda each: each[0].evaluation_id)
    ]
    conn.execute(statement, rows)


def _moment(name: str) -> BindParameter[datetime]:
    return bindparam(name, type_=fetches.c.due_at.type)


def _no_longer_held(conn: Connection, ids: Sequence[UUID]) -> None:
    conn.execute(update(fetches).where(fetches.c.evaluation_id.in_(ids)).values(hold_until=None))


def release_held(conn: Connection, routes: Sequence[Route], *, limit: int, now: datetime) -> list[Released]:
    """Releases without their tree those that were held for long enough, also while the lane is paused."""
    rows = _overdue(conn, fetches.c.hold_until, limit, now)
    _no_longer_held(conn, [row.evaluation_id for row in rows])
    return release(conn, [_alone(row.document, row.last_error or NOTHING_TRIED) for row in rows], routes, now)


def release_keyless(conn: Connection, routes: Sequence[Route], *, limit: int, now: datetime) -> list[Released]:
    """Releases without their tree those whose fetch is due, in a process that has no key to fetch with."""
    rows = _overdue(conn, fetches.c.due_at, limit, now)
    ids = [row.evaluation_id for row in rows]
    conn.execute(
        update(fetches)
        .where(fetches.c.evaluation_id.in_(ids))
        .values(leased=False, due_at=None, hold_until=None, last_error=NO_API_KEY)
    )
    return release(conn, [_alone(row.document, NO_API_KEY) for row in rows], routes, now)


def _overdue(
    conn: Connection, column: ColumnElement[datetime | None], limit: int, now: datetime
) -> Sequence[Row[UUID, str | None, str]]:
    overdue = (
        select(fetches.c.evaluation_id, fetches.c.last_error, verdicts.c.document)
        .join(verdicts, verdicts.c.evaluation_id == fetches.c.evaluation_id)
        .where(column <= now)
        .order_by(column)
        .limit(limit)
        .with_for_update(skip_locked=True, of=fetches)
    )
    return conn.execute(overdue).all()


def _alone(document: str, reason: str) -> Found:
    return Found(without_tree(Verdict.model_validate_json(document), reason))


def give_up(
    conn: Connection, claimed: ClaimedFetch, error: str, routes: Sequence[Route], now: datetime
) -> list[Released]:
    """Ends the tries for good; a verdict that is still held goes out without its tree. A lost lease changes nothing."""
    if _key(claimed) not in _leases(conn, [claimed.evaluation_id]):
        return []
    return _end_with(conn, [(claimed, Found(without_tree(claimed.known, error)), error)], routes, now)


class TakenFetches(NamedTuple):
    """What may be fetched now, and what was released because it had been held for long enough.

    While the lane is paused nothing may be fetched, and after a pause one, as a probe. `next_moment` is when there is
    next something to do.
    """

    claimed: list[ClaimedFetch]
    released: list[Released]
    probing: bool
    next_moment: datetime | None


def take(
    conn: Connection, routes: Sequence[Route], *, limit: int, lease: timedelta, now: datetime, idle: bool
) -> TakenFetches:
    """Releases what is overdue and claims up to `limit`, as the lane permits. `idle`: nothing is under way in this process."""
    released = release_held(conn, routes, limit=HELD_AT_ONCE, now=now)
    lane = lanes.state(conn, lanes.FETCH)
    is_paused = lane.paused_until is not None and lane.paused_until > now
    probing = lane.failures > 0
    permitted = 0 if is_paused else limit if not probing else int(idle and limit > 0)
    claimed = claim(conn, limit=permitted, lease=lease, now=now) if permitted else []
    due = _earliest(conn, fetches.c.due_at) if permitted else None
    if due is not None and not claimed:
        due = max(due, now + LOCKED_WAIT)
    moments = (_earliest(conn, fetches.c.hold_until), due, lane.paused_until if is_paused else None)
    return TakenFetches(claimed, released, probing, min((at for at in moments if at is not None), default=None))


def take_keyless(conn: Connection, routes: Sequence[Route], *, now: datetime) -> TakenFetches:
    """Like `take` in a process without a key: it can fetch nothing, so what is due is released."""
    released = release_held(conn, routes, limit=HELD_AT_ONCE, now=now)
    released += release_keyless(conn, routes, limit=HELD_AT_ONCE, now=now)
    moments = (_earliest(conn, fetches.c.hold_until), _earliest(conn, fetches.c.due_at))
    return TakenFetches([], released, probing=False, next_moment=min((at for at in moments if at), default=None))


def next_due(conn: Connection) -> datetime | None:
    """When the next fetch is due, or its lease ends."""
    return _earliest(conn, fetches.c.due_at)


def _earliest(conn: Connection, column: ColumnElement[datetime | None]) -> datetime | None:
    # Said so that the partial index serves: without the condition SQLite reads the whole table.
    return conn.execute(select(func.min(column)).where(column.is_not(None))).scalar_one()
