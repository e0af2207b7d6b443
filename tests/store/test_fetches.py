"""The fetch lane's work: claims, leases, fencing, what was held for too long, pauses."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from receiver.store import fetches, lanes, staging
from receiver.store.database import Database
from receiver.store.fetches import NO_API_KEY, NOTHING_TRIED, ClaimedFetch, SettledFetch, TakenFetches
from receiver.store.results import Released
from receiver.store.tables import deliveries, trees, verdicts
from receiver.store.tables import fetches as fetches_table
from tests.store.building import ALL, HOLD, LEASE, NOW, SECOND, claimed, finished, key, staged, tree_of
from tests.store.places import all_of, rows

LATER = NOW + LEASE
MINUTE = timedelta(minutes=1)


async def settle(database: Database, fetch: ClaimedFetch, due_at: datetime | None, **more: Any) -> None:
    settled = SettledFetch(fetch, due_at, more.pop("error", "server_error"), **more)
    await database.write(fetches.settle, [settled], NOW)


async def give_up(database: Database, fetch: ClaimedFetch, now: datetime = NOW) -> list[Released]:
    return await database.write(fetches.give_up, fetch, "refused", [ALL], now)


async def take(database: Database, now: datetime, *, limit: int = 10, idle: bool = True) -> TakenFetches:
    return await database.write(fetches.take, [ALL], limit=limit, lease=LEASE, now=now, idle=idle)


async def pause(database: Database, until: datetime, now: datetime = NOW) -> None:
    assert await database.write(lanes.pause, lanes.FETCH, until=until, reason="key_refused", now=now)


async def test_claim(database: Database) -> None:
    """What is claimed is leased, counted as an attempt, and comes with what is known of the evaluation."""
    await staged(database, 1, client_ref="ref")
    [fetch] = (await claimed(database)).values()
    assert (fetch.claim, fetch.attempts, fetch.asked, fetch.started_at) == (1, 1, 1, NOW)
    assert (fetch.known.evaluation_id, fetch.known.client_ref, fetch.known.tree) == (key(1), "ref", "pending")
    columns = ("leased", "due_at", "claim", "attempts")
    assert await database.read(rows, fetches_table, *columns) == [(True, NOW + LEASE, 1, 1)]
    assert await claimed(database) == {}


async def test_order_and_limit(database: Database) -> None:
    """The longest due are claimed first, at most so many; what is due later is not."""
    for n in range(6):
        await staged(database, n, now=NOW + (5 - n) * SECOND)
    now = NOW + 3 * SECOND
    assert set(await claimed(database, limit=2, now=now)) == {key(5), key(4)}
    assert set(await claimed(database, now=now)) == {key(3), key(2)}
    assert await claimed(database, now=now) == {}


async def test_lease_ends(database: Database) -> None:
    """What a process that died had claimed is claimable again when its lease ends, and counts as one more attempt."""
    await staged(database, 1)
    await claimed(database)
    assert await claimed(database, now=LATER - SECOND) == {}
    [again] = (await claimed(database, now=LATER)).values()
    assert (again.claim, again.attempts) == (2, 2)


@pytest.mark.parametrize(("uncounted", "attempts"), [(False, 2), (True, 1)])
async def test_settle(database: Database, uncounted: bool, attempts: int) -> None:
    """A fetch without a result is due again when it says; one that is the lane's own fault used up no attempt."""
    await staged(database, 1)
    [fetch] = (await claimed(database)).values()
    await settle(database, fetch, NOW + MINUTE, uncounted=uncounted)
    columns = ("leased", "due_at", "last_error", "attempts")
    assert await database.read(rows, fetches_table, *columns) == [(False, NOW + MINUTE, "server_error", attempts - 1)]
    assert await claimed(database, now=NOW + MINUTE - SECOND) == {}
    [again] = (await claimed(database, now=NOW + MINUTE)).values()
    assert (again.attempts, again.started_at) == (attempts, NOW)


async def test_finish(database: Database) -> None:
    """A tree releases the verdict, ends the fetch and its hold."""
    await staged(database, 1, 2)
    released = await finished(database, (await claimed(database)).values())
    assert [(each.verdict.revision, each.is_new, each.sinks) for each in released] == 2 * [(1, True, ["all"])]
    columns = ("evaluation_id", "due_at", "hold_until", "leased", "last_error")
    assert await database.read(rows, fetches_table, *columns) == [(key(n), None, None, False, None) for n in (1, 2)]
    assert await claimed(database, now=NOW + timedelta(days=9)) == {}
    assert await database.write(fetches.release_held, [ALL], limit=9, now=NOW + timedelta(days=9)) == []


async def test_give_up(database: Database) -> None:
    """A fetch that is given up ends for good; a verdict that is still held goes out with the reason."""
    await staged(database, 1)
    [fetch] = (await claimed(database)).values()
    [released] = await give_up(database, fetch)
    assert (released.verdict.tree, released.verdict.tree_reason, released.sinks) == ("unavailable", "refused", ["all"])
    assert await database.read(rows, fetches_table, "due_at", "hold_until", "leased") == [(None, None, False)]
    assert await claimed(database, now=NOW + timedelta(days=9)) == {}


async def test_give_up_after_release(database: Database) -> None:
    """Giving up on a verdict that went out already changes nothing but the fetch."""
    await staged(database, 1)
    await database.write(fetches.release_held, [ALL], limit=9, now=NOW + HOLD)
    [fetch] = (await claimed(database, now=NOW + HOLD)).values()
    assert await give_up(database, fetch) == []
    assert await database.read(rows, fetches_table, "due_at", "leased") == [(None, False)]
    assert len(await database.read(rows, deliveries, "sink")) == 1


@pytest.mark.parametrize("lost_by", ["another claim", "all leases freed"])
@pytest.mark.parametrize("how", ["settle", "finish", "give_up"])
async def test_lost_lease(database: Database, lost_by: str, how: str) -> None:
    """Whoever lost the lease changes nothing, however it ended."""
    await staged(database, 1)
    [lost] = (await claimed(database)).values()
    if lost_by == "another claim":
        await claimed(database, now=LATER)
    else:
        await database.write(lanes.free_all_leases, NOW)
    columns = [column.name for column in fetches_table.columns]
    before = await database.read(rows, fetches_table, *columns)
    if how == "settle":
        await settle(database, lost, NOW + MINUTE)
    elif how == "finish":
        assert await finished(database, [lost]) == []
    else:
        assert await give_up(database, lost) == []
    assert await database.read(rows, fetches_table, *columns) == before
    assert await database.read(rows, verdicts, "tree", "revision") == [("pending", 0)]
    assert await database.read(rows, deliveries, "sink") == []
    assert await database.read(rows, trees, "body") == []


async def test_lost_and_kept_together(database: Database) -> None:
    """In one batch those whose lease was lost change nothing, and the others are done."""
    await staged(database, 1, 2)
    lost = await claimed(database)
    again = await claimed(database, limit=1, now=LATER)
    kept = [fetch for number, fetch in lost.items() if number not in again]
    released = await finished(database, lost.values())
    assert [each.verdict.evaluation_id for each in released] == [each.evaluation_id for each in kept]
    released = await finished(database, again.values())
    assert [each.verdict.evaluation_id for each in released] == list(again)
    assert await database.read(rows, deliveries, "revision") == [(1,), (1,)]


async def test_release_held(database: Database) -> None:
    """What was held for long enough goes out without its tree, with why there is none, and is fetched all the same."""
    await staged(database, 1, 2, 3)
    fetched = await claimed(database)
    await settle(database, fetched[key(1)], NOW + MINUTE, error="server_error")
    released = await database.write(fetches.release_held, [ALL], limit=2, now=NOW + HOLD)
    assert len(released) == 2
    released += await database.write(fetches.release_held, [ALL], limit=9, now=NOW + HOLD)
    assert {each.verdict.evaluation_id: each.verdict.tree_reason for each in released} == {
        key(1): "server_error",
        key(2): NOTHING_TRIED,
        key(3): NOTHING_TRIED,
    }
    assert await database.write(fetches.release_held, [ALL], limit=9, now=NOW + HOLD) == []
    assert await database.read(rows, deliveries, "revision") == 3 * [(1,)]
    [revised] = await finished(database, [fetched[key(2)]])
    assert (revised.verdict.revision, revised.verdict.tree, revised.sinks) == (2, "complete", ["all"])


async def test_not_held_long_enough(database: Database) -> None:
    """Nothing goes out a moment too early."""
    await staged(database, 1)
    assert await database.write(fetches.release_held, [ALL], limit=9, now=NOW + HOLD - timedelta(microseconds=1)) == []


async def test_take(database: Database) -> None:
    """What is due is claimed and what is overdue released, and the next moment is the next of all that may happen."""
    await staged(database, 1, 2)
    taken = await take(database, NOW, limit=1)
    assert (len(taken.claimed), taken.released, taken.probing, taken.next_moment) == (1, [], False, NOW)
    taken = await take(database, NOW)
    assert (len(taken.claimed), taken.next_moment) == (1, NOW + LEASE)
    for fetch in (await claimed(database, now=NOW + LEASE)).values():
        await settle(database, fetch, NOW + timedelta(hours=1))
    assert await take(database, NOW + MINUTE) == TakenFetches([], [], probing=False, next_moment=NOW + HOLD)
    taken = await take(database, NOW + HOLD)
    assert len(taken.released) == 2
    assert taken.next_moment == NOW + timedelta(hours=1)
    for fetch in (await claimed(database, now=NOW + timedelta(hours=1))).values():
        await settle(database, fetch, None)
    assert await take(database, NOW + timedelta(days=9)) == TakenFetches([], [], probing=False, next_moment=None)


async def test_take_without_room(database: Database) -> None:
    """Without room for a fetch, or without a key, what is overdue is released all the same."""
    await staged(database, 1)
    assert await take(database, NOW, limit=0) == TakenFetches([], [], probing=False, next_moment=NOW + HOLD)
    assert len((await take(database, NOW + HOLD, limit=0)).released) == 1
    assert await take(database, NOW + HOLD, limit=0) == TakenFetches([], [], probing=False, next_moment=None)


async def test_take_while_paused(database: Database) -> None:
    """While the lane is paused nothing is claimed; what is overdue is released; it is looked at again when the pause ends."""
    await staged(database, 1)
    until = NOW + HOLD + MINUTE
    await pause(database, until)
    taken = await take(database, NOW)
    assert (taken.claimed, taken.released, taken.next_moment) == ([], [], NOW + HOLD)
    taken = await take(database, NOW + HOLD)
    assert (taken.claimed, len(taken.released), taken.next_moment) == ([], 1, until)


async def test_take_after_a_pause(database: Database) -> None:
    """After a pause one is claimed as a probe, when nothing is under way; all again once the lane has resumed."""
    await staged(database, *range(5))
    until = NOW + MINUTE
    await pause(database, until)
    assert (await take(database, until, idle=False)).claimed == []
    assert (await take(database, until, limit=0)).claimed == []
    taken = await take(database, until)
    assert (len(taken.claimed), taken.probing) == (1, True)
    await database.write(lanes.resume, lanes.FETCH)
    taken = await take(database, until, idle=False)
    assert (len(taken.claimed), taken.probing) == (4, False)


async def take_keyless(database: Database, now: datetime) -> TakenFetches:
    return await database.write(fetches.take_keyless, [ALL], now=now)


async def test_take_without_a_key(database: Database) -> None:
    """A process without a key claims nothing: it releases what is due or overdue, and nothing of it is due any more."""
    await staged(database, 1, 2)
    await staged(database, 3, now=NOW + HOLD)
    taken = await take_keyless(database, NOW)
    assert {each.verdict.evaluation_id: each.verdict.tree_reason for each in taken.released} == {
        key(1): NO_API_KEY,
        key(2): NO_API_KEY,
    }
    assert (taken.claimed, taken.probing, taken.next_moment) == ([], False, NOW + HOLD)
    taken = await take_keyless(database, NOW + HOLD)
    assert [each.verdict.evaluation_id for each in taken.released] == [key(3)]
    assert await take_keyless(database, NOW + timedelta(days=9)) == TakenFetches(
        [], [], probing=False, next_moment=None
    )
    columns = ("due_at", "hold_until", "leased", "last_error")
    assert await database.read(rows, fetches_table, *columns) == 3 * [(None, None, False, NO_API_KEY)]
    assert len(await database.read(rows, deliveries, "sink")) == 3


async def test_key_taken_away(database: Database) -> None:
    """A fetch that is under way elsewhere is left to end; one whose lease has ended is released without its tree."""
    await staged(database, 1)
    [fetch] = (await claimed(database)).values()
    taken = await take_keyless(database, LATER - SECOND)
    assert (taken.released, taken.next_moment) == ([], LATER)
    assert len((await take_keyless(database, LATER)).released) == 1
    assert await finished(database, [fetch]) == []
    assert await database.read(rows, verdicts, "tree", "revision") == [("unavailable", 1)]


async def test_key_given_later(database: Database) -> None:
    """What went out without a key is fetched when it is asked for again and there is one, and is a revision then."""
    await staged(database, 1)
    await take_keyless(database, NOW)
    await database.write(staging.ask_again, key(1), LATER)
    [revised] = await finished(database, (await claimed(database, now=LATER)).values())
    assert (revised.verdict.revision, revised.verdict.tree) == (2, "complete")


async def test_next_due(database: Database) -> None:
    """The next moment is when a fetch is due or its lease ends."""
    assert await database.read(fetches.next_due) is None
    await staged(database, 1)
    assert await database.read(fetches.next_due) == NOW
    await claimed(database)
    assert await database.read(fetches.next_due) == NOW + LEASE


async def test_ask_again_after_the_end(database: Database) -> None:
    """Asking again begins a new count of attempts and of time."""
    await staged(database, 1)
    for _ in range(3):
        for fetch in (await claimed(database)).values():
            await settle(database, fetch, NOW)
    await finished(database, (await claimed(database)).values())
    await database.write(staging.ask_again, key(1), LATER)
    [fetch] = (await claimed(database, now=LATER)).values()
    assert (fetch.attempts, fetch.started_at, fetch.asked, fetch.claim) == (1, LATER, 2, 5)


async def test_claims_of_two_processes(database: Database, another: Callable[[], Awaitable[Database]]) -> None:
    """Two processes that claim at once never get the same fetch, and get them all."""
    await staged(database, *range(200))
    both = [database, await another()]
    claims = await all_of([claimed(both[n % 2], limit=10) for n in range(30)])
    found = [number for claim in claims for number in claim]
    assert sorted(found) == [key(n) for n in range(200)]


async def test_held_in_two_processes(database: Database, another: Callable[[], Awaitable[Database]]) -> None:
    """Two processes that release what is overdue at once, while others finish, release each once."""
    await staged(database, *range(60))
    fetched = list((await claimed(database)).values())
    both = [database, await another()]
    calls = [both[n % 2].write(fetches.release_held, [ALL], limit=10, now=NOW + HOLD) for n in range(12)]
    ends = [finished(both[n % 2], fetched[n * 5 : n * 5 + 5][::-1], now=NOW + HOLD) for n in range(12)]
    await all_of([each for pair in zip(calls, ends, strict=True) for each in pair])
    found = await database.read(rows, verdicts, "tree", "revision")
    assert {tree for tree, _ in found} == {"complete"}
    due = await database.read(rows, deliveries, "evaluation_id", "revision")
    assert len(due) == sum(revision for _, revision in found)
    assert len(set(due)) == len(due)


async def test_old_answer_of_a_new_fetch(database: Database) -> None:
    """An answer from a replica that lags ends its fetch and leaves the newer result as it is."""
    await staged(database, 1)
    await finished(database, (await claimed(database)).values(), updated_at=NOW)
    await database.write(staging.ask_again, key(1), LATER)
    [fetch] = (await claimed(database, now=LATER)).values()
    found = tree_of(fetch.known, updated_at=NOW - SECOND, overall_passed=True)
    assert await database.write(fetches.finish, [fetches.FinishedFetch(fetch, found)], [ALL], LATER) == []
    assert await database.read(rows, verdicts, "overall_passed", "revision") == [(False, 1)]
    assert await database.read(rows, fetches_table, "leased", "due_at") == [(False, None)]
