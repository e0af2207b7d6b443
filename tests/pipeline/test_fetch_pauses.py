"""The fetch lane's own failures: limits, a key that is refused, embeds that are refused."""

import asyncio
from datetime import timedelta
from typing import Literal
from uuid import UUID

import pytest
from structlog.typing import EventDict

from receiver.core.evaluation import NARROW_EMBEDS, WIDE_EMBEDS
from receiver.offline.faults import EmbedsRefused, Fault, RateLimited, ServerError
from receiver.pipeline.fetch import FIRST_PAUSE, LONGEST_PAUSE, FetchLane, FetchPace
from receiver.runflow.client import RunflowClient
from receiver.store import lanes
from tests.pipeline.clock import Clock, until
from tests.pipeline.desk import HOLD, Desk, idle, step
from tests.pipeline.gate import Gate
from tests.pipeline.outage import Interrupted


@pytest.fixture
def lane(desk: Desk, client: RunflowClient) -> FetchLane:
    """A lane that fetches one at a time, so that it is known which one."""
    return FetchLane(desk.database, desk.bells, client, desk.routes, FetchPace(concurrency=1))


def asked(desk: Desk) -> int:
    return len(desk.runflow.requests)


def embeds_of(desk: Desk) -> list[tuple[str, ...]]:
    return [tuple(request.query["embed"].split(",")) for request in desk.runflow.requests]


async def complete(desk: Desk) -> int:
    return sum([delivery.revision == 1 for delivery in await desk.deliveries()])


async def after_the_pause(desk: Desk, clock: Clock) -> None:
    """Moves the clock to where the lane may be tried again."""
    moment = (await desk.lane(lanes.FETCH)).paused_until
    assert moment is not None
    clock.moment = moment


async def test_a_limit_pauses_everyone_for_as_long_as_it_says(desk: Desk, lane: FetchLane, clock: Clock) -> None:
    """429 with Retry-After: nothing at all is asked until then, no attempt is used, and then all go on."""
    desk.runflow.faults.rate_limited = RateLimited(count=1, retry_after=40)
    keys = desk.add(3)
    await desk.arrive(*keys)
    await step(lane)
    assert (await desk.lane(lanes.FETCH)).paused_until == clock() + timedelta(seconds=40)
    assert await step(lane) == clock() + timedelta(seconds=40)
    clock.advance(seconds=39)
    await step(lane)
    assert asked(desk) == 1
    assert {(await desk.fetch(key)).attempts for key in keys} == {0}
    clock.advance(seconds=1)
    for _ in keys:
        await step(lane)
    assert await complete(desk) == 3
    assert (await desk.lane(lanes.FETCH)).failures == 0


async def test_a_limit_that_says_nothing_pauses_for_a_while(desk: Desk, lane: FetchLane, clock: Clock) -> None:
    """429 without Retry-After: pauses that double while probes fail, up to five minutes; no attempt is used."""
    desk.runflow.faults.rate_limited = RateLimited()
    [key] = desk.add()
    await desk.arrive(key)
    for failures in range(1, 10):
        await step(lane)
        lane_state = await desk.lane(lanes.FETCH)
        longest = min(FIRST_PAUSE * 2 ** (failures - 1), LONGEST_PAUSE)
        assert lane_state.failures == failures
        assert lane_state.paused_until is not None
        assert clock() + longest / 2 <= lane_state.paused_until <= clock() + longest
        clock.moment = lane_state.paused_until
    fetch = await desk.fetch(key)
    assert (fetch.attempts, fetch.last_error) == (0, "rate_limited")


async def test_those_under_way_together_pause_once(desk: Desk, client: RunflowClient, clock: Clock) -> None:
    """Several that are told 429 at once are one pause, and none has used an attempt."""
    lane = FetchLane(desk.database, desk.bells, client, desk.routes, FetchPace(concurrency=5))
    desk.runflow.faults.rate_limited = RateLimited(retry_after=40)
    keys = desk.add(5)
    await desk.arrive(*keys)
    await step(lane)
    assert asked(desk) == 5
    assert (await desk.lane(lanes.FETCH)).failures == 1
    assert {(await desk.fetch(key)).attempts for key in keys} == {0}
    clock.advance(seconds=40)
    await step(lane)
    assert asked(desk) == 6


async def test_a_refused_key_pauses_and_is_told_once(
    desk: Desk, client: RunflowClient, clock: Clock, logged: list[EventDict]
) -> None:
    """401: one probe at a time until the key works, one line of error, no attempt used; then it goes on by itself."""
    lane = FetchLane(desk.database, desk.bells, client, desk.routes, FetchPace(concurrency=5))
    desk.runflow.faults.key_revoked = Fault()
    keys = desk.add(5)
    await desk.arrive(*keys)
    await step(lane)
    assert asked(desk) == 5
    for probe in range(1, 4):
        await after_the_pause(desk, clock)
        await step(lane)
        assert asked(desk) == 5 + probe
    assert {(await desk.fetch(key)).attempts for key in keys} == {0}
    assert [entry["log_level"] for entry in logged if entry["event"] == "fetch.paused"] == ["error"]
    desk.runflow.faults.key_revoked = None
    await after_the_pause(desk, clock)
    await step(lane)
    assert (await complete(desk), asked(desk)) == (1, 9)
    await step(lane)
    assert await complete(desk) == 5
    assert len([entry for entry in logged if entry["event"] == "fetch.resumed"]) == 1


async def test_nothing_is_begun_while_a_pause_is_written(
    desk: Desk, database: Interrupted, gate: tuple[Gate, RunflowClient]
) -> None:
    """Who knows that all must wait does not wait for the database to know it too."""
    api, client = gate
    lane = FetchLane(desk.database, desk.bells, client, desk.routes, FetchPace(concurrency=2))
    desk.runflow.faults.rate_limited = RateLimited(retry_after=40)
    keys = desk.add(6)
    await desk.arrive(*keys)
    api.open.clear()
    await lane.step()
    await until(lambda: api.waiting == 2)
    database.slow.clear()
    api.open.set()
    await until(lambda: database.waiting == 1)
    stepping = asyncio.create_task(lane.step())
    await until(lambda: database.waiting == 2)
    database.slow.set()
    await stepping
    await idle(lane)
    assert (asked(desk), (await desk.lane(lanes.FETCH)).failures) == (2, 1)
    assert {(await desk.fetch(key)).leased for key in keys} == {False}


async def test_one_probe_at_a_time(desk: Desk, gate: tuple[Gate, RunflowClient], clock: Clock) -> None:
    """While a probe is under way nothing else is started; when it is taken the others follow."""
    api, client = gate
    lane = FetchLane(desk.database, desk.bells, client, desk.routes, FetchPace(concurrency=5))
    desk.runflow.faults.key_revoked = Fault(count=1)
    await desk.arrive(*desk.add())
    await step(lane)
    await desk.arrive(*desk.add(3))
    await after_the_pause(desk, clock)
    api.open.clear()
    await lane.step()
    await until(lambda: api.waiting == 1)
    await lane.step()
    assert lane._ahead.free == 4
    api.open.set()
    await idle(lane)
    assert (asked(desk), await complete(desk)) == (2, 1)
    await step(lane)
    assert (asked(desk), await complete(desk)) == (5, 4)


async def test_what_is_held_goes_out_during_a_pause(desk: Desk, lane: FetchLane, clock: Clock) -> None:
    """The hold runs on while the lane is paused; what was refused says so, what was never tried says that."""
    desk.runflow.faults.key_revoked = Fault()
    tried, untried = desk.add(2)
    await desk.arrive(tried)
    await step(lane)
    await desk.arrive(untried)
    await desk.database.write(
        lanes.pause, lanes.FETCH, until=clock() + 2 * HOLD, reason="", now=clock() + LONGEST_PAUSE
    )
    clock.advance(HOLD)
    requests = asked(desk)
    await step(lane)
    assert asked(desk) == requests
    assert [(await desk.verdict(key)).tree_reason for key in (tried, untried)] == ["key_refused", "not_fetched_in_time"]
    assert await desk.states() == ["pending", "pending"]


async def test_a_probe_that_finds_another_failure_does_not_resume(desk: Desk, lane: FetchLane, clock: Clock) -> None:
    """An API that answers 5xx after a pause has not shown that the key works; one that knows no such evaluation has."""
    desk.runflow.faults.key_revoked = Fault(count=1)
    keys = desk.add(2)
    await desk.arrive(*keys)
    await step(lane)
    desk.runflow.faults.server_error = ServerError(count=1)
    clock.advance(LONGEST_PAUSE)
    await step(lane)
    assert (await desk.lane(lanes.FETCH)).failures == 1
    clock.advance(LONGEST_PAUSE)
    await step(lane)
    assert (await desk.lane(lanes.FETCH)).failures == 0


@pytest.mark.parametrize("status", [403, 422])
async def test_refused_embeds_are_narrowed_and_that_is_remembered(
    desk: Desk, lane: FetchLane, logged: list[EventDict], status: Literal[403, 422]
) -> None:
    """The wide embeds are tried once; what works is used from then on, and the log says so once."""
    desk.runflow.faults.embeds_refused = EmbedsRefused(status=status)
    keys = desk.add(3)
    await desk.arrive(*keys)
    for _ in keys:
        await step(lane)
    assert embeds_of(desk) == [WIDE_EMBEDS, NARROW_EMBEDS, NARROW_EMBEDS, NARROW_EMBEDS]
    assert await complete(desk) == 3
    for key in keys:
        assert (await desk.verdict(key)).judges
    assert [entry["status"] for entry in logged if entry["event"] == "fetch.embeds_narrowed"] == [status]


async def test_embeds_are_narrowed_once_for_those_under_way_together(
    desk: Desk, client: RunflowClient, logged: list[EventDict]
) -> None:
    """Several that find the wide embeds refused at once all come through, and the log is told once."""
    lane = FetchLane(desk.database, desk.bells, client, desk.routes, FetchPace(concurrency=5))
    desk.runflow.faults.embeds_refused = EmbedsRefused()
    await desk.arrive(*desk.add(5))
    await step(lane)
    assert await complete(desk) == 5
    assert len([entry for entry in logged if entry["event"] == "fetch.embeds_narrowed"]) == 1


async def test_what_does_not_work_is_not_remembered(desk: Desk, lane: FetchLane) -> None:
    """Narrow embeds that failed for another reason have not shown that they work: the wide ones are tried again."""
    desk.runflow.faults.embeds_refused = EmbedsRefused(count=1)
    missing, there = desk.add(2)
    await desk.arrive(missing)
    del desk.runflow.evaluations._by_id[missing]
    await step(lane)
    await desk.arrive(there)
    await step(lane)
    assert embeds_of(desk) == [WIDE_EMBEDS, NARROW_EMBEDS, WIDE_EMBEDS]


async def test_a_key_that_may_not_even_read_narrowly_pauses(desk: Desk, lane: FetchLane, clock: Clock) -> None:
    """403 on the narrow embeds is the key's fault: the lane is paused, and resumes when the key may read."""
    desk.runflow.faults.embeds_refused = EmbedsRefused(status=403, narrow=True)
    keys = desk.add(2)
    await desk.arrive(*keys)
    await step(lane)
    state = await desk.lane(lanes.FETCH)
    assert (state.failures, state.reason) == (1, "key_refused: 403 PERMISSION_DENIED")
    assert {(await desk.fetch(key)).attempts for key in keys} == {0}
    await after_the_pause(desk, clock)
    await step(lane)
    assert (await desk.lane(lanes.FETCH)).failures == 2
    desk.runflow.faults.embeds_refused = None
    await after_the_pause(desk, clock)
    for _ in keys:
        await step(lane)
    assert await complete(desk) == 2


async def test_an_evaluation_that_cannot_be_read_is_unavailable_at_once(
    desk: Desk, lane: FetchLane, logged: list[EventDict]
) -> None:
    """422 on the narrow embeds is about this evaluation: it goes out without its tree, and is not tried again."""
    unreadable, other = desk.add(2)
    desk.runflow.faults.embeds_refused = EmbedsRefused(status=422, narrow=True, evaluation_id=unreadable)
    await desk.arrive(unreadable, other)
    for _ in range(3):
        await step(lane)
    verdict = await desk.verdict(unreadable)
    assert (verdict.tree, verdict.tree_reason, verdict.revision) == ("unavailable", "refused", 1)
    assert (await desk.fetch(unreadable)).due_at is None
    assert (await desk.verdict(other)).tree == "complete"
    assert (await desk.lane(lanes.FETCH)).failures == 0
    assert [entry["reason"] for entry in logged if entry["event"] == "fetch.given_up"] == ["refused"]


REFUSED = "this evaluation alone, others are read: 403 PERMISSION_DENIED"


async def test_one_evaluation_that_may_not_be_read_does_not_stop_the_others(
    desk: Desk, lane: FetchLane, clock: Clock
) -> None:
    """After a few pauses by it alone it uses up attempts, pauses nothing, and is given up in the end."""
    poison = await poisoned(desk)
    pauses = 0
    for _ in range(40):
        await desk.arrive(*desk.add())
        await step(lane)
        pauses += (await desk.lane(lanes.FETCH)).failures > 0
        await after_any_pause(desk, clock)
        if (await desk.fetch(poison)).attempts:
            break
    assert (await desk.fetch(poison)).attempts == 1
    assert (await desk.lane(lanes.FETCH)).suspects == {poison: lanes.MOST_PAUSES}
    assert pauses <= 2 * lanes.MOST_PAUSES
    while (await desk.fetch(poison)).due_at is not None:
        await desk.arrive(*desk.add())
        await step(lane)
        assert (await desk.lane(lanes.FETCH)).failures == 0
        clock.advance(minutes=20)
    verdict = await desk.verdict(poison)
    assert (verdict.tree, verdict.tree_reason) == ("unavailable", "refused")
    assert (await desk.fetch(poison)).attempts > 20


async def test_what_was_found_out_says_why(desk: Desk, lane: FetchLane, clock: Clock, logged: list[EventDict]) -> None:
    """The log tells that it is this evaluation alone, with Runflow's own word."""
    poison = await poisoned(desk)
    await until_found_out(desk, lane, clock, poison)
    [told] = [entry for entry in logged if entry["event"] == "fetch.again"]
    assert (told["evaluation_id"], told["reason"], told["detail"]) == (str(poison), "refused", REFUSED)


async def test_the_probe_is_another_than_the_one_by_which_the_pause_began(
    desk: Desk, lane: FetchLane, clock: Clock
) -> None:
    """What arrives while the lane waits for one evaluation alone is fetched at the end of that very pause."""
    await poisoned(desk)
    for _ in range(8):
        await step(lane)
        await after_any_pause(desk, clock)
    await step(lane)
    clock.advance(seconds=1)
    [other] = desk.add()
    await desk.arrive(other)
    await after_any_pause(desk, clock)
    await step(lane)
    assert (await desk.verdict(other)).tree == "complete"
    assert (await desk.lane(lanes.FETCH)).failures == 0


async def test_one_that_was_found_out_does_not_end_a_pause(desk: Desk, lane: FetchLane, clock: Clock) -> None:
    """Its refusal says nothing of the key, and the key's pause nothing of it."""
    poison = await poisoned(desk)
    await until_found_out(desk, lane, clock, poison)
    await step(lane)
    desk.runflow.faults.key_revoked = Fault()
    [other] = desk.add()
    await desk.arrive(other)
    await step(lane)
    assert (await desk.lane(lanes.FETCH)).failures == 1
    clock.advance(LONGEST_PAUSE)
    for _ in range(2):
        await step(lane)
    assert (await desk.lane(lanes.FETCH)).failures > 0
    assert (await desk.fetch(other)).attempts == 0


async def test_a_key_that_is_revoked_again_and_again_is_nobodys_fault(
    desk: Desk, client: RunflowClient, clock: Clock
) -> None:
    """However often it is mended in between, no attempt of what waits is used up, and in the end all are read."""
    lane = FetchLane(desk.database, desk.bells, client, desk.routes, FetchPace(concurrency=4))
    keys: list[UUID] = []
    for _ in range(lanes.MOST_PAUSES + 2):
        desk.runflow.faults.key_revoked = Fault()
        keys += (new := desk.add(6))
        await desk.arrive(*new)
        for _ in range(5):
            await step(lane)
            await after_any_pause(desk, clock)
        assert {(await desk.fetch(key)).attempts for key in new} == {0}
        desk.runflow.faults.key_revoked = None
        for _ in range(4):
            await step(lane)
            clock.advance(seconds=1)
    assert {(await desk.verdict(key)).tree for key in keys} == {"complete"}


async def poisoned(desk: Desk) -> UUID:
    """One whose tree may not be read, whatever the embeds, has arrived."""
    [poison] = desk.add()
    desk.runflow.faults.embeds_refused = EmbedsRefused(status=403, narrow=True, evaluation_id=poison)
    await desk.arrive(poison)
    return poison


async def until_found_out(desk: Desk, lane: FetchLane, clock: Clock, poison: UUID) -> None:
    """Others arrive and are read, until its refusals are its own."""
    while not (await desk.fetch(poison)).attempts:
        await desk.arrive(*desk.add())
        await step(lane)
        await after_any_pause(desk, clock)


async def after_any_pause(desk: Desk, clock: Clock) -> None:
    """A second later, or where the lane may be tried again."""
    moment = (await desk.lane(lanes.FETCH)).paused_until
    clock.moment = max(clock() + timedelta(seconds=1), moment or clock())
