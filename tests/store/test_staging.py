"""From stored events to pending verdicts whose tree is due to be fetched."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from receiver.store import fetches, staging
from receiver.store.database import Database
from receiver.store.fetches import SettledFetch
from receiver.store.intake import Taken
from receiver.store.staging import StageResult
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
    plan,
    plan_without_key,
    staged,
)  # fmt: skip
from tests.store.places import all_of, rows, sql

LATER = NOW + 5 * SECOND


async def stage(database: Database, *, limit: int = 100) -> StageResult:
    return await database.write(staging.stage, plan, [ALL, FILE], limit=limit, now=LATER)


async def stage_all(both: list[Database], *, limit: int) -> list[StageResult]:
    """Several steps of two processes at once, until there is nothing left."""
    results: list[StageResult] = []
    while not results or results[-1].events:
        results += await all_of([stage(both[n % 2], limit=limit) for n in range(6)])
    return results


async def test_pending_with_a_fetch(database: Database) -> None:
    """An event becomes a pending verdict whose fetch is due now and which is held from its arrival on; nothing goes out."""
    await accepted(database, arrival(1, client_ref="ref", overall_passed=False))
    assert await stage(database) == StageResult(events=1, fetches=1, released=[])
    columns = ("evaluation_id", "tree", "revision", "client_ref", "overall_passed", "due_to", "received_at")
    assert await database.read(rows, verdicts, *columns) == [(key(1), "pending", 0, "ref", False, "[]", NOW)]
    of_fetch = ("evaluation_id", "due_at", "hold_until", "started_at", "leased", "attempts", "claim", "asked")
    assert await database.read(rows, fetches_table, *of_fetch) == [(key(1), LATER, NOW + HOLD, LATER, False, 0, 0, 1)]
    assert await database.read(rows, events, "waiting") == [(False,)]
    assert await database.read(rows, deliveries, "sink") == []
    assert await stage(database) == StageResult(0, 0, [])


async def test_sample(database: Database) -> None:
    """A sample is released at once, without a fetch, and goes to sinks that take samples alone."""
    await accepted(database, arrival(SAMPLE))
    result = await stage(database)
    [released] = result.released
    assert (result.events, result.fetches, released.is_new, released.sinks) == (1, 0, True, ["file"])
    assert (released.verdict.tree_reason, released.verdict.revision) == ("sample", 1)
    assert await database.read(rows, deliveries, "sink", "revision", "state", "due_at") == [
        ("file", 1, "pending", LATER)
    ]
    assert await database.read(rows, fetches_table, "evaluation_id") == []
    assert await database.read(rows, verdicts, "tree", "origin", "due_to") == [("unavailable", "sample", '["file"]')]


async def test_without_a_key(database: Database) -> None:
    """Where nothing can be fetched verdicts are released at once, and a second event changes nothing."""
    await accepted(database, arrival(1))
    result = await database.write(staging.stage, plan_without_key, [ALL], limit=10, now=LATER)
    assert [(each.verdict.tree_reason, each.sinks) for each in result.released] == [("no_api_key", ["all"])]
    await accepted(database, arrival(1, "evaluation.failed"))
    again = await database.write(staging.stage, plan_without_key, [ALL], limit=10, now=LATER)
    assert again == StageResult(1, 0, [])
    assert await database.read(rows, fetches_table, "evaluation_id") == []
    assert await database.read(rows, deliveries, "sink") == [("all",)]


async def test_both_events_at_once(database: Database) -> None:
    """Both events of one evaluation are one verdict, decided by the fetch, which is asked for twice."""
    await accepted(database, arrival(1), arrival(1, "evaluation.failed", at=NOW + SECOND))
    assert await stage(database) == StageResult(2, 2, [])
    assert await database.read(rows, verdicts, "evaluation_id", "event") == [(key(1), "evaluation.completed")]
    assert await database.read(rows, fetches_table, "asked", "due_at") == [(2, LATER)]


async def test_second_event_asks_again(database: Database) -> None:
    """A second event, and a repeat with other bytes, have a tree that was fetched already fetched again, from the start."""
    await staged(database, 1)
    await finished(database, (await claimed(database)).values())
    await accepted(database, arrival(1, "evaluation.failed"))
    assert await stage(database) == StageResult(1, 1, [])
    columns = ("due_at", "started_at", "asked", "attempts", "hold_until", "leased")
    assert await database.read(rows, fetches_table, *columns) == [(LATER, LATER, 2, 0, None, False)]
    assert await database.accept([arrival(1, n=1)]) == [Taken.REPEAT]
    assert await stage(database) == StageResult(1, 1, [])
    assert await database.read(rows, fetches_table, *columns) == [(LATER, LATER, 3, 0, None, False)]
    assert await database.accept([arrival(1)]) == [Taken.REPEAT]
    assert await stage(database) == StageResult(0, 0, [])


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
    """Where there never was a fetch, as for what was released without a key, one is made; nothing is held any more."""
    await accepted(database, arrival(1))
    await database.write(staging.stage, plan_without_key, [ALL], limit=10, now=NOW)
    await accepted(database, arrival(1, n=1))
    assert await stage(database) == StageResult(1, 1, [])
    assert await database.read(rows, fetches_table, "due_at", "hold_until", "asked") == [(LATER, None, 1)]
    assert list(await claimed(database, now=LATER)) == [key(1)]


async def test_limit_and_order(database: Database) -> None:
    """At most so many at once, the longest waiting first."""
    await accepted(database, *(arrival(n, at=NOW + (9 - n) * SECOND) for n in range(10)))
    assert (await stage(database, limit=3)).events == 3
    assert await database.read(rows, verdicts, "evaluation_id") == [(key(n),) for n in (7, 8, 9)]
    assert [(await stage(database, limit=4)).events for _ in range(3)] == [4, 3, 0]


async def test_odd_body(database: Database) -> None:
    """A body whose fields are unreadable, missing or full of U+0000 is staged all the same."""
    odd = arrival(1, client_ref="a\0b", top_issues=["x\0"], weighted_pass_rate="much", overall_passed=7, run_id=None)
    await accepted(database, odd)
    assert (await stage(database)).events == 1
    columns = ("client_ref", "weighted_pass_rate", "overall_passed", "run_id")
    assert await database.read(rows, verdicts, *columns) == [("a\ufffdb", None, None, None)]


async def test_many_at_once(database: Database) -> None:
    """A full batch is one step, whatever of it is new, a second event or a sample."""
    completed = [arrival(n) for n in range(100)]
    failed = [arrival(n, "evaluation.failed") for n in range(50, 150)]
    await accepted(database, *completed, *failed)
    assert await stage(database, limit=200) == StageResult(200, 200, [])
    assert len(await database.read(rows, verdicts, "evaluation_id")) == 150


async def test_two_processes(database: Database, another: Callable[[], Awaitable[Database]]) -> None:
    """Two processes that look at once never see to the same event, and miss none."""
    await accepted(database, *(arrival(n) for n in range(200)))
    results = await stage_all([database, await another()], limit=20)
    assert sum(each.events for each in results) == sum(each.fetches for each in results) == 200
    assert await database.read(rows, fetches_table, "asked") == 200 * [(1,)]


async def test_both_events_in_two_processes(database: Database, another: Callable[[], Awaitable[Database]]) -> None:
    """When two processes see to the two events of evaluations at once, there is one verdict of each and no error."""
    both = [database, await another()]
    for _ in range(5):
        await database.write(sql, "DELETE FROM verdicts")
        await database.write(sql, "DELETE FROM fetches")
        await database.write(sql, "DELETE FROM events")
        pairs = [[arrival(n), arrival(n, "evaluation.failed")] for n in range(30)]
        await accepted(database, *(each for pair in pairs for each in pair))
        await stage_all(both, limit=7)
        assert await database.read(rows, verdicts, "evaluation_id") == [(key(n),) for n in range(30)]
        assert sorted(await database.read(rows, fetches_table, "evaluation_id", "asked")) == [
            (key(n), 2) for n in range(30)
        ]


@pytest.mark.postgres
async def test_second_process_waits_for_the_first(on_postgres: Database, another_on_postgres: Database) -> None:
    """A process that sees to the second event while the verdict of the first is not committed yet asks for another fetch."""
    await accepted(on_postgres, arrival(1), arrival(1, "evaluation.failed", at=NOW + SECOND))
    first_is_in = asyncio.Event()

    def slowly(event: staging.WaitingEvent) -> staging.Staged:
        first_is_in.set()
        return plan(event)

    async def second_one() -> StageResult:
        await first_is_in.wait()
        return await stage(another_on_postgres, limit=1)

    second = asyncio.create_task(second_one())
    first = await on_postgres.write(staging.stage, slowly, [ALL], limit=1, now=LATER)
    assert [first, await second] == 2 * [StageResult(1, 1, [])]
    assert await on_postgres.read(rows, fetches_table, "asked") == [(2,)]
