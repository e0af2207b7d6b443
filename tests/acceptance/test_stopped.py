"""SIGTERM and SIGINT: what is under way ends or is given back, nothing is lost or sent twice, the exit status is 0."""

import signal

import pytest

from receiver.offline import OfflineRunflow
from receiver.offline.faults import RequestFault, Slow
from receiver.store.database import Database
from tests.acceptance.books import LookInto, check_books, leased, quiet, stored
from tests.acceptance.collector import Collector, check_arrived, sink
from tests.acceptance.load import Callback, Load
from tests.acceptance.processes import API_KEY, SECRET, Install, Report, Server, until

NEVER = 600.0
"""Seconds, more than any test takes."""
MOMENT = 0.5
"""Seconds that fetches and sends take where they are to end in time."""
GRACE = 3.0
"""Seconds. A stop that took longer, on a machine that stands still, may have cut something off."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_idle(number: signal.Signals, install: Install, sqlite_address: str, report: Report) -> None:
    """A `serve` with nothing to do ends with status 0."""
    place = install(sink("out", "file", path="out.ndjson"), DATABASE_URL=sqlite_address)
    server = await place.serve()
    report(f"{await server.stop(number):.2f} s")


async def test_idle_worker(install: Install, postgres_address: str, report: Report) -> None:
    """So does a `work`."""
    place = install("", DATABASE_URL=postgres_address, DATABASE_AUTO_UPGRADE="on")
    worker = await place.work()
    report(f"{await worker.stop():.2f} s")


async def test_work_under_way_ends(address: str, install: Install, look_into: LookInto, report: Report) -> None:
    """Fetches and sends that take a moment are finished and written back, so that nothing is sent twice afterwards."""
    async with OfflineRunflow(secret=SECRET, api_key=API_KEY) as runflow, Collector() as collector:
        place = install(
            collector.sink(timeout=60),
            DATABASE_URL=address,
            DATABASE_AUTO_UPGRADE="on",
            RUNFLOW_API_URL=runflow.url,
            RUNFLOW_API_KEY=API_KEY,
        )
        collector.delay = MOMENT
        server = await place.serve(forked=True)
        load = Load(server.address)
        async with load.going_on(lambda: Callback(runflow)):
            await until(lambda: collector.waiting > 0, "a send under way")
            runflow.faults.slow = Slow(seconds=MOMENT)
            took = await server.stop()
            database = look_into(address)
            assert await leased(database) == 0
            runflow.faults.slow = None
            collector.delay = 0
            server = await place.serve(forked=True)
            load.address = server.address
        again = await _all_arrived(database, load, collector)
        assert again == 0 or took > GRACE
        await check_books(database, delivered=len(load.acknowledged))
    report(f"{took:.2f} s; {dict(load.outcomes)}")


async def test_work_that_hangs_is_given_back(
    address: str, install: Install, look_into: LookInto, report: Report
) -> None:
    """Fetches and sends that do not end are given back; whoever starts next has them at once, with no attempt used up."""
    async with OfflineRunflow(secret=SECRET, api_key=API_KEY) as runflow, Collector() as collector:
        place = install(
            collector.sink(timeout=60),
            DATABASE_URL=address,
            DATABASE_AUTO_UPGRADE="on",
            RUNFLOW_API_URL=runflow.url,
            RUNFLOW_API_KEY=API_KEY,
        )
        collector.delay = NEVER
        server = await place.serve(forked=True)
        load = Load(server.address)
        await load.post([Callback(runflow)])
        await until(lambda: collector.waiting > 0, "a send under way")
        runflow.faults.hanging = RequestFault()
        await load.post([Callback(runflow) for _ in range(20)])
        database = look_into(address)

        async def enough_are_leased() -> bool:
            return await leased(database) > 10  # the send, and as many fetches as there may be

        await until(enough_are_leased, "a send and ten fetches under way")
        took = await server.stop()
        assert await leased(database) == 0
        runflow.faults.hanging = None
        collector.delay = 0
        await place.serve(forked=True)
        assert await _all_arrived(database, load, collector) == 0
        await check_books(database, delivered=len(load.acknowledged))
    report(f"{took:.2f} s")


async def test_an_impatient_second_signal(install: Install, sqlite_address: str, look_into: LookInto) -> None:
    """Signals that come while it stops change nothing: what is under way is given back, and the status is 0."""
    async with Collector() as collector:
        place = install(collector.sink(timeout=60), DATABASE_URL=sqlite_address)
        collector.delay = NEVER
        server = await place.serve(forked=True)
        async with OfflineRunflow(secret=SECRET) as runflow:
            await Load(server.address).post([Callback(runflow)])
        await until(lambda: collector.waiting > 0, "a send under way")
        server.signal(signal.SIGTERM)
        await _is_stopping(server)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            server.signal(number)
        assert await server.ended() == 0, server.log_end()
        assert await leased(look_into(sqlite_address)) == 0


async def _is_stopping(server: Server) -> None:
    def has_ended_its_http_side() -> bool:
        return any("Finished server" in record["message"] for record in server.look("uvicorn.error"))

    await until(has_ended_its_http_side, "the end of the HTTP side")


async def _all_arrived(database: Database, load: Load, collector: Collector) -> int:
    """Waits until all is done; returns how many messages came twice."""
    await quiet(database)
    assert await stored(database) == load.acknowledged.keys()
    return check_arrived(load.acknowledged.values(), collector.arrivals)
