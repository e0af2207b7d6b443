"""Storing what came in: the hot path, and the one place that hands its statement to the driver.

A batch is one transaction and so one fsync. Through SQLAlchemy's Core each row would cost as much as all the rest of the
request; here PostgreSQL takes the whole batch as arrays in one statement, and SQLite one prepared statement row by row. The
unique key decides what is new, never a look beforehand. What is rare takes the readable way.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum
from hashlib import sha256
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, update
from sqlalchemy.dialects import postgresql, sqlite

from receiver.core.lenient import without_nul
from receiver.core.matching import compared
from receiver.core.verdict import Origin
from receiver.store.tables import events, other_bodies, set_aside
from receiver.store.types import moment_text

_COLUMNS = "evaluation_id, event, body, origin, secret_label, request_id, received_at"
_SQLITE_INSERT = (
    f"INSERT INTO events ({_COLUMNS}, repeats, waiting) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 1) ON CONFLICT DO NOTHING"  # noqa: S608 (constants)
)
_POSTGRES_INSERT = (
    f"INSERT INTO events ({_COLUMNS}, repeats, waiting) SELECT *, 0, true"  # noqa: S608 (constants)
    " FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])"
    " ON CONFLICT DO NOTHING RETURNING evaluation_id, event"
)
_SQLITE_COUNT = (
    "UPDATE events SET repeats = repeats + ?, last_repeat_at = ? WHERE evaluation_id = ? AND event = ? RETURNING body"
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


def accept(conn: Connection, arrivals: Sequence[Arrival]) -> list[Taken]:
    """Stores the batch; tells of each, in order, whether it was new."""
    firsts: dict[Key, EventArrival] = {}
    for each in arrivals:
        if isinstance(each, EventArrival):
            firsts.setdefault(each.key, each)
    new = _insert(conn, sorted(firsts.values(), key=_order))
    outcome, repeats, others = [], [], []
    for each in arrivals:
        taken = Taken.NEW
        if isinstance(each, OtherArrival):
            others.append(each)
        elif each.key in new:
            new.remove(each.key)  # the next one with this key is a repeat
        else:
            taken = Taken.REPEAT
            repeats.append(each)
        outcome.append(taken)
    if repeats:
        _count_repeats(conn, repeats)
    if others:
        _set_aside(conn, others)
    return outcome


def _order(arrival: EventArrival) -> tuple[int, str]:
    """The order of keys in every batch, so that two processes with the same events cannot wait for each other."""
    return arrival.evaluation_id.int, arrival.event


def _insert(conn: Connection, arrivals: Sequence[EventArrival]) -> set[Key]:
    """Inserts those whose key is new and returns their keys. No key is there twice."""
    if not arrivals:
        return set()
    if conn.dialect.name == "postgresql":
        columns = tuple(list(column) for column in zip(*arrivals, strict=True))
        return {(key, event) for key, event in conn.exec_driver_sql(_POSTGRES_INSERT, columns)}
    cursor = conn.connection.cursor()
    new = set()
    for evaluation_id, event, body, *rest, received_at in arrivals:
        cursor.execute(_SQLITE_INSERT, (evaluation_id.bytes, event, body, *rest, moment_text(received_at)))
        if cursor.rowcount:
            new.add((evaluation_id, event))
    cursor.close()
    return new


def _count_repeats(conn: Connection, repeats: Iterable[EventArrival]) -> None:
    """Counts each on its row. Bytes that differ from those stored are kept, and the evaluation is to be fetched again."""
    repeats = sorted(repeats, key=_order)
    latest = {each.key: each for each in repeats}
    counts = Counter(each.key for each in repeats)
    stored = _count(conn, [(*key, n, latest[key].received_at) for key, n in counts.items()])
    others = {(each.key, sha256(each.body).digest()): each for each in repeats if each.body != stored[each.key]}
    for (key, digest), each in sorted(others.items(), key=lambda item: item[0]):
        if _insert_other_body(conn, each, digest):
            at_key = (events.c.evaluation_id == key[0], events.c.event == key[1])
            conn.execute(update(events).values(waiting=True).where(*at_key))


def _count(conn: Connection, counts: Sequence[tuple[UUID, str, int, datetime]]) -> dict[Key, bytes]:
    """Adds to the repeats of these keys: how many, and when the last came. Returns the bodies that are stored."""
    if conn.dialect.name == "postgresql":
        columns = tuple(list(column) for column in zip(*counts, strict=True))
        return {(key, event): body for key, event, body in conn.exec_driver_sql(_POSTGRES_COUNT, columns)}
    cursor = conn.connection.cursor()
    stored = {}
    for evaluation_id, event, n, at in counts:
        [(body,)] = cursor.execute(_SQLITE_COUNT, (n, moment_text(at), evaluation_id.bytes, event))
        stored[evaluation_id, event] = body
    cursor.close()
    return stored


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
