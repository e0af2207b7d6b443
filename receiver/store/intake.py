"""Storing what came in: the hot path, and the one place that hands its statement to the driver.

A batch is one fsync. Through SQLAlchemy's Core each row would cost as much as all the rest of the request; here PostgreSQL
takes the whole batch as arrays in one statement, and SQLite as many rows in one as there are, up to 64. The unique key decides
what is new, never a look beforehand. What is rare takes the readable way.

    firsts(arrivals) -> insert -> sort_out(arrivals, new) -> count the repeats -> see_to(what is rare)
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from hashlib import sha256
from itertools import chain
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, update
from sqlalchemy.dialects import postgresql, sqlite

from receiver.core.lenient import without_nul
from receiver.core.matching import compared
from receiver.core.verdict import Origin
from receiver.store.tables import events, other_bodies, set_aside
from receiver.store.types import moment_text

_COLUMNS = "evaluation_id, event, body, origin, secret_label, request_id, received_at"
MOST_IN_ONE = 64
"""Rows in one of SQLite's statements; the driver keeps 128 statements prepared, and these are two of each size."""


def _sqlite_insert(rows: int) -> str:
    # Many rows in one statement: each statement lets go of the interpreter, and waits to have it back from the other thread.
    return (
        f"INSERT INTO events ({_COLUMNS}, repeats, waiting)"  # noqa: S608 (constants)
        f" VALUES {', '.join(['(?, ?, ?, ?, ?, ?, ?, 0, 1)'] * rows)} ON CONFLICT DO NOTHING"
    )


def _sqlite_count(rows: int) -> str:
    return (
        "UPDATE events SET repeats = repeats + column3, last_repeat_at = column4"  # noqa: S608 (constants)
        f" FROM (VALUES {', '.join(['(?, ?, ?, ?, ?)'] * rows)})"
        " WHERE evaluation_id = column1 AND event = column2 AND body = column5"
    )


_SQLITE_INSERTS = [_sqlite_insert(rows) for rows in range(1, MOST_IN_ONE + 1)]
_SQLITE_COUNTS = [_sqlite_count(rows) for rows in range(1, MOST_IN_ONE + 1)]
_SQLITE_NEWEST = "SELECT evaluation_id, event FROM events WHERE rowid > ?"
_NONE = 2**63 - 1
"""No row has a higher number."""
_POSTGRES_ROWS = (
    f"INSERT INTO events ({_COLUMNS}, repeats, waiting) SELECT *, 0, true"  # noqa: S608 (constants)
    " FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])"
)
_POSTGRES_INSERT = f"{_POSTGRES_ROWS} ON CONFLICT DO NOTHING RETURNING evaluation_id, event"
_SQLITE_BODY = "SELECT body FROM events WHERE evaluation_id = ? AND event = ?"
# The first of a key in a batch is stored, or counted where it is known: one round trip, one sync. The unique index leads to
# what is known: a join with the batch would be planned by what PostgreSQL believes of a table that it has not looked at lately.
_POSTGRES_TAKE = (
    f"{_POSTGRES_ROWS} ON CONFLICT (evaluation_id, event)"
    " DO UPDATE SET repeats = events.repeats + 1, last_repeat_at = excluded.received_at"
    " RETURNING evaluation_id, event, CASE WHEN repeats > 0 THEN body END"
)
# An UPDATE takes its rows in any order; locking them first, in the order of their keys, keeps two processes from waiting for
# each other.
_POSTGRES_COUNT = """
    WITH counted AS MATERIALIZED (
        SELECT evaluation_id, name, n, at
        FROM events JOIN unnest($1::uuid[], $2::text[], $3::int[], $4::timestamptz[]) AS given (id, name, n, at)
        ON evaluation_id = id AND event = name
        ORDER BY evaluation_id, name FOR UPDATE OF events
    )
    UPDATE events SET repeats = repeats + n, last_repeat_at = at FROM counted
    WHERE events.evaluation_id = counted.evaluation_id AND event = name
    RETURNING events.evaluation_id, event, body
"""


Key = tuple[UUID, str]
"""What an event is stored once under: the evaluation's id and the event's name."""


class EventArrival(NamedTuple):
    """An evaluation's event on its way into the store."""

    evaluation_id: UUID
    event: str
    body: bytes
    origin: Origin
    secret_label: str | None
    request_id: str | None
    received_at: datetime

    @property
    def key(self) -> Key:
        """What it is stored once under."""
        return self.evaluation_id, self.event


class OtherArrival(NamedTuple):
    """A genuine body that is no evaluation's event: of another kind (`ignored`) or not understood (`quarantined`)."""

    kind: Literal["ignored", "quarantined"]
    event: str | None
    why: str | None
    body: bytes
    secret_label: str | None
    request_id: str | None
    received_at: datetime


Arrival = EventArrival | OtherArrival


class Taken(Enum):
    """What became of an arrival. Each is durable once the batch is."""

    NEW = "new"
    REPEAT = "repeat"


class Rest(NamedTuple):
    """What of a batch is no first arrival."""

    repeats: list[EventArrival]
    others: list[OtherArrival]


def firsts(arrivals: Iterable[Arrival]) -> list[EventArrival]:
    """The events of a batch, each key once, in the order of all batches: two processes cannot wait for each other."""
    found: dict[tuple[int, str], EventArrival] = {}
    for each in arrivals:
        if isinstance(each, EventArrival):
            found.setdefault((each.evaluation_id.int, each.event), each)
    return [found[key] for key in sorted(found)]


def sort_out(arrivals: Sequence[Arrival], new: Sequence[Key]) -> tuple[list[Taken], Rest]:
    """Tells of each arrival, in order, whether it was new, and what is left to do. `new`: the keys that were inserted."""
    outcome, rest = [], Rest([], [])
    if len(new) == len(arrivals):  # nearly always, and a UUID's hash is Python
        return [Taken.NEW] * len(new), rest
    left = set(new)
    for each in arrivals:
        taken = Taken.NEW
        if isinstance(each, OtherArrival):
            rest.others.append(each)
        elif (key := each.key) in left:
            left.remove(key)  # the next one with this key is a repeat
        else:
            taken = Taken.REPEAT
            rest.repeats.append(each)
        outcome.append(taken)
    return outcome, rest


class Repeats(NamedTuple):
    """How many came of one key; when, and with which bytes, the last."""

    evaluation_id: UUID
    event: str
    number: int
    last_at: datetime
    body: bytes


def counts(repeats: Iterable[EventArrival]) -> list[Repeats]:
    """The repeats of a batch, each key once, in the order of all batches."""
    latest = {each.key: each for each in sorted(repeats, key=_order)}
    number = Counter(each.key for each in repeats)
    return [Repeats(*key, number[key], each.received_at, each.body) for key, each in latest.items()]


def differing(repeats: Iterable[EventArrival], stored: Mapping[Key, bytes]) -> list[EventArrival]:
    """Those whose bytes are others than what is stored under their key."""
    return [each for each in repeats if each.body != stored[each.key]]


def see_to(conn: Connection, differing: Iterable[EventArrival], others: Sequence[OtherArrival]) -> None:
    """Keeps bytes that differ from those stored, and has the evaluation fetched again; sets aside what is no event."""
    bodies = {(each.key, sha256(each.body).digest()): each for each in differing}
    for (key, digest), each in sorted(bodies.items(), key=lambda item: item[0]):
        if _insert_other_body(conn, each, digest):
            at_key = (events.c.evaluation_id == key[0], events.c.event == key[1])
            conn.execute(update(events).values(waiting=True).where(*at_key))
    if others:
        _set_aside(conn, others)


def accept(conn: Connection, arrivals: Sequence[Arrival]) -> list[Taken]:
    """Stores the batch in this transaction; tells of each, in order, whether it was new."""
    taken, left = sort_out(arrivals, _insert(conn, firsts(arrivals)))
    stored = _count(conn, counts(left.repeats))
    see_to(conn, differing(left.repeats, stored), left.others)
    return taken


def _insert(conn: Connection, arrivals: Sequence[EventArrival]) -> list[Key]:
    """Inserts those whose key is new and returns their keys. No key is there twice."""
    if not arrivals:
        return []
    if conn.dialect.name == "postgresql":
        return [(key, event) for key, event in conn.exec_driver_sql(_POSTGRES_INSERT, _columns(arrivals))]
    return _insert_on_sqlite(conn.connection.cursor(), arrivals)


def _insert_on_sqlite(cursor: Any, arrivals: Sequence[EventArrival]) -> list[Key]:
    rows = [
        (evaluation_id.bytes, event, body, *rest, moment_text(received_at))
        for evaluation_id, event, body, *rest, received_at in arrivals
    ]
    inserted = _execute_together(cursor, _SQLITE_INSERTS, rows)
    if inserted == len(rows):
        return [each.key for each in arrivals]
    # This connection alone writes, so what it has just inserted has the highest numbers, one after the other.
    newest = cursor.execute(_SQLITE_NEWEST, (cursor.lastrowid - inserted if inserted else _NONE,))
    new = set(newest.fetchall())
    return [each.key for each in arrivals if (each.evaluation_id.bytes, each.event) in new]


def _count(conn: Connection, repeats: Sequence[Repeats]) -> dict[Key, bytes]:
    """Adds to the repeats of these keys. Returns the bodies that are stored."""
    if not repeats:
        return {}
    if conn.dialect.name == "postgresql":
        return {
            (key, event): body for key, event, body in conn.exec_driver_sql(_POSTGRES_COUNT, _without_body(repeats))
        }
    return _count_on_sqlite(conn.connection.cursor(), repeats)


def _count_on_sqlite(cursor: Any, repeats: Sequence[Repeats]) -> dict[Key, bytes]:
    rows = [(each.evaluation_id.bytes, each.event, each.number, moment_text(each.last_at)) for each in repeats]
    stored = {(each.evaluation_id, each.event): each.body for each in repeats}
    same = _execute_together(
        cursor, _SQLITE_COUNTS, [(*row, each.body) for row, each in zip(rows, repeats, strict=True)]
    )
    if same < len(rows):  # nearly always a repeat has the bytes that are stored
        for key, row in zip(list(stored), rows, strict=True):
            [(body,)] = cursor.execute(_SQLITE_BODY, row[:2])
            if body != stored[key]:
                _execute_together(cursor, _SQLITE_COUNTS, [(*row, body)])
                stored[key] = body
    return stored


def _execute_together(cursor: Any, statements: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
    """Executes the statement for so many rows, or several, and tells how many rows they changed."""
    changed = 0
    for start in range(0, len(rows), MOST_IN_ONE):
        lot = rows[start : start + MOST_IN_ONE]
        changed += cursor.execute(statements[len(lot) - 1], list(chain.from_iterable(lot))).rowcount
    return changed


Fetch = Callable[[str, Sequence[Sequence[object]]], Awaitable[Sequence[Sequence[Any]]]]
"""Runs one statement durably, with these columns as its arrays, and returns its rows."""


Finish = Callable[[Sequence[EventArrival], Sequence[OtherArrival]], Awaitable[None]]
"""Runs `see_to`."""


async def accept_directly(fetch: Fetch, finish: Finish, arrivals: Sequence[Arrival]) -> list[Taken]:
    """`accept` over PostgreSQL's own driver, which takes a fifth of the CPU time that it takes through SQLAlchemy.

    Each statement is durable by itself: a transaction around them would be two more round trips for every batch. Most batches
    have one; one with a key more than once has two. What is cut off between them is answered 503, comes again, and is seen to
    then.
    """
    first = firsts(arrivals)
    rows = await fetch(_POSTGRES_TAKE, _columns(first)) if first else []
    stored = {(key, event): body for key, event, body in rows if body is not None}
    taken, left = sort_out(arrivals, [(key, event) for key, event, body in rows if body is None])
    if uncounted := _all_but_the_first(left.repeats, stored.keys()):
        found = await fetch(_POSTGRES_COUNT, _without_body(counts(uncounted)))
        stored |= {(key, event): body for key, event, body in found}
    different = differing(left.repeats, stored)
    if different or left.others:
        await finish(different, left.others)
    return taken


def _all_but_the_first(repeats: Iterable[EventArrival], of: Iterable[Key]) -> list[EventArrival]:
    """Without the first with each of these keys."""
    keys, found = set(of), []
    for each in repeats:
        if each.key in keys:
            keys.remove(each.key)
        else:
            found.append(each)
    return found


def _order(arrival: EventArrival) -> tuple[int, str]:
    return arrival.evaluation_id.int, arrival.event


def _without_body(repeats: Sequence[Repeats]) -> tuple[list[object], ...]:
    return _columns([each[:-1] for each in repeats])


def _columns(rows: Sequence[tuple[object, ...]]) -> tuple[list[object], ...]:
    return tuple(list(column) for column in zip(*rows, strict=True))


def _insert_other_body(conn: Connection, arrival: EventArrival, digest: bytes) -> bool:
    row = {
        "evaluation_id": arrival.evaluation_id,
        "event": arrival.event,
        "sha256": digest,
        "body": arrival.body,
        "received_at": arrival.received_at,
    }
    made = upsert(conn)(other_bodies).values(row).on_conflict_do_nothing().returning(other_bodies.c.sha256)
    return conn.execute(made).first() is not None


def _set_aside(conn: Connection, arrivals: Sequence[OtherArrival]) -> None:
    for digest, each in sorted(((sha256(each.body).digest(), each) for each in arrivals), key=lambda item: item[0]):
        row = {**each._asdict(), "sha256": digest, "state": "kept", "repeats": 0, "event": clip(each.event)}
        made = (
            upsert(conn)(set_aside)
            .values(row)
            .on_conflict_do_update(
                index_elements=[set_aside.c.sha256],
                set_={"repeats": set_aside.c.repeats + 1, "last_repeat_at": each.received_at},
            )
        )
        conn.execute(made)


def clip(text: str | None) -> str | None:
    """As much as filters look at and an indexed column can hold, without U+0000, which PostgreSQL's text cannot."""
    return None if text is None else without_nul(compared(text))


def upsert(conn: Connection) -> type[postgresql.Insert] | type[sqlite.Insert]:
    """The dialect's own insert, which knows ON CONFLICT; both have the same methods."""
    return postgresql.Insert if conn.dialect.name == "postgresql" else sqlite.Insert
