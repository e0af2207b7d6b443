"""A burst: when one message goes by itself, and when what is due waits to be sent together."""

from bisect import bisect
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.pipeline.burst import Burst
from receiver.pipeline.deliver import SinkLane
from receiver.sinks.base import Again, Done, Gathering, Outcome
from receiver.sinks.slack import SlackOptions
from receiver.store.database import Database
from tests.pipeline.clock import Clock
from tests.pipeline.desk import SOURCE, Desk, plan_of, step
from tests.pipeline.recording import RecordingSink

START = datetime(2026, 11, 18, 14, 0)  # noqa: DTZ001 (only differences matter)
SECOND = timedelta(seconds=1)
RULES = Gathering(after=2, within=60 * SECOND, first=30 * SECOND, longest=100 * SECOND)
BATCH = 5


class GatheringSink(RecordingSink):
    """Takes up to five at once."""

    batch = BATCH


def lane_of(desk: Desk, sink: RecordingSink, process: str = "us", rules: Gathering = RULES) -> SinkLane:
    plan = plan_of(sink, concurrency=1, gathering=rules)
    return SinkLane(desk.database, desk.bells, plan, source=SOURCE, process=process)


async def test_the_first_go_at_once_and_the_rest_together(desk: Desk, clock: Clock) -> None:
    """After `after` messages the others wait for `first`, unclaimed, and are one send; each delivery is settled."""
    sink = GatheringSink()
    lane = lane_of(desk, sink)
    await desk.release(6)
    for _ in range(4):
        await step(lane)
    assert sink.sizes == [1, 1]
    assert await step(lane) == clock() + 30 * SECOND
    assert sorted(await desk.states()) == ["delivered"] * 2 + ["pending"] * 4
    clock.advance(seconds=29)
    await step(lane)
    assert sink.sizes == [1, 1]
    clock.advance(seconds=1)
    await step(lane)
    assert sink.sizes == [1, 1, 4]
    assert await desk.states() == ["delivered"] * 6


async def test_each_in_a_row_gathers_for_longer_until_it_is_quiet(desk: Desk, clock: Clock) -> None:
    """30 s, a minute, then `longest`; after a quiet time the next message goes by itself at once."""
    sink = GatheringSink()
    lane = lane_of(desk, sink)
    await desk.release(2)
    await step(lane)
    await step(lane)
    for waits in (30, 60, 100, 100):
        await desk.release(3)
        assert await step(lane) == clock() + waits * SECOND
        clock.advance(seconds=waits)
        await step(lane)
        assert sink.sizes[-1] == 3
    clock.advance(seconds=60)
    await desk.release(1)
    await step(lane)
    assert sink.sizes[-1] == 1
    await desk.release(3)
    await step(lane)
    await step(lane)
    assert sink.sizes[-2:] == [1, 1]
    assert await step(lane) == clock() + 30 * SECOND


async def test_what_is_more_than_fits_follows_at_once(desk: Desk, clock: Clock) -> None:
    """It has waited as long."""
    sink = GatheringSink()
    lane = lane_of(desk, sink)
    await desk.release(2 + 12)
    for _ in range(3):
        await step(lane)
    clock.advance(seconds=30)
    for _ in range(3):
        await step(lane)
    assert sink.sizes == [1, 1, 5, 5, 2]
    assert await desk.states() == ["delivered"] * 14


async def test_a_send_that_failed_is_gathered_again(desk: Desk, clock: Clock) -> None:
    """Each of its messages is tried again, and they are not torn apart for it."""
    sink = GatheringSink()
    lane = lane_of(desk, sink)
    await desk.release(6)
    await step(lane)
    await step(lane)
    await step(lane)
    clock.advance(seconds=30)
    sink.answer = lambda _: Again("busy")
    await step(lane)
    assert (sink.sizes[-1], sorted(await desk.states())) == (4, ["delivered"] * 2 + ["pending"] * 4)
    sink.answer = lambda _: Done()
    clock.advance(seconds=2)
    await step(lane)
    clock.advance(seconds=60)
    await step(lane)
    assert sink.sizes == [1, 1, 4, 4]
    assert await desk.states() == ["delivered"] * 6


async def test_each_of_a_send_has_its_outcome(desk: Desk, clock: Clock) -> None:
    """As for every batch."""
    outcomes: dict[int, Outcome] = {}
    sink = GatheringSink(lambda message: outcomes[message.verdict.evaluation_id.int])
    lane = lane_of(desk, sink)
    await desk.release(4)
    keys = [each.evaluation_id for each in await desk.deliveries()]
    outcomes |= {key.int: Done(f"at {number}") for number, key in enumerate(keys)}
    await step(lane)
    await step(lane)
    await step(lane)
    clock.advance(seconds=30)
    outcomes[keys[3].int] = Again("busy")
    await step(lane)
    records = await desk.deliveries()
    assert [(each.state, each.remote_id) for each in records] == [
        ("delivered", "at 0"),
        ("delivered", "at 1"),
        ("delivered", "at 2"),
        ("pending", None),
    ]


async def test_one_process_gathers_for_all(desk: Desk, postgres: tuple[Database, Database], clock: Clock) -> None:
    """Another does not begin anew while the first waits; when the first has died it takes over, and nothing is lost."""
    database, other = postgres
    first, second = GatheringSink(), GatheringSink()
    here, there = Desk(database, desk.runflow), Desk(other, desk.runflow)
    ours, theirs = lane_of(here, first), lane_of(there, second, "them")
    await here.release(6)
    await step(ours)
    await step(ours)
    await step(ours)
    clock.advance(seconds=29)
    await step(theirs)
    assert (first.sizes, second.sizes) == ([1, 1], [])
    clock.advance(seconds=32)  # the first is gone: it would have sent by now
    for _ in range(3):
        await step(theirs)
    clock.advance(seconds=30)
    await step(theirs)
    assert (first.sizes, second.sizes) == ([1, 1], [1, 1, 2])
    assert await here.states() == ["delivered"] * 6


@given(
    st.lists(st.tuples(st.floats(0.1, 90), st.integers(0, 4)), max_size=60),
    st.integers(1, 4),
    st.integers(1, 40),
)
def test_nothing_waits_longer_than_longest_and_sends_are_few(
    steps: list[tuple[float, int]], after: int, first: int
) -> None:
    """Whatever comes when: what is due is sent within `longest`, and in no `within` more than `after` go by themselves."""
    rules = Gathering(after, 60 * SECOND, first * SECOND, 100 * SECOND)
    burst, now, waiting, since = Burst(rules, 10_000), START, 0, START
    alone: list[datetime] = []
    for passes, come in steps:
        now += passes * SECOND
        if come and not waiting:
            since = now
        waiting += come
        while waiting and (until := burst.waits_until(now)) is None and (count := burst.permits(now)):
            assert now - since <= rules.longest + 90 * SECOND  # the steps are as far apart as that
            sent = min(count, waiting)
            if sent < waiting:
                alone.append(now)
            burst.claimed(sent, now)
            waiting -= sent
        if waiting:
            until = burst.waits_until(now)
            assert until is not None
            assert now < until <= since + rules.longest
    for moment in alone:
        assert sum(moment - rules.within < each <= moment for each in alone) <= after


def messages(arrivals: list[float]) -> int:
    """How many sends come of these, by Slack's defaults: at most one a second, looked at each half second."""
    gathering = SlackOptions(name="slack", url="https://hooks.slack.com/services/T/B/x").gathering
    assert gathering is not None
    burst, gone, sends, sent_at, seconds = Burst(gathering, 500), 0, 0, -1.0, 0.0
    while gone < len(arrivals):
        come = bisect(arrivals, seconds) - gone
        now = START + seconds * SECOND
        if come and seconds - sent_at >= 1 and (count := min(burst.permits(now), come)):
            burst.claimed(count, now)
            gone, sends, sent_at = gone + count, sends + 1, seconds
        seconds += 0.5
    return sends


@pytest.mark.parametrize(
    ("arrivals", "told_in"),
    [
        ([number * 10 / 18 for number in range(18)], 2),
        ([0.0] * 500, 2),
        ([number * 0.12 for number in range(500)], 3),
        ([number * 1.2 for number in range(500)], 6),
        ([float(number) for number in range(3600)], 15),
        ([number * 90.0 for number in range(20)], 20),
    ],
)
def test_how_many_messages_the_page_promises(arrivals: list[float], told_in: int) -> None:
    """docs/sinks.md tells these."""
    assert messages(arrivals) == told_in
