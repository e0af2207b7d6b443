"""The fetch lane's work: claims, write-backs, and what was held too long."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    Row,
    bindparam,
    case,
    func,
    select,
    update,
)

from receiver.core.routing import Route
from receiver.core.verdict import Verdict, without_tree
from receiver.store import lanes
from receiver.store.attempts import Failure, Noted, note_fetches, note_replaced
from receiver.store.results import Found, Released, release
from receiver.store.rows import one_of, update_rows
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
    """How a fetch ended without a result: due again at `due_at`, or never. `uncounted`: it used up no attempt.

    `failure` is kept for the timeline.
    """

    claimed: ClaimedFetch
    due_at: datetime | None
    error: str | None
    uncounted: bool = False
    failure: Failure | None = None


class FinishedFetch(NamedTuple):
    """A fetch that brought a result."""

    claimed: ClaimedFetch
    found: Found


def claim(
    conn: Connection, *, limit: int, lease: timedelta, now: datetime, but: lanes.Suspect | None = None
) -> list[ClaimedFetch]:
    """Leases what is due, except `but`, the longest due first.

    Counts the attempt now: one that kills its process counts too.
    """
    columns = [fetches.c[name] for name in ClaimedFetch._fields[:-1]]
    due = _overdue(conn, columns, fetches.c.due_at, limit, now, but)
    claimed = [
        ClaimedFetch(key, number + 1, asked, attempts + 1, started_at, Verdict.model_validate_json(document))
        for key, number, asked, attempts, started_at, document in due
    ]
    leases = [
        {"evaluation_id": it.evaluation_id, "leased": True, "claim": it.claim, "attempts": it.attempts}
        | {"due_at": now + lease}
        for it in claimed
    ]
    update_rows(conn, fetches, leases)
    return claimed


def settle(conn: Connection, settled: Sequence[SettledFetch], now: datetime) -> None:
    """Writes back fetches without a result. One whose lease was lost changes nothing."""
    note_fetches(conn, [Noted(*_key(it.claimed), it.failure, it.due_at) for it in settled if it.failure])
    statement = (
        update(fetches)
        .where(fetches.c.evaluation_id == bindparam("key"), fetches.c.claim == bindparam("number"), fetches.c.leased)
        .values(
            leased=False,
            # One that was asked for again meanwhile is due now, whatever this fetch said.
            due_at=case((fetches.c.asked > bindparam("seen"), _moment("now")), else_=_moment("then")),
            attempts=fetches.c.attempts - bindparam("back"),
            # One that was given back says nothing new, and why there is no tree may have to be told.
            last_error=func.coalesce(bindparam("error", type_=fetches.c.last_error.type), fetches.c.last_error),
        )
    )
    rows = [
        {"key": it.evaluation_id, "number": it.claim, "seen": it.asked, "now": now}
        | {"then": due_at, "back": int(uncounted), "error": error}
        for it, due_at, error, uncounted, _ in sorted(settled, key=lambda each: each.claimed.evaluation_id)
    ]
    if rows:
        conn.execute(statement, rows)


def _moment(name: str) -> BindParameter[datetime]:
    return bindparam(name, type_=fetches.c.due_at.type)


def finish(
    conn: Connection, finished: Sequence[FinishedFetch], routes: Sequence[Route], now: datetime
) -> list[Released]:
    """Releases what fetches brought. One whose lease was lost changes nothing."""
    return _end_with(conn, [(each.claimed, each.found, None) for each in finished], routes, now)


def _end_with(
    conn: Connection,
    ended: Sequence[tuple[ClaimedFetch, Found, Failure | None]],
    routes: Sequence[Route],
    now: datetime,
) -> list[Released]:
    """Releases results and ends their leases. One whose lease was lost changes nothing."""
    leases = _leases(conn, [claimed.evaluation_id for claimed, _, _ in ended])
    ours = [each for each in ended if _key(each[0]) in leases]
    note_replaced(conn, [_key(claimed) for claimed, found, _ in ours if found.tree is not None and claimed.claim > 1])
    released = release(conn, [found for _, found, _ in ours], routes, now)
    _note(conn, ours, {each.verdict.evaluation_id for each in released}, now)
    rows = [
        {"evaluation_id": claimed.evaluation_id, "leased": False, "hold_until": None}
        # One that was asked for again meanwhile is due now, whatever this fetch said.
        | {"due_at": now if leases[_key(claimed)].asked > claimed.asked else None}
        | {"last_error": leases[_key(claimed)].last_error if failure is None else failure.error}
        for claimed, _, failure in ours
    ]
    update_rows(conn, fetches, rows)
    return released


def _note(
    conn: Connection,
    ended: Sequence[tuple[ClaimedFetch, Found, Failure | None]],
    released: Collection[UUID],
    now: datetime,
) -> None:
    """Notes which were given up, and which brought a tree that is older than the one there is."""
    failures = [(claimed, failure) for claimed, _, failure in ended if failure is not None]
    if len(released) < len(ended):
        failures += [
            (claimed, Failure(now, "older", None))
            for claimed, found, _ in ended
            if found.tree is not None and claimed.evaluation_id not in released
        ]
    note_fetches(conn, [Noted(*_key(claimed), failure) for claimed, failure in failures])


def _leases(conn: Connection, ids: Sequence[UUID]) -> dict[tuple[UUID, int], Row[Any]]:
    """The claims on these that are in force, with `asked` and `last_error`; all stays so until this transaction ends."""
    held = (
        select(*(fetches.c[name] for name in ("evaluation_id", "claim", "asked", "last_error")))
        .where(fetches.c.leased, one_of(conn, fetches.c.evaluation_id, ids))
        .order_by(fetches.c.evaluation_id)
        .with_for_update()
    )
    return {(row.evaluation_id, row.claim): row for row in conn.execute(held)}


def _key(claimed: ClaimedFetch) -> tuple[UUID, int]:
    return claimed.evaluation_id, claimed.claim


_TO_RELEASE = (fetches.c.evaluation_id, fetches.c.last_error)


def release_held(conn: Connection, routes: Sequence[Route], *, limit: int, now: datetime) -> list[Released]:
    """Releases without their tree those that were held for long enough, also while the lane is paused."""
    rows = _overdue(conn, _TO_RELEASE, fetches.c.hold_until, limit, now)
    update_rows(conn, fetches, [{"evaluation_id": row.evaluation_id, "hold_until": None} for row in rows])
    return release(conn, [_alone(row.document, row.last_error or NOTHING_TRIED) for row in rows], routes, now)


def release_keyless(conn: Connection, routes: Sequence[Route], *, limit: int, now: datetime) -> list[Released]:
    """Releases without their tree those whose fetch is due, in a process that has no key to fetch with."""
    rows = _overdue(conn, _TO_RELEASE, fetches.c.due_at, limit, now)
    ended = {"leased": False, "due_at": None, "hold_until": None, "last_error": NO_API_KEY}
    update_rows(conn, fetches, [{"evaluation_id": row.evaluation_id, **ended} for row in rows])
    return release(conn, [_alone(row.document, NO_API_KEY) for row in rows], routes, now)


def _overdue(
    conn: Connection,
    columns: Sequence[Column[Any]],
    moment: Column[datetime | None],
    limit: int,
    now: datetime,
    but: lanes.Suspect | None = None,
) -> Sequence[Row[*tuple[Any, ...]]]:
    """These columns of the fetches whose moment has come, and the verdict's document, the longest overdue first."""
    overdue = (
        select(*columns, verdicts.c.document)
        .join(verdicts, verdicts.c.evaluation_id == fetches.c.evaluation_id)
        .where(moment <= now, lanes.all_but(fetches.c.evaluation_id, but))
        .order_by(moment)
        .limit(limit)
        .with_for_update(skip_locked=True, of=fetches)
    )
    return conn.execute(overdue).all()


def _alone(document: str, reason: str) -> Found:
    return Found(without_tree(Verdict.model_validate_json(document), reason))


def give_up(
    conn: Connection,
    claimed: ClaimedFetch,
    error: str,
    routes: Sequence[Route],
    now: datetime,
    detail: str | None = None,
    status: int | None = None,
) -> list[Released]:
    """Ends the tries for good; a verdict that is still held goes out without its tree. A lost lease changes nothing."""
    failure = Failure(now, "given_up", error, detail, status)
    return _end_with(conn, [(claimed, Found(without_tree(claimed.known, error)), failure)], routes, now)


class TakenFetches(NamedTuple):
    """What may be fetched now, and what was released because it had been held for long enough.

    While the lane is paused nothing may be fetched, and after a pause one, as a probe. `next_moment` is when there is
    next something to do.
    """

    claimed: list[ClaimedFetch]
    released: list[Released]
    probing: bool
    next_moment: datetime | None
    lane: lanes.LaneState = lanes.LaneState(lanes.FETCH)


def take(
    conn: Connection, routes: Sequence[Route], *, limit: int, lease: timedelta, now: datetime, idle: bool
) -> TakenFetches:
    """Releases what is overdue and claims up to `limit`, as the lane permits. `idle`: nothing is under way in this process."""
    released = release_held(conn, routes, limit=HELD_AT_ONCE, now=now)
    lane = lanes.state(conn, lanes.FETCH)
    is_paused = lane.paused_until is not None and lane.paused_until > now
    probing = lane.failures > 0
    permitted = 0 if is_paused else limit if not probing else int(idle and limit > 0)
    claimed: list[ClaimedFetch] = []
    if permitted:
        due_now = partial(claim, conn, limit=permitted, lease=lease, now=now)
        claimed = (due_now(but=lane.newest_suspect) if probing else []) or due_now()
    due = _earliest(conn, fetches.c.due_at) if permitted else None
    if due is not None and not claimed:
        due = max(due, now + LOCKED_WAIT)
    moments = (_earliest(conn, fetches.c.hold_until), due, lane.paused_until if is_paused else None)
    next_moment = min((at for at in moments if at is not None), default=None)
    return TakenFetches(claimed, released, probing, next_moment, lane)


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
