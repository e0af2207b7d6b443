"""Genuine callbacks that are no evaluation's event: kept, listed, tried again, discarded."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from sqlalchemy import Connection, Row, select, update

from receiver.core.callback import EvaluationEvent, OtherEvent, origin_of, understand
from receiver.store.intake import EventArrival, accept, clip
from receiver.store.tables import set_aside

Kind = Literal["ignored", "quarantined"]


class Kept(NamedTuple):
    """One body that was set aside. `id` is its SHA-256 in hex; any beginning that fits one alone names it too."""

    id: str
    kind: Kind
    state: Literal["kept", "retried", "discarded"]
    event: str | None
    why: str | None
    body: bytes
    secret_label: str | None
    request_id: str | None
    received_at: datetime
    repeats: int
    last_repeat_at: datetime | None


def listed(conn: Connection, *, kind: Kind = "quarantined", state: str = "kept", limit: int = 100) -> list[Kept]:
    """The newest first."""
    query = select(set_aside).where(set_aside.c.kind == kind, set_aside.c.state == state)
    return [_kept(row) for row in conn.execute(query.order_by(set_aside.c.received_at.desc()).limit(limit))]


def find(conn: Connection, beginning: str) -> list[Kept]:
    """Those whose id begins so, at most two: none, the one, or more than one."""
    lowest = bytes.fromhex(beginning.ljust(64, "0"))
    highest = bytes.fromhex(beginning.ljust(64, "f"))
    return [
        _kept(row)
        for row in conn.execute(select(set_aside).where(set_aside.c.sha256.between(lowest, highest)).limit(2))
    ]


def retry(conn: Connection, ids: Sequence[str]) -> list[Kept]:
    """Reads each body that is kept once more, with what this program understands today; returns those that it does.

    An evaluation's event goes on as if it had just come, under the time when it came.
    """
    understood, others = [], []
    for kept in _by_ids(conn, ids):
        meaning = understand(kept.body)
        if isinstance(meaning, EvaluationEvent):
            arrival = (
                kept.body,
                origin_of(meaning.evaluation_id),
                kept.secret_label,
                kept.request_id,
                kept.received_at,
            )
            accept(conn, [EventArrival(meaning.evaluation_id, meaning.event, *arrival)])
            understood.append(kept)
        elif isinstance(meaning, OtherEvent):
            _change(conn, [kept.id], {"kind": "ignored", "event": clip(meaning.event), "why": None})
            others.append(kept)
    _change(conn, [kept.id for kept in understood], {"state": "retried"})
    return understood + others


def discard(conn: Connection, ids: Sequence[str]) -> int:
    """Takes them off the list; the rows stay, so that a repeat is known as one. Returns how many."""
    return _change(conn, ids, {"state": "discarded"})


def _by_ids(conn: Connection, ids: Sequence[str]) -> list[Kept]:
    digests = [bytes.fromhex(each) for each in ids]
    query = select(set_aside).where(set_aside.c.sha256.in_(digests), set_aside.c.state == "kept")
    return [_kept(row) for row in conn.execute(query)]


def _change(conn: Connection, ids: Sequence[str], values: dict[str, object]) -> int:
    digests = [bytes.fromhex(each) for each in ids]
    changed = update(set_aside).where(set_aside.c.sha256.in_(digests), set_aside.c.state == "kept").values(values)
    return conn.execute(changed).rowcount


def _kept(row: Row[tuple[object, ...]]) -> Kept:
    values = row._asdict()
    return Kept(id=values.pop("sha256").hex(), **values)
