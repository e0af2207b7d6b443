"""Behind a transaction pooler: each transaction may be on another server connection, so none may lean on an earlier one."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

from receiver.store import lanes, outbox, schema
from receiver.store.database import Database
from receiver.store.intake import Taken
from receiver.store.outbox import Settled
from receiver.store.tables import deliveries
from tests.store.bouncer import bouncer
from tests.store.building import NOW, accepted, arrival, key, other, released, taken
from tests.store.places import LONG, all_of, new_postgres_database, opened, rows, scalar

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def pooled_url(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty database behind a pooler."""
    folder = tmp_path_factory.mktemp("pgbouncer")
    with new_postgres_database(postgres_url) as url, bouncer(url, folder) as pooled:
        yield pooled


@pytest.fixture
async def pooled(pooled_url: str) -> AsyncIterator[Database]:
    """A migrated database behind a pooler."""
    async with opened(pooled_url, pooler=True) as database:
        await schema.upgrade(database)
        yield database


async def test_whole_way(pooled: Database, pooled_url: str) -> None:
    """Migration, intake, fetch, release and delivery work, from two processes that share three server connections."""
    async with opened(pooled_url, pooler=True) as second:
        both = (pooled, second)
        outcomes = await all_of([both[n % 2].accept([arrival(n % 25), other(b"%d" % (n % 5))]) for n in range(100)])
        assert Counter(each[0] for each in outcomes) == {Taken.NEW: 25, Taken.REPEAT: 75}
        reads = [both[n % 2].read(lanes.troubled) for n in range(50)]
        writes = [both[n % 2].write(lanes.pause, f"n{n}", until=NOW, reason="r", now=NOW) for n in range(50)]
        assert Counter(map(bool, await all_of([*reads, *writes])))[True] >= 50

        await released(pooled, *range(100, 120))
        claims = await all_of([taken(both[n % 2], limit=4) for n in range(10)])
        ours = [each for claim in claims for each in claim]
        assert sorted(each.evaluation_id for each in ours) == [key(n) for n in range(100, 120)]
        await second.write(outbox.settle, [Settled(it.id, it.claim, "delivered", ended_at=NOW) for it in ours])
        assert await pooled.read(rows, deliveries, "state") == 20 * [("delivered",)]


async def test_nothing_is_prepared(pooled: Database) -> None:
    """No statement stays prepared on a server connection, where the next process would not know it."""
    await accepted(pooled, arrival(1000))
    assert await all_of([pooled.read(scalar, "SELECT count(*) FROM pg_prepared_statements") for _ in range(6)]) == 6 * [
        0
    ]


async def test_polls(pooled: Database) -> None:
    """LISTEN cannot work there: nothing is heard, ringing does nothing, listening returns."""
    assert pooled.hears_others is False
    await pooled.ring("events")
    async with asyncio.timeout(LONG):
        await pooled.listen(pytest.fail)
