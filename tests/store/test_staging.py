"""From stored events to pending verdicts whose tree is due to be fetched. Nothing is released here."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest

from receiver.store import fetches, staging
from receiver.store.database import Database
from receiver.store.fetches import NO_API_KEY, SettledFetch
from receiver.store.intake import Taken
from receiver.store.staging import Staged, WaitingEvent
from receiver.store.tables import deliveries, events, verdicts
from receiver.store.tables import fetches as fetches_table
from tests.store.building import (
    ALL,
    FILE,
    HOLD,
    LEASE,
    NOW,
    SAMPLE,
    SECOND,
    accepted,
    arrival,
    claimed,
    finished,
    key,
    plan_at,
    staged,
)  # fmt: skip
from tests.store.building import stage as stage_at
from tests.store.places import all_of, rows, sql

LATER = NOW + 5 * SECOND
Opener = Callable[[], Awaitable[Database]]


async def stage(database: Database, *, limit: int = 100) -> list[UUID]:
    """The evaluations of the events that were seen to, in that order."""
    return [each.event.evaluation_id for each in await stage_at(database, limit=limit, now=LATER)]


async def stage_all(both: list[Database], *, limit: int) -> list[UUID]:
    """Several steps of two processes at once, until there is nothing left."""
    found: list[UUID] = []
    while together := [it for each in await all_of([stage(both[n % 2], limit=limit) for n in range(6)]) for it in each]:
        found += together
    return found


async def test_pending_with_a_fetch(database: Database) -> None:
    """An event becomes a pending verdict whose fetch is due and which is held; nothing goes out."""
    await accepted(database, arrival(1, client_ref="ref", overall_passed=False, cost=[]))
    [it] = await stage_at(database, now=LATER)
    assert (it.event.evaluation_id, it.event.secret_label, it.event.request_id, it.event.repeats) == (
        key(1),
        "old",
        "req-1",
        0,
    )
    columns = ("evaluation_id", "tree", "revision", "client_ref", "overall_passed", "due_to", "received_at")
    assert await database.read(rows, verdicts, *columns) == [(key(1), "pending", 0, "ref", False, "[]", NOW)]
    of_fetch = (
        "evaluation_id",
        "due_at",
        "hold_until",
        "started_at",
        "leased",
        "attempts",
        "claim",
        "asked",
        "last_error",
    )
    assert await database.read(rows, fetches_table, *of_fetch) == [
        (key(1), LATER, LATER + HOLD, LATER, False, 0, 0, 1, None)
    ]
    assert await database.read(rows, events, "waiting") == [(False,)]
    assert await database.read(rows, deliveries, "sink") == []
    assert await stage(database) == []


async def test_sample(database: Database) -> None:
    """A sample is never fetched: whoever runs the pipeline releases it at once, to sinks that take samples alone."""
    await accepted(database, arrival(SAMPLE))
    assert await stage(database) == [SAMPLE]
    assert await claimed(database, now=LATER + timedelta(days=9)) == {}
    [released] = await database.write(fetches.release_held, [ALL, FILE], limit=9, now=LATER)
    assert (released.verdict.tree_reason, released.verdict.revision, released.sinks) == ("sample", 1, ["file"])
    assert await database.read(rows, deliveries, "sink", "revision", "state", "due_at") == [
        ("file", 1, "pending", LATER)
    ]
    assert await database.read(rows, verdicts, "tree", "origin", "due_to") == [("unavailable", "sample", '["file"]')]
    await accepted(database, arrival(SAMPLE, n=1))
    assert await stage(database) == [SAMPLE]
    assert await database.write(fetches.release_held, [ALL, FILE], limit=9, now=LATER + HOLD) == []


async def test_without_a_key(database: Database) -> None:
    """Where nothing can be fetched whoever runs the pipeline releases what is due, and a second event changes nothing."""
    await accepted(database, arrival(1))
    await stage(database)
    taken = await database.write(fetches.take_keyless, [ALL], now=LATER)
    assert [(each.verdict.tree_reason, each.sinks) for each in taken.released] == [(NO_API_KEY, ["all"])]
    assert (taken.claimed, taken.next_moment) == ([], None)
    for again in (arrival(1, "evaluation.failed"), arrival(1, n=1)):
        await accepted(database, again)
        assert await stage(database) == [key(1)]
        taken = await database.write(fetches.take_keyless, [ALL], now=LATER)
        assert (taken.released, taken.next_moment) == ([], None)
    assert await database.read(rows, deliveries, "sink", "revision") == [("all", 1)]


async def test_both_events_at_once(database: Database) -> None:
    """Both events of one evaluation are one verdict, decided by the fetch, which is asked for twice."""
    await accepted(database, arrival(1), arrival(1, "evaluation.failed", at=NOW + SECOND))
    assert await stage(database) == [key(1), key(1)]
    assert await database.read(rows, verdicts, "evaluation_id", "event") == [(key(1), "evaluation.completed")]
    assert await database.read(rows, fetches_table, "asked", "due_at") == [(2, LATER)]


async def test_second_event_asks_again(database: Database) -> None:
    """A second event, and a repeat with other bytes, have a tree that was fetched already fetched again, from the start."""
    await staged(database, 1)
    await finished(database, (await claimed(database)).values())
    await accepted(database, arrival(1, "evaluation.failed"))
    assert await stage(database) == [key(1)]
    columns = ("due_at", "started_at", "asked", "attempts", "hold_until", "leased")
    assert await database.read(rows, fetches_table, *columns) == [(LATER, LATER, 2, 0, None, False)]
    assert await database.accept([arrival(1, n=1)]) == [Taken.REPEAT]
    assert await stage(database) == [key(1)]
    assert await database.read(rows, fetches_table, *columns) == [(LATER, LATER, 3, 0, None, False)]
    assert await database.accept([arrival(1)]) == [Taken.REPEAT]
    assert await stage(database) == []


@pytest.mark.parametrize("how", ["finished", "settled", "given back"])
async def test_asked_while_under_way(database: Database, how: str) -> None:
    """A fetch that was under way when another was asked for is followed by one more, at once."""
    await staged(database, 1)
    [fetch] = (await claimed(database)).values()
    await accepted(database, arrival(1, n=1))
    await stage(database)
    assert await claimed(database, now=LATER) == {}  # one at a time for each evaluation
    assert await database.read(rows, fetches_table, "asked", "leased", "due_at") == [(2, True, NOW + LEASE)]
    if how == "finished":
        await finished(database, [fetch], now=LATER)
    else:
        settled = SettledFetch(fetch, LATER + timedelta(hours=1), "server_error", uncounted=how == "given back")
        await database.write(fetches.settle, [settled], LATER)
    assert await database.read(rows, fetches_table, "leased", "due_at") == [(False, LATER)]
    [again] = (await claimed(database, now=LATER)).values()
    assert (again.asked, again.claim) == (2, 2)
    assert again.attempts == (1 if how == "given back" else 2)
    await finished(database, [again], now=LATER)
    assert await claimed(database, now=LATER + timedelta(days=1)) == {}


async def test_asked_without_a_fetch(database: Database) -> None:
    """Where there is no fetch one is made; nothing is held for it."""
    await staged(database, 1)
    await finished(database, (await claimed(database)).values())
    await database.write(sql, "DELETE FROM fetches")
    await accepted(database, arrival(1, n=1))
    assert await stage(database) == [key(1)]
    assert await database.read(rows, fetches_table, "due_at", "hold_until", "asked") == [(LATER, None, 1)]
    assert list(await claimed(database, now=LATER)) == [key(1)]


async def test_limit_and_order(database: Database) -> None:
    """At most so many at once, the longest waiting first."""
    await accepted(database, *(arrival(n, at=NOW + (9 - n) * SECOND) for n in range(10)))
    assert [sorted(await stage(database, limit=limit)) for limit in (3, 4, 9, 9)] == [
        [key(7), key(8), key(9)],
        [key(3), key(4), key(5), key(6)],
        [key(0), key(1), key(2)],
        [],
    ]


async def test_odd_body(database: Database) -> None:
    """A body whose fields are unreadable, missing or full of U+0000 is staged all the same, and what was odd is told."""
    odd = arrival(1, client_ref="a\0b", top_issues=["x\0"], weighted_pass_rate="much", overall_passed=7, run_id=None)
    await accepted(database, odd)
    [it] = await stage_at(database)
    assert sorted(it.oddities) == ["overall_passed is not readable", "weighted_pass_rate is not readable"]
    columns = ("client_ref", "weighted_pass_rate", "overall_passed", "run_id")
    assert await database.read(rows, verdicts, *columns) == [("a\ufffdb", None, None, None)]


async def test_many_at_once(database: Database) -> None:
    """A full batch is one step, whatever of it is new or a second event."""
    completed = [arrival(n) for n in range(100)]
    failed = [arrival(n, "evaluation.failed") for n in range(50, 150)]
    await accepted(database, *completed, *failed)
    assert len(await stage(database, limit=200)) == 200
    assert len(await database.read(rows, verdicts, "evaluation_id")) == 150
    asked = dict(await database.read(rows, fetches_table, "evaluation_id", "asked"))
    assert asked == {key(n): 2 if 50 <= n < 100 else 1 for n in range(150)}


async def test_two_processes(database: Database, another: Opener) -> None:
    """Two processes that look at once never see to the same event, and miss none."""
    await accepted(database, *(arrival(n) for n in range(200)))
    found = await stage_all([database, await another()], limit=20)
    assert sorted(found) == [key(n) for n in range(200)]
    assert await database.read(rows, fetches_table, "asked") == 200 * [(1,)]


async def test_both_events_in_two_processes(database: Database, another: Opener) -> None:
    """When two processes see to the two events of evaluations at once, there is one verdict of each and no error."""
    both = [database, await another()]
    for _ in range(5):
        for table in ("verdicts", "fetches", "events"):
            await database.write(sql, f"DELETE FROM {table}")
        pairs = [[arrival(n), arrival(n, "evaluation.failed")] for n in range(30)]
        await accepted(database, *(each for pair in pairs for each in pair))
        await stage_all(both, limit=7)
        assert await database.read(rows, verdicts, "evaluation_id") == [(key(n),) for n in range(30)]
        assert await database.read(rows, fetches_table, "evaluation_id", "asked") == [(key(n), 2) for n in range(30)]


@pytest.mark.postgres
async def test_second_process_waits_for_the_first(on_postgres: Database, another_on_postgres: Database) -> None:
    """A process that sees to the second event while the verdict of the first is not committed yet asks for another fetch."""
    await accepted(on_postgres, arrival(1), arrival(1, "evaluation.failed", at=NOW + SECOND))
    first_is_in = asyncio.Event()

    def noting(event: WaitingEvent) -> Staged:
        first_is_in.set()
        return plan_at(LATER)(event)

    async def second_one() -> list[UUID]:
        await first_is_in.wait()
        return await stage(another_on_postgres, limit=1)

    second = asyncio.create_task(second_one())
    first = await on_postgres.write(staging.stage, noting, limit=1, now=LATER)
    assert [len(first), len(await second)] == [1, 1]
    assert await on_postgres.read(rows, fetches_table, "asked") == [(2,)]
