"""Where a sink keeps together what is about the same: one `client_ref`, or one evaluation that has none."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, select

from receiver.core.matching import compared
from receiver.core.verdict import Verdict
from receiver.store.intake import upsert
from receiver.store.tables import threads


def subject_of(verdict: Verdict) -> str:
    """What it is about, so that another verdict about the same follows it."""
    return compared(verdict.client_ref or "") or str(verdict.evaluation_id)


def of(conn: Connection, sink: str, subjects: Sequence[str], *, since: datetime) -> dict[str, str]:
    """The threads of these subjects that were begun at `since` or later."""
    query = select(threads.c.subject, threads.c.thread).where(
        threads.c.sink == sink, threads.c.subject.in_(subjects), threads.c.begun_at >= since
    )
    return {row.subject: row.thread for row in conn.execute(query)}


class Begun(NamedTuple):
    """A thread that was begun in place of `ended`, which takes no more; None: in place of none."""

    thread: str
    ended: str | None


def begin(conn: Connection, sink: str, begun: Mapping[str, Begun], *, now: datetime, since: datetime) -> None:
    """Notes a thread for each of these subjects, and forgets those of the sink that were begun before `since`.

    Where two processes began one for the same subject at once, the first that was noted stays.
    """
    conn.execute(delete(threads).where(threads.c.sink == sink, threads.c.begun_at < since))
    rows = [
        {
            "sink": sink,
            "subject": subject,
            "thread": begun[subject].thread,
            "begun_at": now,
            "ended": begun[subject].ended,
        }
        for subject in sorted(begun)
    ]
    made = upsert(conn)(threads)
    newest = {"thread": made.excluded.thread, "begun_at": made.excluded.begun_at}
    made = made.on_conflict_do_update(
        index_elements=[threads.c.sink, threads.c.subject],
        set_=newest,
        where=threads.c.thread == bindparam("ended", type_=threads.c.thread.type),
    )
    conn.execute(made, rows)
