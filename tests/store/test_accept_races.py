"""Many at once: from one process, and on PostgreSQL from two. The key decides who was first, and no deadlock is seen."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from receiver.store.database import Database
from receiver.store.intake import Arrival, Taken
from receiver.store.tables import events, other_bodies, set_aside
from tests.store.building import arrival, key, other
from tests.store.places import all_of, rows


async def one(database: Database, each: Arrival) -> Taken:
    [outcome] = await database.accept([each])
    return outcome


async def test_same_key_from_one_process(database: Database) -> None:
    """Of 50 that come at once exactly one is new, and the other 49 are counted."""
    outcomes = await all_of([one(database, arrival(1)) for _ in range(50)])
    assert Counter(outcomes) == {Taken.NEW: 1, Taken.REPEAT: 49}
    assert await database.read(rows, events, "evaluation_id", "repeats") == [(key(1), 49)]


async def test_same_key_from_two_processes(database: Database, another: Callable[[], Awaitable[Database]]) -> None:
    """Of 100 that come at once to two processes exactly one is new, and the other 99 are counted."""
    both = [database, await another()]
    outcomes = await all_of([one(both[n % 2], arrival(1)) for n in range(100)])
    assert Counter(outcomes) == {Taken.NEW: 1, Taken.REPEAT: 99}
    assert await database.read(rows, events, "evaluation_id", "repeats") == [(key(1), 99)]


async def test_other_bytes_from_two_processes(database: Database, another: Callable[[], Awaitable[Database]]) -> None:
    """However many come at once with three different bodies, one is the event's and the two others are kept once."""
    both = [database, await another()]
    outcomes = await all_of([one(both[n % 2], arrival(1, n=n % 3)) for n in range(60)])
    assert Counter(outcomes) == {Taken.NEW: 1, Taken.REPEAT: 59}
    stored = [content for [content] in await database.read(rows, events, "body")]
    stored += [content for [content] in await database.read(rows, other_bodies, "body")]
    assert sorted(stored) == sorted(arrival(1, n=n).body for n in range(3))
    assert await database.read(rows, events, "waiting", "repeats") == [(True, 59)]


@pytest.mark.postgres
async def test_opposite_orders(on_postgres: Database, another_on_postgres: Database) -> None:
    """Batches with the same keys in opposite orders, new and repeated, from two processes: no deadlock, no count lost."""
    luck = random.Random(1)
    batches = []
    for round_ in range(20):
        batch: list[Arrival] = [arrival(n, n=round_ % 2) for n in range(40)]
        batch += [other(b"%d" % n) for n in range(10)]
        batches += [batch, batch[::-1], luck.sample(batch, len(batch))]
    gates = asyncio.Semaphore(6)

    async def store(database: Database, batch: list[Arrival]) -> list[Taken]:
        async with gates:
            return await database.accept(batch)

    both = (on_postgres, another_on_postgres)
    outcomes = await all_of([store(both[n % 2], batch) for n, batch in enumerate(batches)])
    new = sum(Counter(each)[Taken.NEW] for each in outcomes)
    assert new == 40 + 60 * 10  # what is set aside is never told to be a repeat
    assert await on_postgres.read(rows, events, "evaluation_id", "repeats") == [(key(n), 59) for n in range(40)]
    assert await on_postgres.read(rows, set_aside, "repeats") == 10 * [(59,)]
    assert len(await on_postgres.read(rows, other_bodies, "evaluation_id")) == 40
