"""PostgreSQL stopped hard under load: 503 while it is away, and all goes on by itself when it is back."""

import signal
from collections.abc import Iterator

import pytest

from receiver.offline import OfflineRunflow
from tests.acceptance.books import LookInto, check_books, quiet, stored
from tests.acceptance.cluster import Cluster, running_cluster
from tests.acceptance.collector import Collector, check_arrived, in_stream, sink
from tests.acceptance.load import Callback, Load
from tests.acceptance.processes import API_KEY, SECRET, Install, Report, until

RESTARTS = 2


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A server of this test's own."""
    with running_cluster() as cluster:
        yield cluster


async def test_restarted_under_load(
    cluster: Cluster, install: Install, redis_url: str, stream: str, look_into: LookInto, report: Report
) -> None:
    """Nothing that was acknowledged is lost, callers are told to come again, nobody needs to lend a hand."""
    async with OfflineRunflow(secret=SECRET, api_key=API_KEY) as runflow:
        place = install(
            sink("out", "redis", url=redis_url, stream=stream),
            DATABASE_URL=cluster.url,
            DATABASE_AUTO_UPGRADE="on",
            RUNFLOW_API_URL=runflow.url,
            RUNFLOW_API_KEY=API_KEY,
        )
        server = await place.serve("--no-pipeline", forked=True)
        await place.work(altered="short-leases", forked=True)
        load = Load(server.address)
        async with load.going_on(lambda: Callback(runflow)):
            for _ in range(RESTARTS):
                await load.taken(50)
                cluster.stop()
                await load.refused(3)
                cluster.start()
            await load.taken(50)
        database = look_into(cluster.url)
        await quiet(database)
        assert await stored(database) == load.acknowledged.keys()
        check_arrived(load.acknowledged.values(), await in_stream(redis_url, stream))
        await check_books(database, delivered=len(load.acknowledged))
        assert load.outcomes.keys() <= {"200", "202", "503"}, load.outcomes
        assert load.retry_after == {"5"}
    report(f"{dict(load.outcomes)}")


async def test_hangs_and_goes_on(cluster: Cluster, install: Install, look_into: LookInto, report: Report) -> None:
    """A database that answers nothing is a 503 in time, and no reason not to end in time."""
    async with OfflineRunflow(secret=SECRET, api_key=API_KEY) as runflow, Collector() as collector:
        place = install(
            collector.sink(),
            DATABASE_URL=cluster.url,
            DATABASE_AUTO_UPGRADE="on",
            RUNFLOW_API_URL=runflow.url,
            RUNFLOW_API_KEY=API_KEY,
        )
        server = await place.serve(altered="short-leases", forked=True)
        load = Load(server.address)
        async with load.going_on(lambda: Callback(runflow)):
            await until(lambda: len(collector.arrivals) > 10, "messages that arrive")
            cluster.signal(signal.SIGSTOP)
            await load.refused(3)
            took = await server.stop()
            cluster.signal(signal.SIGCONT)
            server = await place.serve(altered="short-leases", forked=True)
            load.address = server.address
        database = look_into(cluster.url)
        await quiet(database)
        assert await stored(database) == load.acknowledged.keys()
        check_arrived(load.acknowledged.values(), collector.arrivals)
        await check_books(database, delivered=len(load.acknowledged))
    report(f"503 within {load.slowest_refusal:.1f} s; stopped in {took:.1f} s; {dict(load.outcomes)}")


async def test_stopped_while_the_database_is_away(cluster: Cluster, install: Install, report: Report) -> None:
    """A process whose database is gone ends in time all the same, and starts without it."""
    place = install(sink("out", "file", path="out.ndjson"), DATABASE_URL=cluster.url, DATABASE_AUTO_UPGRADE="on")
    server = await place.serve(forked=True)
    cluster.stop()
    await server.says_it_is(503, "database")
    away = await server.stop()
    server = await place.serve(forked=True)
    await server.logged("database.unavailable")
    never_there = await server.stop()
    report(f"{away:.2f} s; {never_there:.2f} s if it was never there")
