"""Hours that are over, each with the tallies of the verdicts that arrived in it: figures over months read no verdict.

An hour is rolled up when it has been over for `QUIET`, and again when something about its verdicts changed later and nothing
has changed for `QUIET`. Whoever changes something about a verdict that arrived earlier notes it, in the same transaction, with
`note_late`, as a row of its own, so that nobody waits for anybody. Until it is rolled up again, the hour is read from the rows.

Within the hour and `LATE` after it nothing need be noted, for it cannot have been rolled up: between the two there is more
time than any transaction takes.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, delete, distinct, func, literal, select, update

from receiver.core.tallies import Tallies, add, as_lists, from_lists
from receiver.store.intake import upsert
from receiver.store.rows import insert_rows
from receiver.store.tables import changed_hours, deliveries, hours, verdicts
from receiver.store.tallying import DIMENSIONS, Dimension, Key, arrived, tally

HOUR = timedelta(hours=1)
QUIET = timedelta(minutes=15)
LATE = timedelta(minutes=5)
MOST_LABELS = 200
"""An hour with more different `client_ref` than this is not rolled up by them: its tallies would be as large as its rows."""

ROLLED: Mapping[str, tuple[Dimension, ...]] = {
    "everything": (),
    "by_task_type": ("task_type",),
    "by_model_id": ("task_type", "model_id"),
    "by_client_ref": DIMENSIONS,
}
"""The columns of `hours`, and the dimensions that each has."""


class Rolled(NamedTuple):
    """An hour's tallies on their way into the database. `version` and `noted` tell what they were made from."""

    hour: datetime
    version: int | None
    noted: Sequence[int]
    contents: Mapping[str, bytes | None]


def hour_of(moment: datetime) -> datetime:
    """The hour that it is in, in UTC."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def note_late(conn: Connection, arrivals: Iterable[datetime], now: datetime) -> None:
    """Notes that something about verdicts that arrived at these times has changed, where their hour may be rolled up."""
    late = {hour_of(at) for at in arrivals if hour_of(at) + HOUR + LATE <= now}
    insert_rows(conn, changed_hours, [{"hour": hour, "at": now} for hour in sorted(late)])


def note_late_deliveries(conn: Connection, ids: Sequence[int], now: datetime) -> None:
    """The same of the verdicts of these deliveries."""
    joined = deliveries.join(verdicts, verdicts.c.evaluation_id == deliveries.c.evaluation_id)
    arrivals = select(verdicts.c.received_at).distinct().select_from(joined).where(deliveries.c.id.in_(ids))
    note_late(conn, conn.execute(arrivals).scalars(), now)


def to_roll_up(conn: Connection, now: datetime, *, limit: int) -> list[datetime]:
    """Hours that are to be rolled up: those that changed, and those that are over, the newest first."""
    newest_note = func.max(changed_hours.c.at)
    quiet = newest_note <= literal(now - QUIET, changed_hours.c.at.type)
    changed = select(changed_hours.c.hour).group_by(changed_hours.c.hour).having(quiet).limit(limit)
    found = list(conn.execute(changed).scalars())
    return list(dict.fromkeys([*found, *_missing(conn, now, limit)]))[:limit]


def _missing(conn: Connection, now: datetime, limit: int) -> list[datetime]:
    first: datetime | None = conn.execute(select(func.min(verdicts.c.received_at))).scalar_one()
    end = hour_of(now - QUIET)
    if first is None or hour_of(first) >= end:
        return []
    begin = hour_of(first)
    there = hours.c.hour.between(literal(begin, hours.c.hour.type), literal(end - HOUR, hours.c.hour.type))
    number: int = conn.execute(select(func.count()).select_from(hours).where(there)).scalar_one()
    if number == (end - begin) // HOUR:
        return []
    known = set(conn.execute(select(hours.c.hour).where(there)).scalars())
    missing: list[datetime] = []
    hour = end - HOUR
    while hour >= begin and len(missing) < limit:
        if hour not in known:
            missing.append(hour)
        hour -= HOUR
    return missing


def roll_up(conn: Connection, hour: datetime) -> Rolled:
    """Reads an hour's verdicts; `keep` writes what was found."""
    version = conn.scalar(select(hours.c.version).where(hours.c.hour == hour))
    noted = conn.execute(select(changed_hours.c.id).where(changed_hours.c.hour == hour)).scalars().all()
    labels = select(func.count(distinct(verdicts.c.client_ref))).where(arrived(hour, hour + HOUR))
    by_label = conn.execute(labels).scalar_one() <= MOST_LABELS
    finest = tally(conn, hour, hour + HOUR, DIMENSIONS if by_label else ROLLED["by_model_id"])
    contents = {name: packed(added_up([finest], name)) for name in ROLLED}
    if not by_label:
        return Rolled(hour, version, noted, {**contents, "by_client_ref": None})
    return Rolled(hour, version, noted, contents)


def keep(conn: Connection, rolled: Rolled) -> bool:
    """Writes an hour's tallies. False, and nothing done, where another process did so meanwhile.

    What was noted after they were made stays noted, so that they are not used.
    """
    if rolled.version is None:
        made = upsert(conn)(hours).values(hour=rolled.hour, version=1, **rolled.contents)
        written = conn.execute(made.on_conflict_do_nothing())
    else:
        same = (hours.c.hour == rolled.hour, hours.c.version == rolled.version)
        values = {"version": rolled.version + 1, **rolled.contents}
        written = conn.execute(update(hours).where(*same).values(values))
    if not written.rowcount:
        return False
    if rolled.noted:
        conn.execute(delete(changed_hours).where(changed_hours.c.id.in_(rolled.noted)))
    return True


def right(conn: Connection, since: datetime, until: datetime, column: str) -> dict[datetime, int]:
    """The hours of this time whose tallies in that column are right, in their order, and the version of each."""
    query = select(hours.c.hour, hours.c.version).where(
        *_within(since, until, column), hours.c.hour.not_in(select(changed_hours.c.hour))
    )
    return dict(conn.execute(query.order_by(hours.c.hour)).all())


def contents(conn: Connection, since: datetime, until: datetime, column: str) -> dict[datetime, bytes]:
    """The hours of this time, and what that column holds of each."""
    query = select(hours.c.hour, hours.c[column]).where(*_within(since, until, column))
    return dict(conn.execute(query).all())


def _within(since: datetime, until: datetime, column: str) -> Sequence[ColumnElement[bool]]:
    return (
        hours.c.hour >= literal(since, hours.c.hour.type),
        hours.c.hour < literal(until, hours.c.hour.type),
        hours.c[column].is_not(None),
    )


def added_up(of: Iterable[Mapping[Key, Tallies]], column: str) -> dict[Key, Tallies]:
    """All of them together, by the dimensions of that column alone, which are the first of theirs."""
    dimensions = len(ROLLED[column])
    found: dict[Key, Tallies] = {}
    for tallies in of:
        for key, each in tallies.items():
            add(found.setdefault(key[:dimensions], {}), each)
    return found


def packed(tallies: Mapping[Key, Tallies]) -> bytes:
    """As a column holds it."""
    return zlib.compress(orjson.dumps([[key, as_lists(each)] for key, each in tallies.items()]))


def unpacked(content: bytes) -> dict[Key, Tallies]:
    """What a column holds."""
    pairs: list[Any] = orjson.loads(zlib.decompress(content))
    return {tuple(key): from_lists(lists) for key, lists in pairs}
