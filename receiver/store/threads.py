"""Where a sink keeps together what is about the same: one `client_ref`, or one evaluation that has none."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, select

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


def begin(conn: Connection, sink: str, begun: Mapping[str, str], *, now: datetime, since: datetime) -> None:
    """Notes a thread for each of these subjects, and forgets those of the sink that were begun before `since`."""
    conn.execute(delete(threads).where(threads.c.sink == sink, threads.c.begun_at < since))
    rows = [{"sink": sink, "subject": subject, "thread": begun[subject], "begun_at": now} for subject in sorted(begun)]
    made = upsert(conn)(threads)
    newest = {"thread": made.excluded.thread, "begun_at": made.excluded.begun_at}
    conn.execute(made.on_conflict_do_update(index_elements=[threads.c.sink, threads.c.subject], set_=newest), rows)
