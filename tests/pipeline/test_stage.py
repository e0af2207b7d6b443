"""The first stage: from a stored event to a pending verdict whose tree is to be fetched, or to one that goes out at once."""

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from structlog.typing import EventDict

from receiver.core.callback import origin_of
from receiver.core.routing import Route
from receiver.offline import OfflineRunflow
from receiver.pipeline import stage as stages
from receiver.pipeline.fetch import FetchLane, FetchPace
from receiver.pipeline.stage import (
    BATCH,
    BATCH_WHEN_BUSY,
    LONGEST_LAG,
    SHARE_IN_A_RUSH,
    SHARE_OF_OTHERS,
    SHARE_WHEN_LATE,
)
from receiver.pipeline.station import EVENTS, FETCHES
from receiver.runflow.client import RunflowClient
from receiver.store import reading, staging
from receiver.store.audit import audit
from receiver.store.intake import EventArrival
from tests.pipeline.clock import Clock
from tests.pipeline.desk import HOLD, LOG, Desk, arrival, cancelled, step
from tests.pipeline.outage import Interrupted

ARCHIVE = Route("archive", takes_samples=True)


@pytest.fixture
def desk(database: Interrupted, runflow: OfflineRunflow) -> Desk:
    """Everything goes to `log`, samples go to `archive` as well."""
    return Desk(database, runflow, [LOG, ARCHIVE])


def event(key: UUID, clock: Clock, **fields: object) -> EventArrival:
    """A completed evaluation's event with such a body."""
    content = {"event": "evaluation.completed", "evaluation_id": str(key), **fields}
    return EventArrival(
        key, "evaluation.completed", orjson.dumps(content), origin_of(key), "old", "req_7", clock.moment
    )


async def test_an_event_becomes_a_pending_verdict_with_a_fetch(desk: Desk, clock: Clock) -> None:
    """The verdict is shown as pending and goes nowhere; its fetch is due now and held for as long as the settings say."""
    [key] = desk.add()
    await desk.arrive(key)
    verdict = await desk.verdict(key)
    assert (verdict.tree, verdict.revision, verdict.received_at) == ("pending", 0, clock())
    assert await desk.deliveries() == []
    fetch = await desk.fetch(key)
    assert (fetch.due_at, fetch.hold_until, fetch.attempts, fetch.leased) == (clock(), clock() + HOLD, 0, False)
    assert desk.bells.bell(FETCHES).is_set()


async def test_the_hold_begins_when_it_is_staged(desk: Desk, clock: Clock) -> None:
    """What came before an outage is fetched after it, and does not go out at once without its tree."""
    [key] = desk.add()
    came = clock()
    await desk.database.accept([arrival(desk.runflow, key, came)])
    clock.advance(hours=3)
    await desk.arrive()
    assert (await desk.fetch(key)).hold_until == clock() + HOLD
    assert (await desk.verdict(key)).received_at == came


async def test_a_sample_is_not_fetched_and_goes_to_those_that_take_samples(
    desk: Desk, client: RunflowClient, clock: Clock
) -> None:
    """Runflow knows nothing of it: whoever fetches releases it, key or no key, and its verdict says that it is a sample."""
    for number, fetcher in enumerate((client, None)):
        key = UUID(f"00000000-0000-4000-8000-{number:012}")
        await desk.database.accept([event(key, clock)])
        await desk.arrive()
        assert (await desk.verdict(key)).tree == "pending"
        await step(FetchLane(desk.database, desk.bells, fetcher, desk.routes, FetchPace()))
        verdict = await desk.verdict(key)
        assert (verdict.origin, verdict.tree, verdict.tree_reason) == ("sample", "unavailable", "sample")
    assert (await desk.states("archive"), await desk.states("log")) == (["pending"] * 2, [])
    assert len(desk.runflow.requests) == 0


async def test_the_log_tells_where_it_came_from(desk: Desk, clock: Clock, logged: list[EventDict]) -> None:
    """One line with the request's id, the secret's label and the evaluation's id; nothing odd is told of a good body."""
    [key] = desk.add()
    await desk.database.accept([arrival(desk.runflow, key, clock())])
    await desk.arrive()
    [line] = logged
    assert line["event"] == "callback.stored"
    assert (line["evaluation_id"], line["request_id"], line["secret"]) == (str(key), "req_1", "main")


async def test_an_odd_body_is_told_and_held_back_by_nothing(desk: Desk, clock: Clock, logged: list[EventDict]) -> None:
    """Wrong fields are named in the log, and the evaluation is fetched like any other."""
    key = uuid4()
    await desk.database.accept([event(key, clock, status="failed", overall_passed="yes", completed_at=17)])
    await desk.arrive()
    [odd] = [line for line in logged if line["event"] == "callback.odd"]
    assert odd["evaluation_id"] == str(key)
    assert {"overall_passed is not readable", "completed_at is not readable"} <= set(odd["oddities"])
    assert (await desk.fetch(key)).due_at == clock()


async def test_a_repeat_with_other_bytes_is_fetched_again(desk: Desk, clock: Clock) -> None:
    """The same bytes ask for nothing; other bytes make the fetch due, with all its tries and time before it again."""
    key = uuid4()
    await desk.database.accept([event(key, clock)])
    await desk.arrive()
    clock.advance(minutes=1)
    await desk.database.accept([event(key, clock)])
    await desk.arrive()
    assert (await desk.fetch(key)).asked == 1
    await desk.database.accept([event(key, clock, client_ref="other")])
    await desk.arrive()
    fetch = await desk.fetch(key)
    assert (fetch.asked, fetch.due_at, fetch.started_at) == (2, clock(), clock())


async def test_both_events_of_an_evaluation_are_one_verdict(desk: Desk, clock: Clock) -> None:
    """The impossible case is two events, one verdict, and a fetch that decides."""
    key = uuid4()
    completed = event(key, clock)
    await desk.database.accept([completed, completed._replace(event="evaluation.failed")])
    await desk.arrive()
    books = await desk.database.read(audit, [])
    assert (books.events, books.evaluations, books.waiting) == (2, 1, 1)
    assert (await desk.fetch(key)).asked == 2


@pytest.mark.parametrize("busy", [False, True])
async def test_while_callbacks_come_it_takes_little_at_a_time(
    desk: Desk, clock: Clock, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    """What is taken in waits for each batch, so batches are short while something comes, and large when nothing does."""
    monkeypatch.setattr(stages, "LONGEST_PAUSE", 0.001)
    limits: list[int] = []

    def noted(*args: Any, limit: int, **kwargs: Any) -> Any:
        limits.append(limit)
        return staging.stage(*args, limit=limit, **kwargs)

    monkeypatch.setattr(stages, "staging", SimpleNamespace(stage=noted, Staged=staging.Staged))

    async def callbacks_come() -> None:
        while True:
            desk.bells.ring(EVENTS)
            await asyncio.sleep(0)

    await desk.database.accept([event(uuid4(), clock) for _ in range(BATCH + BATCH_WHEN_BUSY + 1)])
    coming = [asyncio.create_task(callbacks_come())] if busy else []
    await desk.arrive()
    await cancelled(*coming)
    assert limits == ([BATCH, BATCH_WHEN_BUSY, BATCH_WHEN_BUSY] if busy else [BATCH, BATCH])
    assert (await desk.database.read(audit, [])).waiting == BATCH + BATCH_WHEN_BUSY + 1


async def test_what_it_leaves_to_callbacks(desk: Desk, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time; nearly all of it while more wait than it sees to at a time; a part of it once some wait for long."""
    pauses: list[float] = []

    async def paused(seconds: float) -> None:
        pauses.append(seconds)
        desk.bells.ring(EVENTS)

    async def pauses_for(count: int) -> list[float]:
        pauses.clear()
        desk.bells.ring(EVENTS)
        await desk.database.accept([event(uuid4(), clock) for _ in range(count)])
        clock.advance(seconds=late)
        await desk.arrive()
        return list(pauses)

    seconds = iter(range(1000))  # each batch takes one
    monkeypatch.setattr(stages, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    monkeypatch.setattr(stages, "asyncio", SimpleNamespace(sleep=paused))
    monkeypatch.setattr(stages, "LONGEST_PAUSE", 1000.0)
    late = 0.0
    assert await pauses_for(BATCH + 1) == [SHARE_IN_A_RUSH, SHARE_OF_OTHERS]
    late = LONGEST_LAG.total_seconds() + 1
    assert await pauses_for(BATCH + 1) == [SHARE_WHEN_LATE, SHARE_WHEN_LATE]


async def test_one_step_sees_to_all_that_waits(desk: Desk, clock: Clock) -> None:
    """However many there are, in batches; a step with nothing to do does nothing."""
    keys = [uuid4() for _ in range(2 * BATCH + 1)]
    await desk.database.accept([event(key, clock) for key in keys])
    await desk.arrive()
    for key in keys:
        assert await desk.database.read(reading.one, key) is not None
    desk.bells.bell(FETCHES).clear()
    await desk.arrive()
    assert not desk.bells.bell(FETCHES).is_set()
