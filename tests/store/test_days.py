"""Days that are added up once and held in memory: what they know, when they forget, and that figures stay right."""

from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest
from sqlalchemy import Connection

from receiver.store import days as module
from receiver.store import hours, stats
from receiver.store.database import Database
from receiver.store.days import DAY, Day, Days, day_of, whole_days
from receiver.store.hours import HOUR, QUIET, packed, unpacked
from receiver.store.stats import Bucket, Question
from receiver.store.tallying import Dimension
from tests.store.building import NOW, fetched_again, released
from tests.store.test_stats import described, rolled_up

START = day_of(NOW)
HOURS = {START + number * HOUR: 1 for number in range(24)}
ONE = packed({("a",): {"score": {0.5: 1}}})


def day(number: int = 0, version: int = 1) -> Day:
    """A day of which all hours were rolled up so often."""
    return Day("by_task_type", START + number * DAY, (version,) * 24)


def test_whole_days() -> None:
    """A day is whole if each of its 24 hours is there; their versions tell it from what it was."""
    assert whole_days("by_task_type", {}) == []
    assert whole_days("by_task_type", HOURS) == [day()]
    assert whole_days("by_task_type", dict(list(HOURS.items())[1:])) == []
    two = {**HOURS, **{hour + DAY: 1 for hour in HOURS}, START + 2 * DAY: 1}
    assert whole_days("by_task_type", two) == [day(), day(1)]
    [changed] = whole_days("by_task_type", {**HOURS, START + 5 * HOUR: 2})
    assert changed.versions == (1,) * 5 + (2,) + (1,) * 18
    assert changed.hours == list(HOURS)


def test_learn() -> None:
    """The hours together, and known from then on: by this column and these versions alone."""
    days = Days()
    assert days.known(day()) is None
    more = packed({("a",): {"score": {0.5: 2, None: 1}}, ("b",): {"score": {1.0: 1}}})
    tallies = days.learn(day(), [ONE, more])
    assert tallies == {("a",): {"score": {0.5: 3, None: 1}}, ("b",): {"score": {1.0: 1}}}
    assert (content := days.known(day())) is not None
    assert unpacked(content) == tallies
    assert days.learn(day(), []) == content  # known already, so it is not added up again
    assert days.known(day(version=2)) is None
    assert days.known(day()._replace(column="by_model_id")) is None


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In so many bytes; those asked about longest ago are forgotten, and one that is larger than all is not held."""
    monkeypatch.setattr(module, "MOST_BYTES", 2 * len(ONE))
    days = Days()
    for number in range(2):
        days.learn(day(number), [ONE])
    assert days.known(day(0))
    days.learn(day(2), [ONE])
    assert [days.known(day(number)) is not None for number in range(3)] == [True, False, True]
    many = packed({("a",): {"score": {number / 997: number for number in range(200)}}})
    assert days.learn(day(3), [many]) == unpacked(many)
    assert days.known(day(3)) is None


SINCE, UNTIL = NOW - DAY, NOW + 4 * DAY
ODD = SINCE + timedelta(minutes=7), NOW + 2 * DAY
BUCKETS: tuple[Bucket | None, ...] = (None, "day")
GROUPS: tuple[Dimension | None, ...] = (None, "task_type", "client_ref")
QUESTIONS = [
    *(
        Question(*span, bucket, group)
        for span, bucket, group in product([(SINCE, UNTIL), ODD, (START + DAY, START + 2 * DAY)], BUCKETS, GROUPS)
    ),
    Question(*ODD, "hour", "task_type"),  # no day answers it
]


@pytest.fixture
async def _three_days(database: Database) -> None:
    """Verdicts of five days in a row, three of them whole."""
    for number in range(30):
        at = NOW + number * 3 * HOUR
        more: dict[str, Any] = {
            "task_type": "ad" if number % 3 else None,
            "client_ref": f"ref-{number % 4}",
            "cost": "0.1",
        }
        await released(database, number, now=at, overall_passed=bool(number % 2), **more)


async def asked(database: Database, days: Days) -> list[object]:
    """What is said to each question."""
    return [described(stats.add_up(each, await database.read(stats.gather, each, days), days)) for each in QUESTIONS]


@pytest.mark.usefixtures("_three_days")
async def test_the_same_figures(database: Database) -> None:
    """Out of the rows, of hours, of days that are being learnt and of those that are known; also after a late change."""
    days = Days()
    rows = await asked(database, days)
    await rolled_up(database, UNTIL)
    for _ in range(2):
        assert await asked(database, days) == rows
    await fetched_again(database, 12, now=UNTIL, overall_passed=True)
    changed = await asked(database, days)
    assert changed == await asked(database, Days()) != rows
    await rolled_up(database, UNTIL + QUIET)
    for _ in range(2):
        assert await asked(database, days) == changed


@pytest.mark.usefixtures("_three_days")
async def test_what_is_read(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day that is known is not read again, but its neighbours are; where hours are asked for, hours are read."""
    contents, read = hours.contents, []

    def counting(conn: Connection, since: datetime, until: datetime, column: str) -> dict[datetime, bytes]:
        found = contents(conn, since, until, column)
        read.append(len(found))
        return found

    monkeypatch.setattr(hours, "contents", counting)
    await rolled_up(database, UNTIL)
    days, question = Days(), Question(SINCE, UNTIL, "day")
    for _ in range(2):
        stats.add_up(question, await database.read(stats.gather, question, days), days)
    assert read == [10 + 3 * 24 + 13, 10, 13]
    await database.read(stats.gather, question._replace(bucket="hour"), days)
    assert read[3:] == [10 + 3 * 24 + 13]
