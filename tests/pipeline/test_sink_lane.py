"""Delivering to one sink: what each outcome does to the message, and to the sink."""

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert
from structlog.typing import EventDict

from receiver.core.envelope import Message
from receiver.core.retry import USUAL, Waits
from receiver.core.verdict import without_tree
from receiver.pipeline import deliver
from receiver.pipeline.deliver import FIRST_PAUSE, LONGEST_ASKED_WAIT, LONGEST_PAUSE, SinkLane
from receiver.sinks.base import Again, Done, Down, Never, Outcome
from receiver.store.results import Found, new_delivery, release
from receiver.store.tables import deliveries
from tests.pipeline.clock import Clock, until
from tests.pipeline.desk import SOURCE, Desk, idle, plan_of, step
from tests.pipeline.outage import Interrupted
from tests.pipeline.recording import BatchingSink, RecordingSink

HOUR = timedelta(hours=1)


def lane_of(desk: Desk, sink: RecordingSink, **changes: Any) -> SinkLane:
    return SinkLane(desk.database, desk.bells, plan_of(sink, **changes), source=SOURCE, process="us")


async def test_done_is_delivered(desk: Desk, clock: Clock) -> None:
    """The other side's own name for it is kept, and nothing more is due."""
    sink = RecordingSink(lambda _: Done("1-0"))
    lane = lane_of(desk, sink)
    [key] = await desk.release()
    await step(lane)
    delivery = await desk.delivery()
    assert (delivery.state, delivery.remote_id, delivery.attempts) == ("delivered", "1-0", 1)
    assert (delivery.due_at, delivery.ended_at) == (None, clock())
    [message] = sink.given
    assert message.id == message.key == f"{key}:evaluation.completed:1"
    assert message.source == SOURCE
    assert await step(lane) is None
    assert len(sink.given) == 1


async def test_again_comes_back_at_growing_distances(desk: Desk, clock: Clock, logged: list[EventDict]) -> None:
    """The wait doubles up to an hour, the reason is kept and told, and the lane says when to look again."""
    sink = RecordingSink(lambda _: Again("busy"))
    lane = lane_of(desk, sink, dead_after=timedelta(days=30))
    [key] = await desk.release()
    for attempt in range(1, 16):
        await step(lane)
        delivery = await desk.delivery()
        wait = min(USUAL.first * 2 ** (attempt - 1), USUAL.longest)
        assert (delivery.state, delivery.attempts, delivery.last_error) == ("pending", attempt, "busy")
        assert delivery.due_at is not None
        assert clock() + wait / 2 <= delivery.due_at <= clock() + wait
        assert await step(lane) == delivery.due_at
        assert len(sink.given) == attempt
        clock.moment = delivery.due_at
    told = [entry for entry in logged if entry["event"] == "delivery.again"]
    assert [entry["attempt"] for entry in told] == [*range(1, 16)]
    assert (told[0]["sink"], told[0]["evaluation_id"], told[0]["reason"]) == ("log", str(key), "busy")
    sink.answer = lambda _: Done()
    await step(lane)
    assert await desk.states() == ["delivered"]
    assert len({message.key for message in sink.given}) == 1


async def test_an_outage_is_a_few_lines_in_the_log(desk: Desk, clock: Clock, logged: list[EventDict]) -> None:
    """One at the beginning, one a minute that says how many failed, one at the end; each failure stays with its delivery."""
    sink = RecordingSink(lambda _: Again("no answer in time"))
    lane = lane_of(desk, sink, concurrency=20, retry=Waits(timedelta(seconds=10), timedelta(seconds=10), 1.0))
    await desk.release(20)
    start = clock()
    while clock() - start < timedelta(minutes=10):
        await step(lane)
        clock.advance(seconds=10)
    told = [entry for entry in logged if entry["event"] == "delivery.again" and entry["log_level"] == "warning"]
    assert len(told) == 10
    assert told[0]["failures"] == 1
    tried = len(sink.given)
    assert tried >= 20 * 50
    assert {(each.state, each.last_error) for each in await desk.deliveries()} == {("pending", "no answer in time")}
    assert sum([each.attempts for each in await desk.deliveries()]) == tried
    sink.answer = lambda _: Done()
    await step(lane)
    assert [entry["failures"] for entry in logged if entry["event"] == "delivery.recovered"] == [tried]
    assert set(await desk.states()) == {"delivered"}


async def test_a_sink_that_fails_now_and_then_is_a_line_a_minute(
    desk: Desk, clock: Clock, logged: list[EventDict]
) -> None:
    """Where every other message fails, the log has no line for each."""
    turns = iter(range(10_000))
    sink = RecordingSink(lambda _: Done() if next(turns) % 2 else Again("busy"))
    lane = lane_of(desk, sink, concurrency=1)
    for _ in range(120):
        await desk.release()
        await step(lane)
        clock.advance(seconds=1)
    told = [entry["event"] for entry in logged if entry["log_level"] != "debug"]
    assert told.count("delivery.again") == told.count("delivery.recovered") == 2
    assert len(sink.given) - len(sink.taken) >= 50


@pytest.mark.parametrize(
    ("asked", "wait"),
    [(30.0, timedelta(seconds=30)), (90_000.0, LONGEST_ASKED_WAIT), (math.inf, LONGEST_ASKED_WAIT)],
)
async def test_again_waits_at_least_as_long_as_it_is_asked_to(
    desk: Desk, clock: Clock, asked: float, wait: timedelta
) -> None:
    """`after` is heeded, up to an hour."""
    lane = lane_of(desk, RecordingSink(lambda _: Again("busy", after=asked)))
    await desk.release()
    await step(lane)
    assert (await desk.delivery()).due_at == clock() + wait


@pytest.mark.parametrize("asked", [-5.0, math.nan, None])
async def test_a_wait_that_makes_no_sense_is_none(desk: Desk, clock: Clock, asked: float | None) -> None:
    """The usual wait stands where the other side asks for nothing that could be heeded."""
    lane = lane_of(desk, RecordingSink(lambda _: Again("busy", after=asked)))
    await desk.release()
    await step(lane)
    due_at = (await desk.delivery()).due_at
    assert due_at is not None
    assert clock() + USUAL.first / 2 <= due_at <= clock() + USUAL.first


async def test_again_has_an_end(desk: Desk, clock: Clock, logged: list[EventDict]) -> None:
    """What fails for as long as `dead_after` is a dead letter that says why, and the log is told."""
    lane = lane_of(desk, RecordingSink(lambda _: Again("busy")), dead_after=timedelta(hours=2))
    await desk.release()
    await step(lane)
    clock.advance(timedelta(hours=2) - timedelta(seconds=1))
    await step(lane)
    assert await desk.states() == ["pending"]
    clock.advance(USUAL.longest)
    await step(lane)
    delivery = await desk.delivery()
    assert (delivery.state, delivery.attempts, delivery.ended_at) == ("dead", 3, clock())
    assert delivery.last_error == "given up after 2:00:00: busy"
    assert [entry["log_level"] for entry in logged if entry["event"] == "delivery.dead"] == ["warning"]


@pytest.mark.parametrize(
    ("waits", "seconds"),
    [
        (Waits(timedelta(seconds=5), timedelta(seconds=5), 1.0), [5, 5, 5]),
        (Waits(timedelta(seconds=2), HOUR, 30.0), [2, 60, 1800]),
    ],
)
async def test_waits_as_it_is_told(desk: Desk, clock: Clock, waits: Waits, seconds: list[int]) -> None:
    """The waits are those of the sink's own settings."""
    lane = lane_of(desk, RecordingSink(lambda _: Again("busy")), retry=waits)
    await desk.release()
    for wait in seconds:
        await step(lane)
        due_at = (await desk.delivery()).due_at
        assert due_at is not None
        assert timedelta(seconds=wait / 2) <= due_at - clock() <= timedelta(seconds=wait)
        clock.moment = due_at


async def test_time_counts_from_the_first_attempt(desk: Desk, clock: Clock) -> None:
    """A message that waited for a sink that was down has all of `dead_after` before it when its first attempt fails."""
    sink = RecordingSink(lambda _: Down("refused"))
    lane = lane_of(desk, sink, dead_after=timedelta(hours=2))
    await desk.release()
    await step(lane)
    sink.answer = lambda _: Again("busy")
    clock.advance(days=9)
    await step(lane)
    assert [(each.state, each.attempts) for each in await desk.deliveries()] == [("pending", 1)]
    clock.advance(hours=1)
    await step(lane)
    assert await desk.states() == ["pending"]
    clock.advance(hours=1)
    await step(lane)
    assert await desk.states() == ["dead"]


async def test_never_is_a_dead_letter(desk: Desk) -> None:
    """It is not tried again, and the next message is sent all the same."""
    sink = RecordingSink(lambda _: Never("too long: 300 bytes over"))
    lane = lane_of(desk, sink)
    await desk.release()
    await step(lane)
    delivery = await desk.delivery()
    assert (delivery.state, delivery.last_error) == ("dead", "too long: 300 bytes over")
    sink.answer = lambda _: Done()
    await desk.release()
    await step(lane)
    assert await desk.states() == ["dead", "delivered"]


async def test_down_pauses_the_sink_and_not_the_message(desk: Desk, clock: Clock, logged: list[EventDict]) -> None:
    """Nothing is sent during the pause and no attempt is used up; one probe at a time follows, and the first taken resumes."""
    sink = RecordingSink(lambda _: Down("refused"))
    lane = lane_of(desk, sink)
    await desk.release(4)
    await step(lane)
    assert len(sink.given) == 2
    for failures in range(1, 11):
        state = await desk.lane("sink:log")
        longest = min(FIRST_PAUSE * 2 ** (failures - 1), LONGEST_PAUSE)
        assert (state.failures, state.reason) == (failures, "refused")
        assert state.paused_until is not None
        assert clock() + longest / 2 <= state.paused_until <= clock() + longest
        assert await step(lane) == state.paused_until
        assert len(sink.given) == 1 + failures
        clock.moment = state.paused_until
        await step(lane)
        assert len(sink.given) == 2 + failures
    records = await desk.deliveries()
    assert [(each.state, each.attempts) for each in records] == [("pending", 0)] * 4
    sink.answer = lambda _: Done()
    clock.advance(LONGEST_PAUSE)
    await step(lane)
    assert sorted(await desk.states()) == ["delivered", *["pending"] * 3]
    while "pending" in await desk.states():
        await step(lane)
    assert await desk.states() == ["delivered"] * 4
    events = [(entry["event"], entry["sink"]) for entry in logged if entry["event"].startswith("sink.p")]
    assert events == [("sink.paused", "log")]
    assert [entry["event"] for entry in logged if entry["event"] == "sink.resumed"] == ["sink.resumed"]


async def test_down_pauses_for_as_long_as_it_is_asked_to(desk: Desk, clock: Clock) -> None:
    """A sink that says when it can take something again is left alone until then."""
    lane = lane_of(desk, RecordingSink(lambda _: Down("rate limited", after=77)))
    await desk.release()
    assert await step(lane) is not None
    assert (await desk.lane("sink:log")).paused_until == clock() + timedelta(seconds=77)


async def test_down_never_makes_a_dead_letter(desk: Desk, clock: Clock) -> None:
    """A sink that was down for longer than `dead_after` has used up no message."""
    sink = RecordingSink(lambda _: Down("refused"))
    lane = lane_of(desk, sink, dead_after=timedelta(hours=1))
    await desk.release()
    await step(lane)
    clock.advance(days=3)
    await step(lane)
    assert await desk.states() == ["pending"]
    sink.answer = lambda _: Done()
    clock.advance(days=3)
    await step(lane)
    assert await desk.states() == ["delivered"]


async def test_a_probe_that_fails_by_itself_ends_the_pause(desk: Desk, clock: Clock) -> None:
    """A sink that answers about one message is not down any more."""
    sink = RecordingSink(lambda _: Down("refused"))
    lane = lane_of(desk, sink)
    await desk.release(2)
    await step(lane)
    sink.answer = lambda _: Never("too long")
    clock.advance(LONGEST_PAUSE)
    await step(lane)
    assert sorted(await desk.states()) == ["dead", "pending"]
    assert (await desk.lane("sink:log")).failures == 0


async def test_no_probe_beside_one_that_is_under_way(desk: Desk, clock: Clock) -> None:
    """While the probe hangs further steps start nothing; its end rings the bell when the next may be started."""
    sink = RecordingSink(lambda _: Down("refused"))
    lane = lane_of(desk, sink, concurrency=4)
    await desk.release(4)
    await step(lane)
    sink.given.clear()
    sink.open.clear()
    clock.advance(LONGEST_PAUSE)
    await lane.step()
    await until(lambda: sink.busy == 1)
    await lane.step()
    assert len(sink.given) == 1
    sink.answer = lambda _: Done()
    sink.open.set()
    await idle(lane)
    await step(lane)
    assert len(sink.given) == 4


class Broken(RecordingSink):
    """A sink with a defect."""

    def __init__(self, defect: Any) -> None:
        super().__init__()
        self._defect = defect

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        self.given += messages
        result: Sequence[Outcome] = self._defect(messages)
        return result


def raises(messages: Sequence[Message]) -> Sequence[Outcome]:
    raise KeyError(messages[0].id)


async def test_an_exception_in_a_sink_is_tried_again_and_told(desk: Desk, logged: list[EventDict]) -> None:
    """The message is not lost, and the log has the traceback once for each attempt."""
    lane = lane_of(desk, Broken(raises))
    await desk.release()
    await step(lane)
    delivery = await desk.delivery()
    assert (delivery.state, delivery.attempts) == ("pending", 1)
    assert delivery.last_error == "the sink failed (KeyError)"
    [told] = [entry for entry in logged if entry["event"] == "delivery.sink_failed"]
    assert isinstance(told["exc_info"], KeyError)


@pytest.mark.parametrize("count", [0, 2])
async def test_a_wrong_number_of_outcomes_says_nothing_of_any(desk: Desk, count: int) -> None:
    """Which message an outcome was meant for cannot be known, so all are tried again."""
    lane = lane_of(desk, Broken(lambda _: [Done()] * count))
    await desk.release()
    await step(lane)
    assert [(each.state, each.attempts) for each in await desk.deliveries()] == [("pending", 1)]


async def test_a_sink_that_hangs_is_cut_off(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its own timeout and a margin the attempt has failed, and its place is free."""
    monkeypatch.setattr(deliver, "MARGIN", 0.01)
    sink = RecordingSink()
    sink.open.clear()
    lane = lane_of(desk, sink, timeout=0.01)
    await desk.release()
    await step(lane)
    delivery = await desk.delivery()
    assert (delivery.state, delivery.attempts, delivery.last_error) == ("pending", 1, "no answer within 0.02 s")
    assert lane._ahead.free == 2


async def test_messages_go_in_batches_and_each_has_its_outcome(desk: Desk) -> None:
    """As many at once as the sink takes and there is room for, oldest first; one that fails costs the others nothing."""
    keys: list[UUID] = []
    outcomes: dict[int, Outcome] = {0: Done("a"), 1: Again("busy"), 2: Never("no"), 3: Done("b")}
    sink = BatchingSink(lambda message: outcomes[keys.index(message.verdict.evaluation_id) % 4])
    lane = lane_of(desk, sink)
    await desk.release(10)
    keys += [each.evaluation_id for each in await desk.deliveries()]
    await step(lane)
    assert sink.sizes == [4, 4]
    assert [message.verdict.evaluation_id for message in sink.given] == keys[:8]
    assert (await desk.states())[:8] == ["delivered", "pending", "dead", "delivered"] * 2
    await step(lane)
    assert sink.sizes == [4, 4, 2]
    assert [each.remote_id for each in await desk.deliveries()][:4] == ["a", None, None, "b"]


async def test_down_in_a_batch_pauses_the_sink_and_the_rest_is_kept(desk: Desk) -> None:
    """What was done before the sink went down is delivered, the rest waits."""
    sink = BatchingSink(lambda message: Down("gone") if len(sink.taken) == 2 else Done())
    lane = lane_of(desk, sink)
    await desk.release(4)
    await step(lane)
    assert [(each.state, each.attempts) for each in await desk.deliveries()] == [
        ("delivered", 1), ("delivered", 1), ("pending", 0), ("pending", 0),
    ]  # fmt: skip
    assert (await desk.lane("sink:log")).failures == 1


async def test_no_more_at_once_than_there_may_be(desk: Desk) -> None:
    """Further steps start nothing while there is no room; the bell rings when there is, so that nothing is left waiting."""
    sink = RecordingSink()
    sink.open.clear()
    lane = lane_of(desk, sink, concurrency=3)
    await desk.release(5)
    await lane.step()
    await until(lambda: sink.busy == 3)
    assert await lane.step() is None
    bell = desk.bells.bell(lane.name)
    bell.clear()
    sink.open.set()
    await until(bell.is_set)
    assert lane._ahead.free >= 1
    await idle(lane)
    await step(lane)
    assert (sink.busiest, await desk.states()) == (3, ["delivered"] * 5)


async def test_a_replay_has_a_key_of_its_own(desk: Desk, database: Interrupted) -> None:
    """It keeps the message's id, and gives the broker another key, for it is meant to arrive."""
    sink = RecordingSink()
    lane = lane_of(desk, sink)
    [key] = await desk.release()
    row = new_delivery(key, "log", 1, database.now(), "r7")
    await database.write(lambda conn: conn.execute(insert(deliveries), [row]).close())
    await step(lane)
    first, second = sorted(sink.given, key=lambda message: message.key)
    assert first.id == second.id == first.key
    assert second.key == f"{first.id}:r7"
    assert await desk.states() == ["delivered"] * 2


async def test_an_earlier_revision_still_goes_out_as_it_was(desk: Desk) -> None:
    """A delivery that waited while its verdict was revised carries the revision that it is of."""
    sink = RecordingSink()
    lane = lane_of(desk, sink)
    [key] = await desk.release()
    revised = Found(without_tree(await desk.verdict(key), "changed"), b"{}")
    await desk.database.write(release, [revised], desk.routes, desk.database.now())
    await step(lane)
    await step(lane)
    told = sorted((message.verdict.revision, message.verdict.tree_reason) for message in sink.given)
    assert told == [(1, "no_api_key"), (2, "changed")]


async def test_a_lane_rests_when_there_is_nothing_to_do(desk: Desk) -> None:
    """With nothing due, and while the sink is paused, a step does not wake its own lane again."""
    sink = RecordingSink(lambda _: Down("refused", after=100))
    lane = lane_of(desk, sink)
    bell = desk.bells.bell(lane.name)
    assert await step(lane) is None
    assert not bell.is_set()
    await desk.release(3)
    await step(lane)
    bell.clear()
    assert await step(lane) is not None
    assert not bell.is_set()
