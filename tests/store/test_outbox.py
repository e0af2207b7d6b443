"""The outbox: claims, leases, fencing, write-backs, paused and paced sinks."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from receiver.core.routing import Route
from receiver.store import lanes, outbox
from receiver.store.database import Database
from receiver.store.lanes import LaneState
from receiver.store.outbox import Claimed, Settled, TakenDeliveries
from receiver.store.tables import deliveries
from tests.store.building import ALL, LEASE, NOW, SECOND, key, released, taken
from tests.store.places import all_of, rows

LATER = NOW + LEASE
MINUTE = timedelta(minutes=1)
OTHER = Route("other")
WELL = LaneState(lanes.sink_lane("all"))


async def settle(database: Database, claim: Claimed, state: outbox.State, **more: Any) -> None:
    await database.write(outbox.settle, [Settled(claim.id, claim.claim, state, **more)])


async def row(database: Database, *columns: str) -> tuple[Any, ...]:
    [only] = await database.read(rows, deliveries, *columns)
    return only


async def take(
    database: Database, now: Any = NOW, *, limit: int = 10, idle: bool = True, holder: str | None = None
) -> TakenDeliveries:
    return await database.write(outbox.take, "all", limit=limit, lease=LEASE, now=now, idle=idle, sole_holder=holder)


async def pause(database: Database, until: Any, *, now: Any = NOW) -> None:
    assert await database.write(lanes.pause, lanes.sink_lane("all"), until=until, reason="401", now=now)


async def test_claim(database: Database) -> None:
    """What is claimed is leased, counted as an attempt, and comes with the verdict that is to be sent."""
    [it] = await released(database, 1)
    [claim] = await taken(database)
    assert claim._replace(id=0) == Claimed(
        0, 1, 1, NOW, NOW, "", it.verdict.evaluation_id, it.verdict.model_dump_json()
    )
    assert await row(database, "id", "state", "due_at", "attempts", "claim") == (claim.id, "leased", LATER, 1, 1)
    assert await taken(database) == []


async def test_each_sink_its_own(database: Database) -> None:
    """A sink's claims are of its own deliveries, and leave those of others."""
    await released(database, 1, 2, routes=[ALL, OTHER])
    assert [len(await taken(database, sink)) for sink in ("all", "none", "other", "all")] == [2, 0, 2, 0]


async def test_order_and_limit(database: Database) -> None:
    """The longest due go first, at most so many; what is due later does not."""
    for n in range(6):
        await released(database, n, now=NOW + (5 - n) * SECOND)
    now = NOW + 3 * SECOND
    claims = [await taken(database, limit=2, now=now) for _ in range(3)]
    assert [{each.evaluation_id for each in claim} for claim in claims] == [
        {key(5), key(4)},
        {key(3), key(2)},
        set(),
    ]


async def test_lease_ends(database: Database) -> None:
    """What a process that died had claimed is claimable again when its lease ends, and counts as one more attempt."""
    await released(database, 1)
    [first] = await taken(database)
    assert await taken(database, now=LATER - SECOND) == []
    [second] = await taken(database, now=LATER)
    assert (second.id, second.claim, second.attempts) == (first.id, 2, 2)


@pytest.mark.parametrize(
    ("state", "more", "expected"),
    [
        ("delivered", {"ended_at": LATER, "remote_id": "17-0"}, ("delivered", None, LATER, "17-0", None, 1)),
        ("pending", {"due_at": LATER, "error": "503"}, ("pending", LATER, None, None, "503", 1)),
        ("pending", {"due_at": NOW, "uncounted": True}, ("pending", NOW, None, None, None, 0)),
        ("dead", {"ended_at": LATER, "error": "too large"}, ("dead", None, LATER, None, "too large", 1)),
    ],
)
async def test_settle(database: Database, state: outbox.State, more: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """Each way in which an attempt ends is written as it is; one that was given back used up no attempt."""
    await released(database, 1)
    [claim] = await taken(database)
    await settle(database, claim, state, **more)
    assert await row(database, "state", "due_at", "ended_at", "remote_id", "last_error", "attempts") == expected
    assert len(await taken(database, now=LATER)) == (state == "pending")


@pytest.mark.parametrize("lost_by", ["another claim", "all leases freed", "a settlement"])
async def test_lost_lease(database: Database, lost_by: str) -> None:
    """Whoever lost the lease changes nothing, whatever came of the attempt."""
    await released(database, 1)
    [lost] = await taken(database)
    if lost_by == "another claim":
        await taken(database, now=LATER)
    elif lost_by == "all leases freed":
        await database.write(lanes.free_all_leases, NOW)
    else:
        await settle(database, lost, "delivered", ended_at=NOW)
    columns = [column.name for column in deliveries.columns]
    before = await row(database, *columns)
    await settle(database, lost, "dead", ended_at=LATER, error="late")
    await settle(database, lost, "pending", due_at=LATER, uncounted=True)
    assert await row(database, *columns) == before


async def test_settled_twice_in_one_batch(database: Database) -> None:
    """When an attempt is written back twice at once the first outcome counts, whatever the second is."""
    await released(database, 1)
    [claim] = await taken(database)
    outcomes = [
        Settled(claim.id, claim.claim, "pending", LATER, error="503"),
        Settled(claim.id, claim.claim, "pending", NOW, uncounted=True),
    ]
    await database.write(outbox.settle, outcomes)
    assert await row(database, "state", "due_at", "last_error", "attempts") == ("pending", LATER, "503", 1)


async def test_settle_many(database: Database) -> None:
    """A batch of outcomes, in any order, is written in one step, each to its own."""
    await released(database, *range(20))
    claims = await taken(database)
    states: list[outbox.State] = ["delivered" if n % 2 else "dead" for n in range(20)]
    settled = [Settled(each.id, each.claim, state, ended_at=NOW) for each, state in zip(claims, states, strict=True)]
    await database.write(outbox.settle, settled[::-1])
    found = dict(await database.read(rows, deliveries, "id", "state"))
    assert found == {each.id: each.state for each in settled}


async def test_next_due(database: Database) -> None:
    """The next moment is when a delivery is due or a lease ends; what has ended has none."""
    assert await database.read(outbox.next_due, "all") is None
    await released(database, 1, 2)
    assert await database.read(outbox.next_due, "all") == NOW
    claims = await taken(database)
    assert await database.read(outbox.next_due, "all") == LATER
    await settle(database, claims[0], "pending", due_at=NOW + MINUTE)
    await settle(database, claims[1], "delivered", ended_at=NOW)
    assert await database.read(outbox.next_due, "all") == NOW + MINUTE
    assert await database.read(outbox.next_due, "other") is None


async def test_take(database: Database) -> None:
    """What is due is claimed up to the limit, and the next moment is when there is next something to do."""
    assert await take(database) == TakenDeliveries([], probing=False, next_moment=None, lane=WELL)
    await released(database, 1, 2, 3)
    assert await take(database, NOW - SECOND) == TakenDeliveries([], probing=False, next_moment=NOW, lane=WELL)
    result = await take(database, limit=2)
    assert (len(result.claimed), result.probing, result.next_moment) == (2, False, NOW)
    result = await take(database, idle=False)
    assert (len(result.claimed), result.next_moment) == (1, LATER)


async def test_take_while_paused(database: Database) -> None:
    """While a sink is paused nothing of it is claimed; other sinks are not held up."""
    await released(database, 1, routes=[ALL, OTHER])
    await pause(database, LATER)
    paused = LaneState(WELL.name, LATER, 1, "401")
    assert await take(database) == TakenDeliveries([], probing=True, next_moment=LATER, lane=paused)
    assert len(await taken(database, "other")) == 1


async def test_take_after_a_pause(database: Database) -> None:
    """After a pause one is claimed as a probe, when nothing is under way; all again once the sink has resumed."""
    await released(database, *range(5))
    await pause(database, LATER)
    result = await take(database, LATER, idle=False)
    assert (result.claimed, result.probing) == ([], True)
    result = await take(database, LATER)
    assert (len(result.claimed), result.probing) == (1, True)
    assert await database.write(lanes.resume, lanes.sink_lane("all"))
    result = await take(database, LATER, idle=False)
    assert (len(result.claimed), result.probing) == (4, False)


async def test_sole_holder(database: Database) -> None:
    """A paced sink is drained by one process; another may when that one's time is over, or when it leaves."""
    await released(database, *range(4))
    assert len((await take(database, limit=1, holder="one")).claimed) == 1
    later = NOW + outbox.HOLD
    assert await take(database, holder="two") == TakenDeliveries([], probing=False, next_moment=later, lane=WELL)
    assert (
        len((await take(database, later - SECOND, limit=1, holder="one")).claimed) == 1
    )  # holds on while there is work
    assert (await take(database, later, holder="two")).claimed == []
    await database.write(lanes.leave, "one")
    assert len((await take(database, later, limit=1, holder="two")).claimed) == 1
    assert (await take(database, later, holder="one")).claimed == []
    assert len((await take(database, later + outbox.HOLD, limit=1, holder="one")).claimed) == 1


async def test_sole_holder_without_work(database: Database) -> None:
    """A process does not hold a sink for which nothing is due."""
    assert (await take(database, holder="one")).next_moment is None
    await released(database, 1)
    assert len((await take(database, holder="two")).claimed) == 1


async def test_sole_holder_of_two(database: Database, another: Callable[[], Awaitable[Database]]) -> None:
    """When two processes want the same paced sink at once, one gets it and all that it claims."""
    await released(database, *range(40))
    both = [database, await another()]
    results = await all_of([take(both[n % 2], limit=2, holder=f"process {n % 2}") for n in range(30)])
    by_holder = [sum(len(each.claimed) for each in results[n::2]) for n in range(2)]
    assert sorted(by_holder) == [0, 30]


async def test_claims_of_two_processes(database: Database, another: Callable[[], Awaitable[Database]]) -> None:
    """Two processes that claim at once, many times, never get the same delivery, and get them all."""
    await released(database, *range(300))
    both = [database, await another()]
    claims = await all_of([taken(both[n % 2], limit=10) for n in range(40)])
    ids = [each.id for claim in claims for each in claim]
    assert len(ids) == len(set(ids)) == 300
    assert max(len(claim) for claim in claims) == 10
    assert await database.read(rows, deliveries, "claim", "attempts") == 300 * [(1, 1)]
