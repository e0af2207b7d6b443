"""`GET /v1/stats`: figures as JSON, and parameters that are refused by name."""

from typing import Any

import pytest

from receiver.core.verdict import Judge
from receiver.web.stats import StatsAnswer
from tests.web.receivers import READER, Receiver
from tests.web.seeds import store, verdict
from tests.web.wire import Answer

DAY = "since=2026-11-25T00:00:00Z&until=2026-11-26T00:00:00Z"


async def some(receiver: Receiver) -> None:
    judges = [Judge(name="Light", passed=False)]
    await store(
        receiver,
        verdict(0, task_type="headshot", overall_passed=True, weighted_pass_rate=0.9, cost="0.05", judges=judges),
        verdict(1, task_type="headshot", overall_passed=False, weighted_pass_rate=0.4, cost="0.10"),
        verdict(70, task_type="ad", overall_passed=None, failure_code="timed_out"),
        verdict(71, task_type=None, tree="pending"),
    )


async def test_figures(receiver: Receiver) -> None:
    """All figures of a day, in the shape that is promised."""
    await some(receiver)
    answer = await receiver.get(f"/v1/stats?{DAY}")
    assert answer.status == 200
    found = StatsAnswer.model_validate_json(answer.body)
    [item] = found.items
    assert (item.total, item.passed, item.failed, item.undecided, item.pass_rate) == (4, 1, 1, 2, 0.5)
    assert (item.cost.total, item.cost.per_pass, item.cost.unknown) == ("0.15", "0.150000", 2)
    assert (item.score.p10, item.score.p90, item.score.mean) == (0.4, 0.9, 0.65)
    assert [each.failure_code for each in item.failure_codes] == ["timed_out"]
    assert item.by_tree == {"complete": 3, "pending": 1}
    assert (item.judges[0].name, item.fetch_lag.count) == ("Light", 3)
    assert answer.json["since"] == "2026-11-25T00:00:00Z"


async def test_by_hour_and_kind(receiver: Receiver) -> None:
    """Buckets by time, groups by size; a filter leaves the others out."""
    await some(receiver)
    items = (await receiver.get(f"/v1/stats?{DAY}&bucket=hour&group=task_type")).json["items"]
    assert [(each["start"], each["group"], each["total"]) for each in items] == [
        ("2026-11-25T12:00:00Z", "headshot", 2),
        ("2026-11-25T13:00:00Z", "ad", 1),
        ("2026-11-25T13:00:00Z", None, 1),
    ]
    only = (await receiver.get(f"/v1/stats?{DAY}&task_type=ad&task_type=null")).json["items"]
    assert [each["total"] for each in only] == [2]
    by_hour = (await receiver.get(f"/v1/stats?{DAY}&bucket=hour")).json["items"]
    assert [each["total"] for each in by_hour] == [0] * 12 + [2, 2] + [0] * 10


async def test_default_time(receiver: Receiver) -> None:
    """Without a time it is the last seven days, up to the end of this hour."""
    now = receiver.service.database.now()
    await store(receiver, verdict(0, received_at=now), verdict(1))
    found = StatsAnswer.model_validate_json((await receiver.get("/v1/stats")).body)
    assert (found.until - found.since).days == 7
    assert found.since.minute == found.until.second == 0
    assert found.items[0].total >= 1


async def test_unchanged(receiver: Receiver) -> None:
    """Whoever has the figures is told that they are still so, until they are not."""
    await some(receiver)
    target = f"/v1/stats?{DAY}&group=model_id"
    tag = dict((await receiver.get(target)).headers)["etag"]
    headers = [("Authorization", f"Bearer {READER}"), ("If-None-Match", tag)]
    assert (await receiver.ask("GET", target, headers)).status == 304
    await store(receiver, verdict(3))
    assert (await receiver.ask("GET", target, headers)).status == 200


async def test_a_token_is_needed(receiver: Receiver) -> None:
    """Figures are not for everybody."""
    assert (await receiver.get("/v1/stats", token=None)).status == 401


def problems(answer: Answer) -> dict[str, Any]:
    assert answer.status == 422, answer.body
    return {each["field"]: each["message"] for each in answer.json["errors"]}


@pytest.mark.parametrize(
    ("query", "field", "said"),
    [
        ("colour=red", "colour", "unknown; there are task_type, model_id, since, until, bucket"),
        ("since=yesterday", "since", "must be a time such as"),
        ("since=20261118", "since", "must be before"),
        ("until=0001-01-01T00:00:00%2B14:00", "until", "must be a time|must be from 2000"),
        ("until=9999-12-31T23:59:59Z", "until", "must be from 2000 to 2100"),
        ("since=2026-11-25T00:00:00Z&until=2026-11-25T00:00:00Z", "since", "must be before until"),
        ("bucket=week", "bucket", "must be one of hour, day"),
        ("bucket=hour&bucket=day", "bucket", "more than once"),
        ("group=status", "group", "must be one of task_type, model_id, client_ref"),
        ("bucket=hour&since=2026-01-01&until=2026-11-01", "bucket", "more than 1,000"),
        ("&".join(["task_type=x"] * 101), "task_type", "100 times"),
    ],
)
async def test_refused(on_sqlite: Receiver, query: str, field: str, said: str) -> None:
    """Each wrong parameter is named, with what would be right."""
    if query == "since=20261118":
        query += "&until=2026-11-18"
    found = problems(await on_sqlite.get(f"/v1/stats?{query}"))
    assert list(found) == [field]
    assert any(each in found[field] for each in said.split("|")), found


async def test_several_are_refused_together(on_sqlite: Receiver) -> None:
    """All that is wrong is told at once."""
    found = problems(await on_sqlite.get("/v1/stats?since=x&bucket=y&group=z"))
    assert set(found) == {"since", "bucket", "group"}


async def test_odd_but_right(on_sqlite: Receiver) -> None:
    """Times may have any zone; the whole of time may be asked for at once."""
    for query in (
        "since=2026-11-25T05:30:00%2B05:30&until=2026-11-26",
        "since=2000-01-01&until=2100-01-01&group=client_ref",
    ):
        assert (await on_sqlite.get(f"/v1/stats?{query}")).status == 200
