"""Writing back what became of sends: together, once, and fenced."""

from typing import Any

import pytest
from structlog.typing import EventDict

from receiver.pipeline.deliver import MARGIN, SinkLane
from receiver.sinks.base import Done, Down, Never
from receiver.store import outbox
from tests.pipeline.clock import DEADLINE, Clock, until
from tests.pipeline.desk import SOURCE, Desk, idle, leased, plan_of, step
from tests.pipeline.outage import Interrupted
from tests.pipeline.recording import RecordingSink


def lane_of(desk: Desk, sink: RecordingSink, **changes: Any) -> SinkLane:
    return SinkLane(desk.database, desk.bells, plan_of(sink, **changes), source=SOURCE, process="us")


async def test_what_was_sent_is_not_sent_twice_for_a_database_that_is_away(desk: Desk, database: Interrupted) -> None:
    """The acknowledgement is written when the database is back, and no other send happens."""
    sink = RecordingSink()
    sink.open.clear()
    lane = lane_of(desk, sink)
    await desk.release()
    await lane.step()
    await until(lambda: sink.busy == 1)
    database.away = True
    sink.open.set()
    await until(lambda: database.refused >= 1)
    database.away = False
    await idle(lane)
    assert await desk.states() == ["delivered"]
    await step(lane)
    assert len(sink.given) == 1


async def test_a_pause_and_its_messages_outlast_a_database_that_is_away(desk: Desk, database: Interrupted) -> None:
    """A sink that is down while the database is away is paused when it is back, and nothing stays leased."""
    sink = RecordingSink(lambda _: Down("refused"))
    sink.open.clear()
    lane = lane_of(desk, sink)
    await desk.release()
    await lane.step()
    await until(lambda: sink.busy == 1)
    database.away = True
    sink.open.set()
    await until(lambda: database.refused >= 1)
    database.away = False
    await idle(lane)
    assert (await desk.lane("sink:log")).failures == 1
    assert await leased(database) == 0


async def test_acknowledgements_are_written_together(desk: Desk, database: Interrupted) -> None:
    """What ends while one write is under way goes into the next."""
    sink = RecordingSink()
    lane = lane_of(desk, sink, concurrency=20)
    await desk.release(20)
    await lane.step()
    database.slow.clear()
    await until(lambda: len(sink.taken) == 20)
    assert database.waiting <= 1
    database.slow.set()
    await idle(lane)
    assert await desk.states() == ["delivered"] * 20


async def test_a_lost_lease_among_others_is_fenced(desk: Desk, clock: Clock) -> None:
    """Whoever lost a lease writes nothing over what the new holder wrote, and its other messages are none the worse."""
    ours, theirs = RecordingSink(lambda _: Never("ours")), RecordingSink(lambda _: Done("theirs"))
    ours.open.clear()
    first, second = lane_of(desk, ours, concurrency=5), lane_of(desk, theirs)
    await desk.release(2)
    await first.step()
    await until(lambda: ours.busy == 2)
    await step(second)
    assert theirs.given == []
    clock.advance(seconds=DEADLINE + 3 * MARGIN)
    await step(second)
    await desk.release(1)
    await first.step()
    await until(lambda: ours.busy == 3)
    ours.open.set()
    await idle(first)
    records = await desk.deliveries()
    assert [(each.state, each.remote_id, each.attempts) for each in records] == [
        ("delivered", "theirs", 2), ("delivered", "theirs", 2), ("dead", None, 1),
    ]  # fmt: skip


async def test_a_defect_in_the_write_back_leaves_the_message_to_its_lease(
    desk: Desk, database: Interrupted, clock: Clock, monkeypatch: pytest.MonkeyPatch, logged: list[EventDict]
) -> None:
    """It is told, the place is free, and the message is sent again when the lease has ended."""
    sink = RecordingSink()
    lane = lane_of(desk, sink, timeout=10)
    await desk.release()
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "settle", lambda *_: 1 / 0)
        await step(lane)
    assert await desk.states() == ["leased"]
    assert lane._ahead.free == 2
    assert [entry["event"] for entry in logged if entry["log_level"] == "error"] == ["pipeline.task_failed"]
    clock.advance(seconds=30)
    await step(lane)
    assert (len(sink.given), await desk.states()) == (2, ["delivered"])


async def test_nothing_is_begun_while_a_pause_is_written(desk: Desk, database: Interrupted) -> None:
    """Who knows that its sink is down does not wait for the database to know it too; all that failed is one pause."""
    sink = RecordingSink(lambda _: Down("refused"))
    sink.open.clear()
    lane = lane_of(desk, sink)
    await desk.release(6)
    await lane.step()
    await until(lambda: sink.busy == 2)
    database.slow.clear()
    sink.open.set()
    await until(lambda: database.waiting == 1)
    assert await lane.step() is None
    assert database.waiting == 1
    database.slow.set()
    await idle(lane)
    assert (len(sink.given), (await desk.lane("sink:log")).failures) == (2, 1)
    assert await leased(database) == 0
