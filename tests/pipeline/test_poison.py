"""A message by which a sink seems to be down, while it takes others: it does not stop the sink for good."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from structlog.typing import EventDict

from receiver.core.envelope import Message
from receiver.core.retry import Waits
from receiver.pipeline.deliver import SinkLane
from receiver.sinks.base import Done, Down, Outcome
from receiver.store import lanes
from tests.pipeline.clock import Clock
from tests.pipeline.desk import SOURCE, Desk, plan_of, step
from tests.pipeline.recording import BatchingSink, RecordingSink

LANE = lanes.sink_lane("log")
MINUTE = timedelta(minutes=1)


def but(*poison: UUID) -> Callable[[Message], Outcome]:
    """Takes all but these."""
    return lambda message: Down("a queue is full") if message.verdict.evaluation_id in poison else Done()


def lane_of(desk: Desk, sink: RecordingSink, process: str = "us", **changes: Any) -> SinkLane:
    waits = Waits(timedelta(seconds=10), timedelta(seconds=10), 1.0)
    plan = plan_of(sink, retry=waits, dead_after=timedelta(minutes=10), **changes)
    return SinkLane(desk.database, desk.bells, plan, source=SOURCE, process=process)


async def after_the_pause(desk: Desk, clock: Clock) -> None:
    state = await desk.lane(LANE)
    clock.moment = max(clock(), state.paused_until or clock())


@pytest.mark.parametrize("sink", [RecordingSink(), BatchingSink()], ids=["one by one", "in batches"])
async def test_one_message_does_not_stop_the_others(desk: Desk, clock: Clock, sink: RecordingSink) -> None:
    """After a few pauses by it alone it uses up attempts, the sink stays open, and in the end it is a dead letter."""
    lane = lane_of(desk, sink)
    [poison] = await desk.release()
    sink.answer = but(poison)
    for _ in range(60):
        await desk.release()
        await step(lane)
        await after_the_pause(desk, clock)
        clock.advance(timedelta(seconds=1))
        [record] = [each for each in await desk.deliveries() if each.evaluation_id == poison]
        if record.attempts:
            break
    assert (record.state, record.attempts) == ("pending", 1)
    assert record.last_error == "this message alone, others are taken: a queue is full"
    assert (await desk.lane(LANE)).suspects == {record.id: lanes.MOST_PAUSES}
    await step(lane)
    assert (await desk.lane(LANE)).failures == 0
    while record.state != "dead":
        clock.advance(MINUTE)
        await step(lane)
        assert (await desk.lane(LANE)).failures == 0
        [record] = [each for each in await desk.deliveries() if each.evaluation_id == poison]
    assert record.last_error == "given up after 0:10:00: this message alone, others are taken: a queue is full"
    assert {each.state for each in await desk.deliveries() if each.evaluation_id != poison} == {"delivered"}


async def test_several_of_them(desk: Desk, clock: Clock) -> None:
    """Two in one batch are found out as well."""
    sink = BatchingSink()
    lane = lane_of(desk, sink)
    poison = await desk.release(2)
    sink.answer = but(*poison)
    for _ in range(40):
        await desk.release()
        await step(lane)
        await after_the_pause(desk, clock)
        clock.advance(timedelta(seconds=1))
    records = [each for each in await desk.deliveries() if each.evaluation_id in poison]
    assert all(each.attempts > 1 for each in records)
    await desk.release()
    await step(lane)
    assert (await desk.lane(LANE)).failures == 0
    assert [each.state for each in await desk.deliveries() if each.evaluation_id not in poison] == ["delivered"] * 41


async def test_alone_it_waits(desk: Desk, clock: Clock) -> None:
    """While there is nothing else, nothing shows that the sink takes others: it is the sink that is down, for however long."""
    sink = RecordingSink(lambda _: Down("a queue is full"))
    lane = lane_of(desk, sink)
    await desk.release()
    for _ in range(30):
        await step(lane)
        clock.advance(timedelta(hours=1))
    [record] = await desk.deliveries()
    assert (record.state, record.attempts) == ("pending", 0)
    assert (await desk.lane(LANE)).suspects == {record.id: 1}
    sink.answer = lambda _: Done()
    await step(lane)
    assert await desk.states() == ["delivered"]


async def test_the_probe_is_another_than_the_one_by_which_the_pause_began(desk: Desk, clock: Clock) -> None:
    """What is released while the sink waits for one message alone is sent at the end of that very pause."""
    sink = RecordingSink()
    lane = lane_of(desk, sink)
    [poison] = await desk.release()
    sink.answer = but(poison)
    for _ in range(8):
        await step(lane)
        await after_the_pause(desk, clock)
    await step(lane)
    clock.advance(timedelta(seconds=1))
    [other] = await desk.release()
    await after_the_pause(desk, clock)
    await step(lane)
    assert [message.verdict.evaluation_id for message in sink.taken] == [other]
    assert (await desk.lane(LANE)).failures == 0


async def test_an_outage_is_nobodys_fault(desk: Desk, clock: Clock) -> None:
    """A sink that goes away and comes back, again and again, uses up no attempt of the messages that wait for it."""
    sink = RecordingSink()
    lane = lane_of(desk, sink, concurrency=1)
    for _ in range(lanes.MOST_PAUSES + 1):
        sink.answer = lambda _: Down("refused")
        await desk.release(3)
        for _ in range(4):
            await step(lane)
            await after_the_pause(desk, clock)
        assert {each.attempts for each in await desk.deliveries() if each.state == "pending"} == {0}
        sink.answer = lambda _: Done()
        while "pending" in await desk.states():
            clock.advance(MINUTE)
            await step(lane)
    assert set(await desk.states()) == {"delivered"}


async def test_a_known_one_tells_nothing_of_the_sink(desk: Desk, clock: Clock, logged: list[EventDict]) -> None:
    """As a probe it neither ends a pause nor makes it longer: the next message is the probe."""
    sink = RecordingSink()
    lane = lane_of(desk, sink)
    [poison] = await desk.release()
    [record] = await desk.deliveries()
    for _ in range(lanes.MOST_PAUSES):
        await desk.database.write(lanes.pause, LANE, until=clock(), reason="x", now=clock(), suspects=[record.id])
        await desk.database.write(lanes.resume, LANE)
    await desk.database.write(lanes.pause, LANE, until=clock(), reason="refused", now=clock())
    sink.answer = but(poison)
    await step(lane)
    assert [message.verdict.evaluation_id for message in sink.given] == [poison]
    assert (await desk.lane(LANE)).failures == 1
    [other] = await desk.release()
    await step(lane)
    assert [message.verdict.evaluation_id for message in sink.taken] == [other]
    assert [entry["event"] for entry in logged if entry["event"].startswith("sink.")] == ["sink.resumed"]


async def test_suspects_are_few(desk: Desk, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest are remembered; what fails while a lane is down anyway counts against none."""
    monkeypatch.setattr(lanes, "MOST_SUSPECTS", 5)
    for number in range(8):
        await desk.database.write(lanes.pause, LANE, until=clock(), reason="x", now=clock(), suspects=[number])
        await desk.database.write(lanes.pause, LANE, until=clock(), reason="x", now=clock(), suspects=[number])
        await desk.database.write(lanes.resume, LANE)
    assert (await desk.lane(LANE)).suspects == dict.fromkeys(range(3, 8), 1)
