"""What many verdicts say together: out of the hours that are rolled up, and out of the rows where an hour is not."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from sqlalchemy import Connection, func, select

from receiver.core.matching import as_text, compared
from receiver.core.tallies import Tallies, add
from receiver.errors import FieldProblem, Invalid
from receiver.store import hours
from receiver.store.days import Day, Days, whole_days
from receiver.store.hours import HOUR, ROLLED, hour_of, unpacked
from receiver.store.tables import verdicts
from receiver.store.tallying import DIMENSIONS, Dimension, Key, arrived, tally

Bucket = Literal["hour", "day"]
MOST_CELLS: Final = 2_000
"""Of buckets times groups."""
MOST_GROUPS: Final = 100
MOST_BY_LABEL: Final = 20_000
"""Verdicts that are read one by one when the question is by `client_ref`, of which there may be as many as verdicts."""


class Question(NamedTuple):
    """Verdicts that arrived from `since` on and before `until`; `wanted` are values of dimensions, `"null"` for none."""

    since: datetime
    until: datetime
    bucket: Bucket | None = None
    group: Dimension | None = None
    wanted: Mapping[Dimension, tuple[str, ...]] = MappingProxyType({})

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """Those that the answer depends on, and the ones before them: tallies are kept so."""
        needed = [DIMENSIONS.index(name) for name in (*self.wanted, *([self.group] if self.group else []))]
        return DIMENSIONS[: max(needed, default=-1) + 1]


class Cell(NamedTuple):
    """One bucket (the whole time where there are none) of one group (None where there are none, or for no value)."""

    start: datetime
    end: datetime
    group: str | None
    tallies: Tallies


class Piece(NamedTuple):
    """Tallies of a whole day, or of at most an hour, with a moment in it; as they are kept, or as they were made of rows."""

    at: datetime
    content: bytes | dict[Key, Tallies]


class Gathered(NamedTuple):
    """What there is to add up: pieces, and days that are not known yet, with what is kept of their hours."""

    pieces: list[Piece]
    unknown: list[tuple[Day, list[bytes]]]


class Answer(NamedTuple):
    """Cells by time, and the largest groups first. What is beyond `MOST_GROUPS` and `MOST_CELLS` is only counted."""

    cells: list[Cell]
    groups_left_out: int
    verdicts_left_out: int


def step_of(bucket: Bucket) -> timedelta:
    """How long a bucket is."""
    return HOUR if bucket == "hour" else timedelta(days=1)


def buckets(question: Question) -> list[tuple[datetime, datetime]]:
    """Begins and ends; the first and the last are cut where the time is."""
    if question.bucket is None:
        return [(question.since, question.until)]
    step = step_of(question.bucket)
    start = hour_of(question.since)
    if question.bucket == "day":
        start = start.replace(hour=0)
    starts = [start]
    while starts[-1] + step < question.until:
        starts.append(starts[-1] + step)
    return [(max(each, question.since), min(each + step, question.until)) for each in starts]


def gather(conn: Connection, question: Question, days: Days) -> Gathered:
    """What there is to add up. Raises `Invalid` where too many verdicts would have to be read one by one."""
    dimensions = question.dimensions
    [column] = [name for name, having in ROLLED.items() if having == dimensions]
    first, last = hour_of(question.since + HOUR - timedelta.resolution), hour_of(question.until)
    right = hours.right(conn, first, last, column)
    whole = [] if question.bucket == "hour" else whole_days(column, right)
    known = {day: content for day in whole if (content := days.known(day)) is not None}
    done = {hour for day in known for hour in day.hours}
    read: dict[datetime, bytes] = {}
    for since, until in _spans(hour for hour in right if hour not in done):
        read |= hours.contents(conn, since, until, column)
    missing = list(_missing(conn, question, done | read.keys()))
    if "client_ref" in dimensions:
        _refuse_too_many(conn, missing)
    unknown = [
        (day, [read.pop(hour) for hour in day.hours])
        for day in whole
        if day not in known and all(hour in read for hour in day.hours)
    ]
    pieces = [Piece(day.start, content) for day, content in known.items()]
    pieces += [Piece(hour, content) for hour, content in read.items()]
    pieces += [Piece(since, tally(conn, since, until, dimensions)) for since, until in missing]
    return Gathered(pieces, unknown)


def _spans(hours: Iterable[datetime]) -> list[tuple[datetime, datetime]]:
    """From when until when: hours that follow each other are one span."""
    spans: list[tuple[datetime, datetime]] = []
    for hour in hours:
        follows = bool(spans) and spans[-1][1] == hour
        since = spans.pop()[0] if follows else hour
        spans.append((since, hour + HOUR))
    return spans


def add_up(question: Question, gathered: Gathered, days: Days) -> Answer:
    """Adds it up, which over months takes a while: not for the event loop."""
    found: dict[tuple[int, str | None], Tallies] = {}
    spans = buckets(question)
    learnt = [Piece(day.start, days.learn(day, contents)) for day, contents in gathered.unknown]
    for at, content in gathered.pieces + learnt:
        number = _bucket_of(at, question, spans)
        for key, each in (unpacked(content) if isinstance(content, bytes) else content).items():
            if not _is_wanted(key, question):
                continue
            cell = number, _group_of(key, question)
            if cell in found:
                add(found[cell], each)
            else:  # made for this answer alone, so it need not be copied
                found[cell] = each
    return _cells(found, spans, question)


def _bucket_of(at: datetime, question: Question, spans: Sequence[tuple[datetime, datetime]]) -> int:
    if question.bucket is None:
        return 0
    step = step_of(question.bucket)
    return 0 if at < spans[0][1] else (at - spans[0][1]) // step + 1


def _missing(conn: Connection, question: Question, done: set[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """The hours, and parts of hours at both ends, that are not rolled up."""
    which, at = arrived(question.since, question.until), verdicts.c.received_at
    first = conn.scalar(select(at).where(which).order_by(at).limit(1))
    last = conn.scalar(select(at).where(which).order_by(at.desc()).limit(1))
    if first is None or last is None:
        return
    hour = hour_of(first)
    while hour <= last:
        if hour not in done or hour < question.since or hour + HOUR > question.until:
            yield max(hour, question.since), min(hour + HOUR, question.until)
        hour += HOUR


def _refuse_too_many(conn: Connection, missing: Sequence[tuple[datetime, datetime]]) -> None:
    number = 0
    for since, until in missing:
        number += conn.execute(select(func.count()).where(arrived(since, until))).scalar_one()
        if number > MOST_BY_LABEL:
            problem = (
                f"client_ref: more than {MOST_BY_LABEL:,} verdicts of this time have too many different labels;"
                " narrow it with since and until"
            )
            raise Invalid([FieldProblem("group", problem)])


def _is_wanted(key: Key, question: Question) -> bool:
    return all(
        compared(as_text(key[DIMENSIONS.index(name)])) in map(compared, values)
        for name, values in question.wanted.items()
    )


def _group_of(key: Key, question: Question) -> str | None:
    return None if question.group is None else key[DIMENSIONS.index(question.group)]


def _cells(
    found: dict[tuple[int, str | None], Tallies], spans: Sequence[tuple[datetime, datetime]], question: Question
) -> Answer:
    sizes: dict[str | None, int] = {}
    for (_, group), tallies in found.items():
        sizes[group] = sizes.get(group, 0) + _size(tallies)
    if question.group is None:  # each bucket is there, also an empty one
        found = {(number, None): found.get((number, None), {}) for number in range(len(spans))}
    ranked = sorted(sizes, key=lambda group: (-sizes[group], group is None, group or ""))
    shown = ranked[: min(MOST_GROUPS, max(MOST_CELLS // len(spans), 1))] if question.group else [None]
    places = {group: place for place, group in enumerate(shown)}
    cells = [
        Cell(*spans[number], group, tallies)
        for (number, group), tallies in sorted(found.items(), key=lambda item: (item[0][0], places.get(item[0][1], -1)))
        if group in places
    ]
    left_out = [group for group in ranked if group not in places]
    return Answer(cells, len(left_out), sum(sizes[group] for group in left_out))


def _size(tallies: Tallies) -> int:
    return sum(tallies.get("overall_passed", {}).values())
