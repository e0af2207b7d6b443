"""Whether every event is accounted for. Read in pages, in order of ids, so that any size takes constant memory."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import Connection, Select, Table, and_, case, exists, func, literal, or_, select, tuple_

from receiver.store.lanes import FETCH, sink_lane, troubled
from receiver.store.outbox import STATES
from receiver.store.tables import DEAD, deliveries, events, fetches, revisions, set_aside, verdicts

PAGE = 1000
MOST_NAMED = 20


class SinkBooks(NamedTuple):
    """One sink: what was due to it, and its deliveries by state."""

    sink: str
    due: int
    by_state: dict[str, int]

    @property
    def adds_up(self) -> bool:
        """Whether each that was due is in exactly one state."""
        return self.due == sum(self.by_state.values())


class Books(NamedTuple):
    """The whole account. `exceptions` names what does not add up and what will not go on by itself, a line each.

    `unaccounted` is how many of those lines name something that is missing.
    """

    events: int
    evaluations: int
    verdicts: int
    waiting: int
    quarantined: int
    sinks: list[SinkBooks]
    exceptions: list[str]
    unaccounted: int

    @property
    def adds_up(self) -> bool:
        """Whether nothing is unaccounted for."""
        agree = self.evaluations == self.verdicts + self.waiting and all(sink.adds_up for sink in self.sinks)
        return agree and not self.unaccounted


def audit(conn: Connection, sinks: Sequence[str]) -> Books:
    """The account as it stands. `sinks` are those configured now."""
    event_count, evaluation_count = _events(conn)
    waiting, lost = _waiting(conn)
    missing = [f"evaluation {key}: its event is stored, but neither a verdict nor a fetch" for key in lost]
    missing += [f"evaluation {key}: its verdict is stored, but no event" for key in conn.scalars(_eventless())]
    missing += _undelivered(conn)
    books = _sinks(conn)
    return Books(
        events=event_count,
        evaluations=evaluation_count,
        verdicts=_count(conn, select(verdicts.c.evaluation_id).where(verdicts.c.revision > 0, _HAS_EVENT)),
        waiting=waiting,
        quarantined=_count(conn, select(set_aside.c.sha256).where(*_IN_QUARANTINE)),
        sinks=books,
        exceptions=[*missing, *_stuck(conn, books, sinks), *_paused(conn, sinks)],
        unaccounted=len(missing),
    )


_HAS_EVENT = exists().where(events.c.evaluation_id == verdicts.c.evaluation_id)
_IN_QUARANTINE = (set_aside.c.kind == "quarantined", set_aside.c.state == "kept")


def _events(conn: Connection) -> tuple[int, int]:
    both = conn.execute(select(func.count(), func.count(events.c.evaluation_id.distinct()))).one()
    return both[0], both[1]


def _waiting(conn: Connection) -> tuple[int, list[UUID]]:
    """Evaluations without a released verdict: how many go on by themselves, and the ids of those that do not."""
    is_fetched = and_(verdicts.c.revision == 0, or_(fetches.c.due_at.is_not(None), fetches.c.hold_until.is_not(None)))
    goes_on = func.max(case((or_(events.c.waiting, is_fetched), 1), else_=0))
    unreleased = (
        select(events.c.evaluation_id)
        .outerjoin(verdicts, verdicts.c.evaluation_id == events.c.evaluation_id)
        .outerjoin(fetches, fetches.c.evaluation_id == events.c.evaluation_id)
        .where(or_(verdicts.c.revision == 0, verdicts.c.revision.is_(None)))
        .group_by(events.c.evaluation_id)
    )
    return _count(conn, unreleased.having(goes_on == 1)), list(conn.scalars(unreleased.having(goes_on == 0)))


def _eventless() -> Select[tuple[UUID]]:
    return select(verdicts.c.evaluation_id).where(~_HAS_EVENT)


def _stuck(conn: Connection, books: Sequence[SinkBooks], configured: Sequence[str]) -> Iterator[str]:
    """What will not be delivered unless somebody sees to it."""
    for sink in books:
        unended = sink.by_state["pending"] + sink.by_state["leased"]
        if sink.sink not in configured and unended:
            yield f"sink {sink.sink}: is not configured any more, {unended} deliveries wait for it"
        if sink.by_state["dead"]:
            dead = select(deliveries.c.id).where(DEAD, deliveries.c.sink == sink.sink).order_by(deliveries.c.id)
            ids = ", ".join(str(each) for each in conn.scalars(dead.limit(MOST_NAMED)))
            more = " …" if sink.by_state["dead"] > MOST_NAMED else ""
            yield f"sink {sink.sink}: {sink.by_state['dead']} dead letters, deliveries {ids}{more}"


def _paused(conn: Connection, configured: Sequence[str]) -> Iterator[str]:
    in_use = {FETCH, *(sink_lane(sink) for sink in configured)}
    for lane in troubled(conn):
        if lane.name in in_use:
            yield f"{lane.name.replace(':', ' ')}: paused, {lane.reason}"


def _sinks(conn: Connection) -> list[SinkBooks]:
    due: Counter[str] = Counter()
    for _, _, sinks in _dues(conn):
        due.update(sinks)
    states: dict[str, Counter[str]] = {}
    by = (deliveries.c.sink, deliveries.c.state)
    for sink, state, count in conn.execute(select(*by, func.count()).group_by(*by)):
        states.setdefault(sink, Counter())[state] += count
    replays = select(deliveries.c.sink, func.count()).where(deliveries.c.replay_id != "").group_by(deliveries.c.sink)
    for sink, count in conn.execute(replays):
        due[sink] += count
    return [
        SinkBooks(sink, due[sink], {state: states.get(sink, Counter())[state] for state in STATES})
        for sink in sorted(due | Counter(dict.fromkeys(states, 1)))
    ]


def _undelivered(conn: Connection) -> Iterator[str]:
    """Revisions that were due to a sink and have no delivery for it."""
    for chunk in _chunks(_dues(conn)):
        ids = {key for key, _, _ in chunk}
        query = select(deliveries.c.evaluation_id, deliveries.c.revision, deliveries.c.sink).where(
            deliveries.c.evaluation_id.in_(ids), deliveries.c.replay_id == ""
        )
        there = {tuple(row) for row in conn.execute(query)}
        for key, revision, sinks in chunk:
            for sink in sinks:
                if (key, revision, sink) not in there:
                    yield f"evaluation {key}: revision {revision} was due to sink {sink}, and there is no delivery"


def _dues(conn: Connection) -> Iterator[tuple[UUID, int, list[str]]]:
    """Each released revision, and the sinks it was due to."""
    for table in (verdicts, revisions):
        for key, revision, due_to in _paged(conn, table):
            yield key, revision, orjson.loads(due_to)


def _paged(conn: Connection, table: Table) -> Iterator[Any]:
    position = (table.c.evaluation_id, table.c.revision)
    query: Select[Any] = select(*position, table.c.due_to).where(table.c.due_to != "[]").order_by(*position).limit(PAGE)
    rows = conn.execute(query).all()
    while rows:
        yield from rows
        last = rows[-1]
        # As one value: with `or` each page would begin at the start of the index.
        end = (literal(value, column.type) for value, column in zip(last[:2], position, strict=True))
        later = tuple_(*position) > tuple_(*end)
        rows = conn.execute(query.where(later)).all()


def _chunks(items: Iterator[Any]) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == PAGE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _count(conn: Connection, query: Select[Any]) -> int:
    return int(conn.execute(select(func.count()).select_from(query.subquery())).scalar_one())
