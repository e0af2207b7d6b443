"""Whole pipelines, from stored events to sinks: one on SQLite, several on PostgreSQL, and one that dies."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from receiver.errors import StoreUnavailable
from receiver.offline import OfflineRunflow
from receiver.offline.faults import FirstReads, RateLimited, ServerError
from receiver.pipeline import deliver
from receiver.pipeline import fetch as fetching
from receiver.pipeline import pipeline as pipelines
from receiver.pipeline.fetch import FetchPace
from receiver.pipeline.intake import Intake, IntakeLimits
from receiver.pipeline.pipeline import Pipeline
from receiver.pipeline.station import EVENTS
from receiver.sinks.base import Again, Done, Down, Outcome
from receiver.store.audit import audit
from receiver.store.database import Database, open_database, system_clock
from tests.pipeline.accepting import accepted
from tests.pipeline.clock import DEADLINE, Clock, until, until_awaited
from tests.pipeline.desk import Desk, arrival, cancelled, client_of, leased, living, plan_of
from tests.pipeline.outage import Interrupted
from tests.pipeline.recording import BatchingSink, RecordingSink
from tests.pipeline.whole import kill, plan_for, running


class RunningClock(Clock):
    """The machine's time."""

    def __call__(self) -> datetime:
        return system_clock()


@pytest.fixture
def clock() -> Clock:
    """Here the time runs: what loops by itself must not be moved."""
    return RunningClock()


def ids_of(sink: RecordingSink) -> set[UUID]:
    return {message.verdict.evaluation_id for message in sink.taken}


async def take_in(desk: Desk, keys: Sequence[UUID]) -> None:
    """The callbacks come in, all at once; each until it is taken, as Runflow sends it."""
    intake = Intake(desk.database, IntakeLimits(), lambda: desk.bells.ring(EVENTS), longest_wait=DEADLINE)

    async def come(key: UUID) -> None:
        while True:
            with suppress(StoreUnavailable):
                await accepted(intake, arrival(desk.runflow, key, desk.database.now()))
                return

    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*(come(key) for key in keys))


async def adds_up(desk: Desk, sinks: Sequence[str]) -> bool:
    books = await desk.database.read(audit, sinks)
    return books.adds_up and not books.exceptions


async def test_every_callback_goes_all_the_way(desk: Desk) -> None:
    """Through a Runflow that lags, fails and limits, and a sink that is busy and down: each arrives, and the books add up."""
    faults = desk.runflow.faults
    faults.pending_first = FirstReads(reads=1, count=3)
    faults.server_error = ServerError(count=3)
    faults.rate_limited = RateLimited(count=1, retry_after=0)
    troubles: Iterator[Outcome] = iter([Again("busy"), Down("refused"), Again("busy")])
    sink, other = RecordingSink(lambda _: next(troubles, Done())), BatchingSink()
    plan = plan_for(client_of(desk.runflow), [plan_of(sink), plan_of(other, "other")])
    keys = desk.add(40)
    async with running(desk.database, desk.bells, plan):
        await take_in(desk, keys)
        await until(lambda: len(sink.taken) == len(other.taken) == 40)
    assert ids_of(sink) == ids_of(other) == set(keys)
    assert {message.verdict.tree for message in sink.taken} == {"complete"}
    assert await leased(desk.database) == 0
    assert await adds_up(desk, ["log", "other"])


async def test_a_database_that_goes_and_comes_back(desk: Desk, database: Interrupted) -> None:
    """What waits is seen to when the database is back, without a hand."""
    sink = RecordingSink()
    keys = desk.add(10)
    async with running(database, desk.bells, plan_for(client_of(desk.runflow), [plan_of(sink)])):
        await take_in(desk, keys[:5])
        await until(lambda: len(sink.taken) >= 1)
        database.away = True
        desk.bells.ring(EVENTS)
        await until(lambda: database.refused >= 3)
        database.away = False
        await take_in(desk, keys[5:])
        await until(lambda: ids_of(sink) == set(keys))
    assert len(sink.taken) == 10


async def test_one_message_at_a_time_does_not_wait_for_the_poll(desk: Desk) -> None:
    """Where only one may be under way, its end starts the next: with the poll alone this would take minutes."""
    sink = RecordingSink()
    plan = plan_for(client_of(desk.runflow), [plan_of(sink, concurrency=1)], pace=FetchPace(concurrency=1))
    keys = desk.add(30)
    async with running(desk.database, desk.bells, plan):
        await take_in(desk, keys)
        await until(lambda: len(sink.taken) == 30)
    assert sink.busiest == 1


async def test_what_was_given_back_is_sent_by_the_next(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline that follows another finds all that it left, at once."""
    monkeypatch.setattr(pipelines, "STOP_GRACE", 0.01)
    sink = RecordingSink()
    sink.open.clear()
    keys = desk.add(5)
    async with running(desk.database, desk.bells, plan_for(client_of(desk.runflow), [plan_of(sink)])):
        await take_in(desk, keys)
        await until(lambda: sink.busy == 2)
    sink.open.set()
    async with running(desk.database, desk.bells, plan_for(client_of(desk.runflow), [plan_of(sink)])):
        await until(lambda: len(sink.taken) == 5)
    assert {each.attempts for each in await desk.deliveries()} == {1}


@pytest.fixture
async def two(postgres_address: str, runflow: OfflineRunflow) -> AsyncIterator[tuple[Desk, Desk]]:
    """Two processes that share a PostgreSQL database, each with bells that ring for the other."""
    async with AsyncExitStack() as stack:
        desks = []
        for _ in range(2):
            database: Database = open_database(postgres_address)
            stack.push_async_callback(database.close)
            desks.append(Desk(database, runflow))
            stack.push_async_callback(cancelled, asyncio.create_task(desks[-1].bells.run()))
        yield desks[0], desks[1]


@pytest.mark.postgres
async def test_two_pipelines_share_the_work(two: tuple[Desk, Desk], runflow: OfflineRunflow) -> None:
    """200 events that two processes take in and work on are delivered once each, and both have had a part."""
    sinks = [RecordingSink(), RecordingSink()]
    keys = two[0].add(200)
    plans = [plan_for(client_of(runflow), [plan_of(sink)]) for sink in sinks]
    async with (
        running(two[0].database, two[0].bells, plans[0]),
        running(two[1].database, two[1].bells, plans[1]),
    ):
        await asyncio.gather(take_in(two[0], keys[:100]), take_in(two[1], keys[100:]))
        await until(lambda: len(sinks[0].taken) + len(sinks[1].taken) >= 200)
    given = Counter(message.id for sink in sinks for message in sink.given)
    assert len(given) == 200
    assert set(given.values()) == {1}
    assert ids_of(sinks[0]) | ids_of(sinks[1]) == set(keys)
    assert len(runflow.requests) == 200
    assert await adds_up(two[0], ["log"])
    assert await living(two[0].database) == []


@pytest.mark.postgres
async def test_the_rate_is_divided_by_those_who_live(
    two: tuple[Desk, Desk], runflow: OfflineRunflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes have half of the rate each; the one that is left has all of it."""
    monkeypatch.setattr(pipelines, "BEAT_SECONDS", 0.02)
    pipes = [
        Pipeline(desk.database, desk.bells, plan_for(client_of(runflow), [], pace=FetchPace(rate=8))) for desk in two
    ]

    def shares() -> list[float]:
        return [pipe._fetch._limiter.max_rate for pipe in pipes if pipe._fetch._limiter is not None]

    pipes[0].start()
    await until(lambda: shares() == [8, 8])
    pipes[1].start()
    await until(lambda: shares() == [4, 4])
    await pipes[1].stop()
    await until(lambda: shares()[0] == 8)
    await pipes[0].stop()


@pytest.mark.postgres
async def test_one_that_dies_leaves_everything_to_the_other(
    two: tuple[Desk, Desk], runflow: OfflineRunflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the dead one held is claimable when its lease ends; all arrive, and the only repeats have the same key."""
    monkeypatch.setattr(fetching, "LEASE", timedelta(seconds=5))
    monkeypatch.setattr(deliver, "MARGIN", 1.0)
    dying, living_on = RecordingSink(), RecordingSink()
    keys = two[0].add(60)
    first = Pipeline(two[0].database, two[0].bells, plan_for(client_of(runflow), [plan_of(dying, timeout=3)]))
    first.start()
    await take_in(two[0], keys)
    await until(lambda: len(dying.taken) >= 10)
    await kill(first)
    async with running(
        two[1].database, two[1].bells, plan_for(client_of(runflow), [plan_of(living_on, timeout=3, concurrency=20)])
    ):
        await until_awaited(lambda: _all_delivered(two[1]))
    given = Counter(message.key for sink in (dying, living_on) for message in sink.given)
    assert len(given) == 60
    assert ids_of(dying) | ids_of(living_on) == set(keys)
    assert await adds_up(two[1], ["log"])


async def _all_delivered(desk: Desk) -> bool:
    states = await desk.states()
    return states == ["delivered"] * 60
