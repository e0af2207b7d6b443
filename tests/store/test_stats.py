"""Figures about many verdicts: the same out of the rows and out of the hours that are rolled up, whatever happens meanwhile."""

import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from receiver.core.routing import Route
from receiver.core.statistics import statistics
from receiver.core.verdict import Issue, Judge
from receiver.errors import Invalid
from receiver.store import hours, outbox, outbox_desk, stats
from receiver.store.database import Database
from receiver.store.days import Days
from receiver.store.hours import HOUR, QUIET
from receiver.store.outbox import Settled
from receiver.store.outbox_desk import DeliveryFilter
from receiver.store.stats import Answer, Question
from receiver.store.tables import changed_hours
from receiver.store.tables import hours as hours_table
from tests.store.building import (
    ALL,
    NOW,
    SAMPLE,
    SECOND,
    accepted,
    arrival,
    claimed,
    fetched_again,
    finished,
    key,
    released,
    stage,
    staged,
    taken,
)  # fmt: skip
from tests.store.places import rows

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
LONG_AFTER = NOW + 3 * DAY


def described(answer: Answer) -> list[Any]:
    """Every cell with its figures."""
    cells = [(cell.start, cell.end, cell.group, statistics(cell.tallies).model_dump()) for cell in answer.cells]
    return [cells, answer.groups_left_out, answer.verdicts_left_out]


async def answered(database: Database, question: Question) -> Answer:
    """Of days that are not known yet, and, the same again, of those that were just learnt."""
    days = Days()
    first, again = [stats.add_up(question, await database.read(stats.gather, question, days), days) for _ in range(2)]
    assert described(first) == described(again)
    return again


async def asked(database: Database, *questions: Question) -> list[Any]:
    """The figures of each."""
    return [described(await answered(database, each)) for each in questions]


async def rolled_up(database: Database, now: Any) -> int:
    """Rolls up all there is to roll up."""
    number = 0
    while due := await database.read(hours.to_roll_up, now, limit=7):
        for hour in due:
            assert await database.write(hours.keep, await database.read(hours.roll_up, hour))
        number += len(due)
    return number


async def months(database: Database, number: int = 24) -> None:
    """Verdicts of many kinds within nine hours, most of them delivered, a few pending, one a sample."""
    luck = random.Random(7)
    for n in range(number):
        at = NOW + luck.randrange(9 * 60) * MINUTE
        if n % 8 == 7:
            await staged(database, n, now=at)
            continue
        score = luck.choice([0.25, 0.5, 0.70001, 1.0, None])
        await staged(database, n, now=at, client_ref=f"ref-{n % 5}")
        fetched = await claimed(database, now=at)
        judges = [Judge(name=name, passed=luck.choice([True, False, None])) for name in ("Light", "Face", "Hands")]
        issues = [
            Issue(judge="Face", category=luck.choice(["face", "light"]), subcategory=luck.choice(["a", None]))
        ] * 2
        await finished(
            database, [fetched[key(n)]], now=at + luck.randrange(300_000) * SECOND / 1000, routes=(ALL, Route("b")),
            task_type=luck.choice(["headshot", "ad", None]), model_id=luck.choice(["m1", "m2"]), weighted_pass_rate=score,
            overall_passed=luck.choice([True, False, None]), cost=luck.choice(["0.05", "1.250", None]), judges=judges,
            issues=issues, failure_code=luck.choice([None, "timed_out"]),
        )  # fmt: skip
        for sink in ("all", "b"):
            sent = await taken(database, sink, now=at + HOUR)
            ended = [
                Settled(it.id, it.claim, "delivered", ended_at=it.created_at + luck.randrange(9) * SECOND)
                for it in sent
            ]
            await database.write(outbox.settle, ended)
    await accepted(database, arrival(SAMPLE))
    await stage(database)


QUESTIONS = [
    Question(NOW - DAY, NOW + DAY),
    Question(NOW + 31 * MINUTE, NOW + 5 * HOUR + 7 * MINUTE),
    Question(NOW - DAY, NOW + DAY, "hour"),
    Question(NOW - 90 * MINUTE, NOW + 10 * HOUR + MINUTE, "day", "task_type"),
    Question(NOW, NOW + 9 * HOUR, "hour", "model_id"),
    Question(NOW, NOW + 9 * HOUR, None, "client_ref"),
    Question(NOW, NOW + 9 * HOUR, None, "model_id", {"task_type": ("headshot", "null")}),
    Question(NOW, NOW + 9 * HOUR, "hour", None, {"model_id": ("m1",)}),
    Question(NOW + 5 * MINUTE, NOW + 6 * MINUTE, "hour", "client_ref", {"task_type": ("ad",)}),
]


async def test_rolled_up_and_not(database: Database) -> None:
    """What is said of all rows is said again when all hours, or some, are rolled up."""
    await months(database)
    before = await asked(database, *QUESTIONS)
    assert before[0][0][0][3]["total"] == 24
    due = await database.read(hours.to_roll_up, LONG_AFTER, limit=99)
    for hour in due[::2]:
        await database.write(hours.keep, await database.read(hours.roll_up, hour))
    assert await asked(database, *QUESTIONS) == before
    await rolled_up(database, LONG_AFTER)
    assert len(await database.read(rows, hours_table, "hour")) >= 9
    assert await asked(database, *QUESTIONS) == before


async def test_counted_one_by_one(database: Database) -> None:
    """The figures are those that counting by hand gives."""
    same: dict[str, Any] = {"task_type": "headshot", "model_id": "m1", "cost": "0.1"}
    await released(database, 1, 2, now=NOW, **same, overall_passed=True, weighted_pass_rate=0.9)
    await released(database, 3, now=NOW + HOUR, **same | {"cost": None}, overall_passed=False, weighted_pass_rate=0.2)
    [[[cell], *_]] = await asked(database, Question(NOW, NOW + DAY))
    found = cell[3]
    assert (found["total"], found["passed"], found["failed"], found["pass_rate"]) == (3, 2, 1, 0.666667)
    assert found["cost"] == {"total": "0.2", "known": 2, "unknown": 1, "per_pass": "0.100000"}
    assert (found["score"]["p10"], found["score"]["p90"], found["score"]["count"]) == (0.2, 0.9, 3)
    assert found["judges"] == [{"name": "Identity", "opinions": 3, "failed": 3, "fail_rate": 1.0}]
    assert found["issue_categories"] == [{"category": "identity", "evaluations": 3}]
    assert found["by_tree"] == {"complete": 3}
    assert found["by_event"] == {"evaluation.completed": 3}


async def test_an_issue_twice_is_one_evaluation(database: Database) -> None:
    """Issues are counted by the evaluations that have them, in each category and in each subcategory."""
    found = [Issue(category="face", subcategory=each) for each in ("eyes", "eyes", "mouth")]
    await released(database, 1, issues=found)
    [[[cell], *_]] = await asked(database, Question(NOW, NOW + DAY))
    assert cell[3]["issue_categories"] == [{"category": "face", "evaluations": 1}]
    assert [(each["subcategory"], each["evaluations"]) for each in cell[3]["issue_subcategories"]] == [
        ("eyes", 1),
        ("mouth", 1),
    ]


async def test_samples_are_left_out(database: Database) -> None:
    """A sample is in no figure."""
    await accepted(database, arrival(SAMPLE))
    await stage(database)
    [[[cell], *_]] = await asked(database, Question(NOW - DAY, NOW + DAY))
    assert cell[3]["total"] == 0


async def total(database: Database, **more: Any) -> Counter[str]:
    answer = await answered(database, Question(NOW - DAY, LONG_AFTER, **more))
    return Counter({cell.group or "": statistics(cell.tallies).passed for cell in answer.cells})


async def test_a_late_change(database: Database) -> None:
    """A verdict that changes after its hour was rolled up counts as it is now, before and after it is rolled up again."""
    await released(database, 1, 2, overall_passed=True)
    assert await rolled_up(database, NOW + 2 * HOUR) == 1
    assert await total(database) == {"": 2}
    changed = NOW + 3 * HOUR
    await fetched_again(database, 1, now=changed, overall_passed=False)
    assert await total(database) == {"": 1}
    assert await database.read(hours.to_roll_up, changed + QUIET - SECOND, limit=9) == [NOW + HOUR]
    await rolled_up(database, changed + QUIET)
    assert await database.read(rows, changed_hours, "hour") == []
    assert await total(database) == {"": 1}


async def test_late_arrivals(database: Database) -> None:
    """An event that is seen to long after it came in counts in the hour in which it came in."""
    await released(database, 1, overall_passed=True)
    await rolled_up(database, NOW + 2 * HOUR)
    await accepted(database, arrival(2, at=NOW + MINUTE))
    await stage(database, now=NOW + 5 * HOUR)
    answer = await answered(database, Question(NOW, NOW + HOUR))
    assert statistics(answer.cells[0].tallies).by_tree == {"complete": 1, "pending": 1}


async def test_changed_while_it_is_rolled_up(database: Database) -> None:
    """What changes between the reading and the writing of an hour is not lost."""
    await released(database, 1, overall_passed=True)
    later = NOW + 2 * HOUR
    rolled = await database.read(hours.roll_up, NOW)
    await fetched_again(database, 1, now=later, overall_passed=False)
    assert await database.write(hours.keep, rolled)
    assert await total(database) == {"": 0}
    await rolled_up(database, later + QUIET)
    assert await total(database) == {"": 0}


async def test_two_roll_up_one_hour(database: Database) -> None:
    """Of two processes the one that writes first is right; the other's work, which may be older, is dropped."""
    await released(database, 1, overall_passed=True)
    first, again = [await database.read(hours.roll_up, NOW) for _ in range(2)]
    await fetched_again(database, 1, now=NOW + 2 * HOUR, overall_passed=False)
    newer = await database.read(hours.roll_up, NOW)
    assert await database.write(hours.keep, newer)
    assert not await database.write(hours.keep, first)
    assert not await database.write(hours.keep, again)
    assert await total(database) == {"": 0}


async def test_late_deliveries(database: Database) -> None:
    """A message that is delivered after hours counts in the hour of its verdict; those that are in time note nothing."""
    await released(database, 1, 2)
    one, two = await taken(database)
    await database.write(outbox.settle, [Settled(one.id, one.claim, "delivered", ended_at=NOW + SECOND)])
    assert await database.read(rows, changed_hours, "hour") == []
    await rolled_up(database, NOW + 2 * HOUR)
    ended = NOW + 4 * HOUR
    await database.write(outbox.settle, [Settled(two.id, two.claim, "delivered", ended_at=ended, late=True)])
    for _ in range(2):
        [[[cell], *_]] = await asked(database, Question(NOW, NOW + DAY))
        [lag] = cell[3]["delivery_lag"]
        assert (lag["sink"], lag["count"], lag["p50"], lag["longest"]) == ("all", 2, 1000, 14_000_000)
        await rolled_up(database, ended + QUIET)


async def test_which_hours(database: Database) -> None:
    """Hours are rolled up when they have been over for a while: from the first verdict on, the newest first, empty ones too."""
    assert await database.read(hours.to_roll_up, NOW, limit=9) == []
    await released(database, 1, now=NOW + 20 * MINUTE)
    await released(database, 2, now=NOW + 3 * HOUR)
    assert await database.read(hours.to_roll_up, NOW + HOUR + QUIET - SECOND, limit=9) == []
    assert await database.read(hours.to_roll_up, NOW + HOUR + QUIET, limit=9) == [NOW]
    assert await database.read(hours.to_roll_up, NOW + 5 * HOUR, limit=2) == [NOW + 3 * HOUR, NOW + 2 * HOUR]
    assert await rolled_up(database, NOW + 5 * HOUR) == 4
    assert await rolled_up(database, NOW + 5 * HOUR) == 0


async def test_many_labels(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nearly each verdict has a label of its own they are read one by one, up to a number that is told."""
    monkeypatch.setattr(hours, "MOST_LABELS", 2)
    for number in range(4):
        await staged(database, number, client_ref=f"ref-{number}")
    await finished(database, (await claimed(database)).values(), overall_passed=True)
    await rolled_up(database, LONG_AFTER)
    refs = await database.read(rows, hours_table, "hour", "by_client_ref")
    assert [hour for hour, content in refs if content is None] == [NOW]
    assert await total(database, group="client_ref") == {f"ref-{number}": 1 for number in range(4)}
    monkeypatch.setattr(stats, "MOST_BY_LABEL", 3)
    with pytest.raises(Invalid) as raised:
        await total(database, group="client_ref")
    assert [problem.field for problem in raised.value.problems] == ["group"]
    assert await total(database) == {"": 4}


async def test_many_groups(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest groups are shown, and the rest is counted."""
    monkeypatch.setattr(stats, "MOST_GROUPS", 2)
    for number, model in enumerate(("a", "b", "b", "c", None, None, None)):
        await released(database, number, model_id=model)
    answer = await answered(database, Question(NOW, NOW + DAY, None, "model_id"))
    assert [cell.group for cell in answer.cells] == [None, "b"]
    assert (answer.groups_left_out, answer.verdicts_left_out) == (2, 2)


@pytest.mark.parametrize(
    ("question", "starts"),
    [
        (Question(NOW, NOW + HOUR), [NOW]),
        (Question(NOW, NOW + 2 * HOUR, "hour"), [NOW, NOW + HOUR]),
        (Question(NOW + MINUTE, NOW + 2 * HOUR + SECOND, "hour"), [NOW + MINUTE, NOW + HOUR, NOW + 2 * HOUR]),
        (Question(NOW, NOW + DAY, "day"), [NOW, NOW.replace(hour=0) + DAY]),
    ],
)
def test_buckets(question: Question, starts: Sequence[Any]) -> None:
    """Buckets are UTC's hours and days; the first and the last are cut, and none is empty of time."""
    spans = stats.buckets(question)
    assert [start for start, _ in spans] == starts
    assert [end for _, end in spans] == [*starts[1:], question.until]


async def test_retried(database: Database) -> None:
    """A dead letter that is retried days later and delivered at once is late all the same: it is old."""
    await released(database, 1)
    [one] = await taken(database)
    await database.write(outbox.settle, [Settled(one.id, one.claim, "dead", ended_at=NOW)])
    await database.write(outbox_desk.retry, DeliveryFilter(ids=(one.id,)), NOW + DAY)
    [again] = await taken(database, now=NOW + DAY)
    assert (again.created_at, again.started_at) == (NOW, NOW + DAY)
