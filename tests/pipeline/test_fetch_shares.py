"""The fetch lane among others: how many at once, at what rate, and whose turn it is."""

import asyncio

import pytest

from receiver.offline import OfflineRunflow
from receiver.pipeline import pace
from receiver.pipeline.fetch import LEASE, FetchLane, FetchPace
from receiver.pipeline.tasks import Patience
from receiver.runflow.client import RunflowClient
from receiver.store.database import Database
from tests.pipeline.clock import DEADLINE, Clock, until
from tests.pipeline.desk import HOLD, Desk, idle, leased, step
from tests.pipeline.gate import Gate, gated
from tests.pipeline.outage import Interrupted


def lane_of(desk: Desk, client: RunflowClient, **pace: float) -> FetchLane:
    options: dict[str, float | None] = {"rate": None, "concurrency": 10, **pace}
    return FetchLane(
        desk.database, desk.bells, client, desk.routes, FetchPace(options["rate"], int(options["concurrency"] or 0))
    )


async def test_no_more_at_once_than_there_may_be(desk: Desk, gate: tuple[Gate, RunflowClient]) -> None:
    """Further steps start nothing while there is no room; each that ends makes room, and rings the bell when there is."""
    api, client = gate
    lane = lane_of(desk, client, concurrency=3)
    await desk.arrive(*desk.add(8))
    api.open.clear()
    await lane.step()
    await until(lambda: api.waiting == 3)
    await lane.step()
    assert await leased(desk.database) == 3
    bell = desk.bells.bell("fetches")
    bell.clear()
    api.open.set()
    async with asyncio.timeout(DEADLINE):
        await bell.wait()
    assert lane._ahead.free >= 1
    await idle(lane)
    await step(lane)
    await step(lane)
    assert (api.most, len(await desk.deliveries())) == (3, 8)


async def test_a_rate_permits_so_many_and_holds_up_nothing_else(
    desk: Desk, client: RunflowClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one fetch in twenty minutes the second waits, says that it wants to look again soon, and what is held goes out."""
    monkeypatch.setattr(pace, "LONGEST_WAIT", 0.01)
    lane = lane_of(desk, client, rate=1 / 1200)
    await desk.arrive(*desk.add(3))
    await step(lane)
    assert len(desk.runflow.requests) == 1
    assert await step(lane) == clock()
    assert len(desk.runflow.requests) == 1
    clock.advance(HOLD)
    await step(lane)
    assert len(desk.runflow.requests) == 1
    assert len(await desk.deliveries()) == 3


async def test_a_rate_permits_a_second_s_worth_at_once(desk: Desk, client: RunflowClient) -> None:
    """A rate is a number in a second: so many may go together."""
    lane = lane_of(desk, client, rate=1000)
    await desk.arrive(*desk.add(8))
    await step(lane)
    assert len(desk.runflow.requests) == 8


async def test_the_rate_is_shared_by_those_who_live(desk: Desk, client: RunflowClient) -> None:
    """Each of several processes takes its part; the same number again starts no new burst; no rate is no rate."""
    lane = lane_of(desk, client, rate=6)
    shares = []
    for processes in (1, 3, 2, 0):
        lane.share_rate(processes)
        assert lane._limiter is not None
        shares.append(lane._limiter.max_rate / lane._limiter.time_period)
    assert shares == [6, 2, 3, 6]
    lane.share_rate(3)
    before = lane._limiter
    lane.share_rate(3)
    assert lane._limiter is before
    lane.share_rate(12)
    assert lane._limiter is not None
    assert lane._limiter.max_rate / lane._limiter.time_period == pytest.approx(0.5)
    unlimited = lane_of(desk, client)
    unlimited.share_rate(3)
    assert unlimited._limiter is None


async def two_lanes(
    one: Database, other: Database, runflow: OfflineRunflow, client: RunflowClient, clock: Clock
) -> None:
    """One fetch in flight per evaluation over two processes; after the lease the other's turn, and then the first is late."""
    async with gated(runflow) as (gate, url):
        slow = RunflowClient(url, "any", timeout=DEADLINE)
        ours, theirs = Desk(one, runflow), Desk(other, runflow)
        first, second = lane_of(ours, slow), lane_of(theirs, client)
        [key] = ours.add()
        await ours.arrive(key)
        gate.open.clear()
        await first.step()
        await until(lambda: gate.waiting == 1)
        await step(second)
        assert len(runflow.requests) == 0
        clock.advance(2 * LEASE)  # two processes never agree quite on the time
        await step(second)
        assert len(runflow.requests) == 1
        assert (await theirs.verdict(key)).revision == 1
        runflow.change(key)
        gate.open.set()
        await idle(first)
        verdict = await theirs.verdict(key)
        assert (verdict.revision, verdict.overall_passed) == (1, False)
        fetch = await theirs.fetch(key)
        assert (fetch.due_at, fetch.leased, fetch.claim) == (None, False, 2)
        await slow.close()


async def test_two_lanes_on_sqlite(
    database: Interrupted, runflow: OfflineRunflow, client: RunflowClient, clock: Clock
) -> None:
    """A lease keeps others away until it ends; whoever lost it writes nothing."""
    await two_lanes(database, database, runflow, client, clock)


@pytest.mark.postgres
async def test_two_lanes_on_postgresql(
    postgres: tuple[Database, Database], runflow: OfflineRunflow, client: RunflowClient, clock: Clock
) -> None:
    """The same with two processes."""
    await two_lanes(*postgres, runflow, client, clock)


async def test_one_that_was_asked_for_again_meanwhile_is_fetched_once_more(
    desk: Desk, gate: tuple[Gate, RunflowClient]
) -> None:
    """A repeat with other bytes during a fetch starts no second one beside it, and is not forgotten: one more follows."""
    api, client = gate
    lane = lane_of(desk, client)
    [key] = desk.add()
    await desk.arrive(key)
    api.open.clear()
    await lane.step()
    await until(lambda: api.waiting == 1)
    await desk.arrive(key, body=desk.runflow.callback_body(key) + b" ")
    await lane.step()
    assert api.most == 1
    desk.runflow.change(key)
    api.open.set()
    await idle(lane)
    assert (await desk.verdict(key)).revision == 1
    desk.runflow.change(key)
    await step(lane)
    assert (await desk.verdict(key)).revision == 2
    assert await step(lane) is None


async def test_a_result_outlasts_a_database_that_is_away(
    desk: Desk, database: Interrupted, gate: tuple[Gate, RunflowClient]
) -> None:
    """What was fetched is written when the database is back, and not fetched again."""
    api, client = gate
    lane = lane_of(desk, client)
    [key] = desk.add()
    await desk.arrive(key)
    api.open.clear()
    await lane.step()
    await until(lambda: api.waiting == 1)
    database.away = True
    api.open.set()
    await until(lambda: database.refused >= 1)
    database.away = False
    await idle(lane)
    assert (await desk.verdict(key)).tree == "complete"
    assert len(desk.runflow.requests) == 1


async def test_a_result_that_cannot_be_written_comes_again_after_the_lease(
    desk: Desk, database: Interrupted, client: RunflowClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When patience is at an end the fetch is left to its lease."""
    monkeypatch.setattr(Patience, "wait_for", lambda _, write: write())
    lane = lane_of(desk, client)
    [key] = desk.add()
    await desk.arrive(key)
    await lane.step()
    database.away = True
    await idle(lane)
    database.away = False
    assert await leased(database) == 1
    assert await step(lane) == min(clock() + LEASE, clock() + HOLD)
    clock.advance(LEASE)
    await step(lane)
    assert (await desk.verdict(key)).tree == "complete"
