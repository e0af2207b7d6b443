"""Several sinks and several processes: none holds up another, and a paced sink is drained by one."""

import asyncio
from datetime import timedelta

import pytest

from receiver.core.routing import Route
from receiver.offline import OfflineRunflow
from receiver.pipeline import pace
from receiver.pipeline.deliver import SinkLane
from receiver.sinks.base import Again, Done, Down, Never
from receiver.store import lanes
from receiver.store.database import Database
from receiver.store.outbox import HOLD
from tests.pipeline.clock import Clock, until
from tests.pipeline.desk import SOURCE, Desk, cancelled, idle, plan_of, step
from tests.pipeline.outage import Interrupted
from tests.pipeline.recording import RecordingSink


def paced(desk: Desk, sink: RecordingSink, process: str, rate: float) -> SinkLane:
    return SinkLane(desk.database, desk.bells, plan_of(sink, rate=rate), source=SOURCE, process=process)


async def test_a_sink_that_hangs_or_fails_holds_up_no_other(database: Interrupted, runflow: OfflineRunflow) -> None:
    """The live sink is given everything while one hangs, one is down, one fails and one refuses."""
    names = ("live", "hanging", "down", "failing", "refusing")
    desk = Desk(database, runflow, [Route(name) for name in names])
    sinks = {name: RecordingSink() for name in names}
    sinks["hanging"].open.clear()
    sinks["down"].answer = lambda _: Down("refused")
    sinks["failing"].answer = lambda _: Again("busy")
    sinks["refusing"].answer = lambda _: Never("no")
    lanes_ = {
        name: SinkLane(database, desk.bells, plan_of(sink, name), source=SOURCE, process="us")
        for name, sink in sinks.items()
    }
    keys = await desk.release(20)
    while len(sinks["live"].taken) < 20:
        await asyncio.gather(*(lane.step() for lane in lanes_.values()))
        await idle(lanes_["live"])
    assert {message.verdict.evaluation_id for message in sinks["live"].taken} == set(keys)
    assert sinks["hanging"].busy == 2
    assert await desk.states("live") == ["delivered"] * 20
    assert set(await desk.states("down")) == {"pending"}
    assert "delivered" not in await desk.states("hanging") + await desk.states("failing")
    assert "dead" in await desk.states("refusing")
    await cancelled(*lanes_["hanging"]._tasks._running)


async def test_a_paced_sink_sends_one_and_waits(desk: Desk, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """No burst: one message, and then the lane wants to look again soon and sends nothing before its time."""
    monkeypatch.setattr(pace, "LONGEST_WAIT", 0.01)
    sink = RecordingSink()
    lane = paced(desk, sink, "us", rate=1 / 10_000)
    await desk.release(3)
    await step(lane)
    assert len(sink.given) == 1
    for _ in range(3):
        assert await step(lane) == clock()
    assert len(sink.given) == 1


async def test_a_paced_sink_sends_all_in_the_end(desk: Desk) -> None:
    """At its own pace, nothing is left."""
    sink = RecordingSink()
    lane = paced(desk, sink, "us", rate=100)
    await desk.release(5)
    while len(sink.taken) < 5:
        await step(lane)
    assert sink.busiest == 1
    assert await desk.states() == ["delivered"] * 5


async def drained_by_one(one: Database, other: Database, runflow: OfflineRunflow, clock: Clock) -> None:
    """The other process sends nothing while one drains the sink; it does when that one leaves, or is not heard of any more."""
    ours, theirs = Desk(one, runflow), Desk(other, runflow)
    our_sink, their_sink = RecordingSink(), RecordingSink()
    first, second = paced(ours, our_sink, "us", rate=1000), paced(theirs, their_sink, "them", rate=1000)
    await ours.release(8)
    clock.advance(HOLD / 3)  # two processes never agree quite on the time
    await step(first)
    moment = await step(second)
    assert moment is not None
    assert moment > other.now()
    assert (len(our_sink.taken), len(their_sink.taken)) == (1, 0)

    await one.write(lanes.leave, "us")
    await step(second)
    await step(first)
    assert (len(our_sink.taken), len(their_sink.taken)) == (1, 1)

    clock.advance(2 * HOLD)
    await step(first)
    await step(second)
    assert (len(our_sink.taken), len(their_sink.taken)) == (2, 1)


async def test_a_paced_sink_is_drained_by_one_process_on_sqlite(
    database: Interrupted, runflow: OfflineRunflow, clock: Clock
) -> None:
    """The rules are the same where two processes meet by accident."""
    await drained_by_one(database, database, runflow, clock)


@pytest.mark.postgres
async def test_a_paced_sink_is_drained_by_one_process_on_postgresql(
    postgres: tuple[Database, Database], runflow: OfflineRunflow, clock: Clock
) -> None:
    """Two processes with a pace each would be twice the pace."""
    await drained_by_one(*postgres, runflow, clock)


@pytest.mark.postgres
async def test_a_pause_holds_for_all_processes(
    postgres: tuple[Database, Database], runflow: OfflineRunflow, clock: Clock
) -> None:
    """What one process found is down no other tries until the pause is over."""
    desks = [Desk(each, runflow) for each in postgres]
    sinks = [RecordingSink(lambda _: Down("refused", after=100)), RecordingSink(lambda _: Done())]
    first, second = (
        SinkLane(desk.database, desk.bells, plan_of(sink), source=SOURCE, process=name)
        for desk, sink, name in zip(desks, sinks, ("us", "them"), strict=True)
    )
    await desks[0].release(3)
    await step(first)
    await step(second)
    assert sinks[1].given == []
    clock.advance(timedelta(seconds=200))
    while len(sinks[1].taken) < 3:
        await step(second)
    assert await desks[0].states() == ["delivered"] * 3
    await until(lambda: not first._tasks.busy)
