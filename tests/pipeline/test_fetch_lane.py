"""The fetch lane over one evaluation: the tree comes, late or never, and what goes out meanwhile."""

from datetime import timedelta

import pytest
from structlog.typing import EventDict

from receiver.core.fetching import FEWEST_TRIES, FIRST, GIVE_UP_AFTER, GRACE, GRACE_STEP, LONGEST
from receiver.offline.faults import Fault, Faults, FirstReads, Garbage, RateLimited, RequestFault, ServerError
from receiver.pipeline.fetch import FetchLane, FetchPace
from receiver.runflow.client import RunflowClient
from tests.pipeline.clock import Clock
from tests.pipeline.desk import HOLD, Desk, client_of, step
from tests.pipeline.outage import Interrupted

TICK = timedelta(microseconds=1)


@pytest.fixture
def lane(desk: Desk, client: RunflowClient) -> FetchLane:
    """A lane without a rate."""
    return FetchLane(desk.database, desk.bells, client, desk.routes, FetchPace())


async def test_the_tree_comes_and_the_verdict_goes_out(desk: Desk, lane: FetchLane) -> None:
    """A terminal answer is released under revision 1 to the sinks that it matches, which are woken, and nothing more is due."""
    [key] = desk.add()
    await desk.arrive(key)
    await step(lane)
    verdict = await desk.verdict(key)
    assert (verdict.tree, verdict.revision, verdict.overall_passed) == ("complete", 1, False)
    assert verdict.judges
    assert await desk.states() == ["pending"]
    assert desk.bells.bell("sink:log").is_set()
    fetch = await desk.fetch(key)
    assert (fetch.due_at, fetch.hold_until, fetch.leased) == (None, None, False)
    assert await step(lane) is None


@pytest.mark.parametrize("reason", ["not_found", "not_terminal"])
async def test_an_answer_that_lags_has_a_grace_and_then_counts(
    desk: Desk, lane: FetchLane, clock: Clock, reason: str
) -> None:
    """A 404 or an undecided evaluation is looked at again shortly and counts as nothing; after a minute it is a failed try."""
    fault = FirstReads(reads=100)
    desk.runflow.faults = Faults(**{"not_found_first" if reason == "not_found" else "pending_first": fault})
    [key] = desk.add()
    await desk.arrive(key)
    for _ in range(int(GRACE / GRACE_STEP)):
        await step(lane)
        fetch = await desk.fetch(key)
        assert (fetch.attempts, fetch.due_at, fetch.last_error) == (0, clock() + GRACE_STEP, reason)
        clock.advance(GRACE_STEP)
    for attempt in (1, 2, 3):
        await step(lane)
        fetch = await desk.fetch(key)
        wait = FIRST * 2 ** (attempt - 1)
        assert fetch.attempts == attempt
        assert clock() + wait / 2 <= fetch.due_at <= clock() + wait
        clock.advance(wait)
    assert (await desk.verdict(key)).tree == "pending"
    desk.runflow.faults = Faults()
    await step(lane)
    assert (await desk.verdict(key)).tree == "complete"


FAULTS = {
    "not_found": Faults(not_found_first=FirstReads(reads=100)),
    "not_terminal": Faults(pending_first=FirstReads(reads=100)),
    "server_error": Faults(server_error=ServerError(status=500)),
    "unreachable": Faults(reset=RequestFault()),
    "unreadable": Faults(garbage=Garbage()),
    "rate_limited": Faults(rate_limited=RateLimited()),
    "key_refused": Faults(key_revoked=Fault()),
}


@pytest.mark.parametrize("reason", FAULTS)
async def test_a_verdict_is_held_and_then_goes_out_without_its_tree(
    desk: Desk, lane: FetchLane, clock: Clock, reason: str
) -> None:
    """When the hold is over the callback's verdict goes out and says why; the tree that comes later is revision 2."""
    desk.runflow.faults = FAULTS[reason].model_copy(deep=True)
    [key] = desk.add()
    await desk.arrive(key)
    await step(lane)
    clock.advance(HOLD - TICK)
    await step(lane)
    assert (await desk.verdict(key)).tree == "pending"
    assert await desk.states() == []
    clock.advance(TICK)
    await step(lane)
    verdict = await desk.verdict(key)
    assert (verdict.tree, verdict.tree_reason, verdict.revision) == ("unavailable", reason, 1)
    assert verdict.overall_passed is False
    assert await desk.states() == ["pending"]
    desk.runflow.faults = Faults()
    clock.advance(LONGEST)
    await step(lane)
    verdict = await desk.verdict(key)
    assert (verdict.tree, verdict.tree_reason, verdict.revision) == ("complete", None, 2)
    assert [each.revision for each in await desk.deliveries()] == [1, 2]


async def test_failures_come_again_at_growing_distances(desk: Desk, lane: FetchLane, clock: Clock) -> None:
    """Each failed try doubles the wait, up to an hour; the lane says when to look again, and looks no sooner."""
    desk.runflow.faults.server_error = ServerError()
    [key] = desk.add()
    await desk.arrive(key)
    for attempt in range(1, 16):
        await step(lane)
        fetch = await desk.fetch(key)
        wait = min(FIRST * 2 ** (attempt - 1), LONGEST)
        assert (fetch.attempts, fetch.last_error) == (attempt, "server_error")
        assert clock() + wait / 2 <= fetch.due_at <= clock() + wait
        requests = len(desk.runflow.requests)
        moments = {moment for moment in (fetch.due_at, fetch.hold_until) if moment is not None}
        assert await step(lane) == min(moments)
        assert len(desk.runflow.requests) == requests
        clock.moment = fetch.due_at


async def test_odd_fields_of_a_tree_are_told(desk: Desk, lane: FetchLane, logged: list[EventDict]) -> None:
    """They are named in the log, and the rest of the tree is used."""
    desk.runflow.faults.garbage = Garbage(body='{"status_code":"completed","overall_passed":true,"judges":7}')
    [key] = desk.add()
    await desk.arrive(key)
    await step(lane)
    verdict = await desk.verdict(key)
    assert (verdict.tree, verdict.overall_passed, verdict.judges) == ("complete", True, [])
    [odd] = [entry for entry in logged if entry["event"] == "fetch.odd"]
    assert (odd["evaluation_id"], odd["oddities"]) == (str(key), ["judges is not readable"])


async def test_an_answer_that_never_comes_is_given_up(desk: Desk, database: Interrupted) -> None:
    """A GET that hangs ends by itself, and is tried again like any failure."""
    client = client_of(desk.runflow, timeout=0.05)
    lane = FetchLane(database, desk.bells, client, desk.routes, FetchPace())
    desk.runflow.faults.hanging = RequestFault()
    [key] = desk.add()
    await desk.arrive(key)
    await step(lane)
    fetch = await desk.fetch(key)
    assert (fetch.attempts, fetch.last_error, fetch.leased) == (1, "unreachable", False)
    await client.close()


async def test_tries_end_after_a_day(desk: Desk, lane: FetchLane, clock: Clock, logged: list[EventDict]) -> None:
    """A tree that was not there for a day is given up, and the log says so."""
    desk.runflow.faults.server_error = ServerError()
    [key] = desk.add()
    await desk.arrive(key)
    await step(lane)
    clock.advance(GIVE_UP_AFTER)
    for _ in range(FEWEST_TRIES - 2):
        await step(lane)
        assert (await desk.fetch(key)).due_at is not None
        clock.advance(LONGEST)
    await step(lane)
    assert (await desk.fetch(key)).due_at is None
    assert (await desk.verdict(key)).tree_reason == "server_error"
    assert await step(lane) is None
    given_up = [entry for entry in logged if entry["event"] == "fetch.given_up"]
    assert [(entry["evaluation_id"], entry["reason"]) for entry in given_up] == [(str(key), "server_error")]


async def test_a_verdict_that_changed_is_a_revision(desk: Desk, lane: FetchLane) -> None:
    """A repeat with other bytes has the tree read again; what is new goes out as revision 2, to those that had the first."""
    desk.runflow.faults.changed_verdict = Fault(count=1)
    [key] = desk.add()
    await desk.arrive(key)
    await step(lane)
    assert (await desk.verdict(key)).overall_passed is False
    await desk.arrive(key, body=desk.runflow.callback_body(key) + b" ")
    await step(lane)
    verdict = await desk.verdict(key)
    assert (verdict.overall_passed, verdict.revision) == (True, 2)
    assert [each.revision for each in await desk.deliveries()] == [1, 2]


async def test_a_tree_that_says_the_same_is_no_revision(desk: Desk, lane: FetchLane) -> None:
    """Read again without a change, nothing goes out."""
    [key] = desk.add()
    await desk.arrive(key)
    await step(lane)
    await desk.arrive(key, body=desk.runflow.callback_body(key) + b" ")
    await step(lane)
    assert len(desk.runflow.requests) == 2
    assert (await desk.verdict(key)).revision == 1
    assert [each.revision for each in await desk.deliveries()] == [1]


async def test_an_older_answer_never_overwrites_a_newer_one(desk: Desk, lane: FetchLane) -> None:
    """An answer from a replica that lags is left aside, though it differs."""
    [key] = desk.add()
    await desk.arrive(key)
    await step(lane)
    evaluation = desk.runflow.evaluations.get(key)
    evaluation.changes += 1
    evaluation.updated_at -= timedelta(seconds=1)
    await desk.arrive(key, body=desk.runflow.callback_body(key) + b" ")
    await step(lane)
    verdict = await desk.verdict(key)
    assert (verdict.overall_passed, verdict.revision) == (False, 1)
    assert (await desk.fetch(key)).due_at is None


async def test_without_a_key_verdicts_go_out_at_once(
    desk: Desk, database: Interrupted, logged: list[EventDict]
) -> None:
    """The callback's verdict alone goes to the sinks, which are woken, and nothing more is due."""
    lane = FetchLane(database, desk.bells, None, desk.routes, FetchPace())
    keys = desk.add(3)
    await desk.arrive(*keys)
    assert await step(lane) is None
    for key in keys:
        verdict = await desk.verdict(key)
        assert (verdict.tree, verdict.tree_reason, verdict.revision) == ("unavailable", "no_api_key", 1)
        fetch = await desk.fetch(key)
        assert (fetch.due_at, fetch.hold_until) == (None, None)
    assert await desk.states() == ["pending"] * 3
    assert desk.bells.bell("sink:log").is_set()
    assert len([entry for entry in logged if entry["event"] == "verdict.released"]) == 3
    assert len(desk.runflow.requests) == 0


async def test_a_key_that_was_taken_away_leaves_nothing_behind(
    desk: Desk, lane: FetchLane, database: Interrupted, clock: Clock
) -> None:
    """What waited for another try when the key went goes out without its tree when that try is due."""
    desk.runflow.faults.server_error = ServerError()
    [key] = desk.add()
    await desk.arrive(key)
    await step(lane)
    due_at = (await desk.fetch(key)).due_at
    keyless = FetchLane(database, desk.bells, None, desk.routes, FetchPace())
    assert await step(keyless) == due_at
    clock.moment = due_at
    assert await step(keyless) is None
    assert (await desk.verdict(key)).tree_reason == "no_api_key"
