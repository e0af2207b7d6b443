"""A sink that keeps together what is about the same: each message is told what it follows, in every process."""

from datetime import timedelta
from typing import Any

import pytest

from receiver.core.envelope import Message
from receiver.offline import OfflineRunflow
from receiver.pipeline import threads as pipeline_threads
from receiver.pipeline.deliver import SinkLane
from receiver.sinks.base import Again, Done, Outcome
from receiver.store import threads
from receiver.store.database import Database
from tests.pipeline.clock import Clock, until, until_awaited
from tests.pipeline.desk import SOURCE, Desk, idle, plan_of, step
from tests.pipeline.outage import Interrupted
from tests.pipeline.recording import RecordingSink
from tests.sinks.messages import message

WEEK = timedelta(days=7)


class Threading(RecordingSink):
    """Names each message by its number, and keeps it in the thread of what it follows."""

    def __init__(self) -> None:
        super().__init__(self._place)

    def _place(self, message: Message) -> Outcome:
        here = f"C:{len(self.given)}"
        return Done(here, message.follows or here)


def lane_of(desk: Desk, sink: RecordingSink, process: str = "us", **changes: Any) -> SinkLane:
    plan = plan_of(sink, **{"concurrency": 1, "threads": WEEK, **changes})
    return SinkLane(desk.database, desk.bells, plan, source=SOURCE, process=process)


async def release(desk: Desk, client_ref: str | None) -> None:
    key = desk.runflow.add(kind="not_passed", client_ref=client_ref)
    await desk.arrive(key)
    await desk.release(0)


async def send_all(desk: Desk, lane: SinkLane) -> None:
    while "pending" in await desk.states():
        await step(lane)


async def test_messages_about_the_same_reference_follow_the_first(desk: Desk) -> None:
    """Those about others, or without one, begin their own."""
    sink = Threading()
    lane = lane_of(desk, sink)
    for reference in ("order-1", "order-2", "order-1", None, "order-1", None):
        await release(desk, reference)
        await send_all(desk, lane)
    assert [message.follows for message in sink.given] == [None, None, "C:1", None, "C:1", None]
    assert [each.remote_id for each in await desk.deliveries()] == [f"C:{number}" for number in range(1, 7)]


async def test_a_thread_ends_after_its_time(desk: Desk, clock: Clock) -> None:
    """Then the next begins one anew."""
    sink = Threading()
    lane = lane_of(desk, sink)
    for days in (0, 6, 2):
        clock.advance(days=days)
        await release(desk, "order-1")
        await send_all(desk, lane)
    assert [message.follows for message in sink.given] == [None, "C:1", None]


async def test_a_message_that_was_not_taken_begins_no_thread(desk: Desk, clock: Clock) -> None:
    """Nothing can follow what is not there."""
    sink = RecordingSink(lambda _: Again("busy"))
    lane = lane_of(desk, sink)
    await release(desk, "order-1")
    await step(lane)
    clock.advance(seconds=2)
    await step(lane)
    assert [message.follows for message in sink.given] == [None, None]


async def test_one_that_is_sent_at_once_after_another_follows_it(desk: Desk) -> None:
    """The thread is kept before the next is sent, however quick that is."""
    sink = Threading()
    lane = lane_of(desk, sink)
    for _ in range(5):
        await release(desk, "order-1")

    async def all_taken() -> bool:
        await lane.step()  # while the one before may still be under way
        return len(sink.taken) == 5

    await until_awaited(all_taken)
    assert [message.follows for message in sink.given] == [None, *["C:1"] * 4]


async def test_several_at_once_begin_one_thread(desk: Desk) -> None:
    """Of those about the same only one is sent until its thread is known; those about others do not wait for it."""
    sink = Threading()
    lane = lane_of(desk, sink, concurrency=4)
    for reference in ("order-1", "order-1", "order-1", "order-2"):
        await release(desk, reference)
    sink.open.clear()
    await lane.step()
    await until(lambda: len(sink.given) == 2)
    sink.open.set()
    await idle(lane)
    assert set(await desk.states()) == {"delivered"}
    follows = {
        each: [message.follows for message in sink.given if message.verdict.client_ref == each]
        for each in ("order-1", "order-2")
    }
    [first, second, third] = follows["order-1"]
    assert first is None
    assert second == third
    assert second is not None
    assert follows["order-2"] == [None]


async def test_who_waits_too_long_for_a_thread_is_given_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has used up no attempt, and goes when the other is done."""
    monkeypatch.setattr(pipeline_threads, "LONGEST_WAIT", 0.05)
    sink = Threading()
    lane = lane_of(desk, sink, concurrency=2)
    for _ in range(2):
        await release(desk, "order-1")
    sink.open.clear()
    await lane.step()

    async def is_given_back() -> bool:
        return sorted(await desk.states()) == ["leased", "pending"]

    await until_awaited(is_given_back)
    sink.open.set()
    await idle(lane)
    await send_all(desk, lane)
    assert [message.follows for message in sink.given] == [None, "C:1"]
    assert [each.attempts for each in await desk.deliveries()] == [1, 1]


@pytest.mark.postgres
async def test_of_two_that_begin_one_in_two_processes_the_first_that_is_noted_stays(
    postgres: tuple[Database, Database], runflow: OfflineRunflow
) -> None:
    """All that follow go into that one."""
    here, there = (Desk(each, runflow) for each in postgres)
    first, second = Threading(), Threading()
    second.given = [message(number) for number in range(8)]  # so that it names what it is given otherwise
    ours, theirs = lane_of(here, first), lane_of(there, second, "them")
    first.open.clear()
    second.open.clear()
    await release(here, "order-1")
    await ours.step()
    await until(lambda: first.busy == 1)
    await release(here, "order-1")
    await theirs.step()
    await until(lambda: second.busy == 1)
    first.open.set()
    await idle(ours)
    second.open.set()
    await idle(theirs)
    await release(here, "order-1")
    await send_all(here, ours)
    assert [each.follows for each in first.given] == [None, "C:1"]


@pytest.mark.postgres
async def test_another_process_knows_it(postgres: tuple[Database, Database], runflow: OfflineRunflow) -> None:
    """It is in the database."""
    here, there = (Desk(each, runflow) for each in postgres)
    first, second = Threading(), Threading()
    await release(here, "order-1")
    await step(lane_of(here, first))
    await release(there, "order-1")
    await step(lane_of(there, second, "them"))
    assert [message.follows for message in second.given] == ["C:1"]


async def test_a_database_that_is_away_before_the_send_sends_nothing(desk: Desk, database: Interrupted) -> None:
    """The message is given back and goes when the database is there."""
    sink = Threading()
    lane = lane_of(desk, sink)
    await release(desk, "order-1")
    database.away_for = threads.of
    await lane.step()
    await until(lambda: database.refused > 0)
    database.away_for = None
    await until(lambda: not lane._tasks.busy)
    await lane._settle.drained()
    assert sink.given == []
    await send_all(desk, lane)
    assert len(sink.given) == 1
    assert [each.attempts for each in await desk.deliveries()] == [1]
