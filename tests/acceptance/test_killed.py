"""SIGKILL at random moments under load, and between any two writes: what was acknowledged is stored and delivered."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from receiver.offline import OfflineRunflow
from tests.acceptance.books import LookInto, check_audit, quiet, stored
from tests.acceptance.collector import Collector, check_arrived, in_file, in_stream, sink
from tests.acceptance.load import Callback, Load
from tests.acceptance.processes import API_KEY, SECRET, Install, Program, Report

FEW = 5
"""How often each process is killed where there is little time."""
LONGEST_WAIT = 0.5
MOMENTS = [
    f"die:{function}:{moment}"
    for function in (
        "intake.accept",
        "staging.stage",
        "fetches.take",
        "fetches.finish",
        "outbox.take",
        "outbox.settle",
    )
    for moment in ("before", "after")
]
"""Every write of the way from the callback to the destination."""


@pytest.mark.parametrize("kills", [FEW, pytest.param(200, marks=pytest.mark.long)])
async def test_one_process_on_sqlite(
    kills: int, install: Install, sqlite_address: str, look_into: LookInto, report: Report
) -> None:
    """Whatever a killed `serve` acknowledged is in the file in the end, and repeats there are the same message."""
    async with OfflineRunflow(secret=SECRET, api_key=API_KEY) as runflow:
        place = install(
            sink("out", "file", path="out.ndjson"),
            DATABASE_URL=sqlite_address,
            RUNFLOW_API_URL=runflow.url,
            RUNFLOW_API_KEY=API_KEY,
        )
        server = await place.serve()
        load = Load(server.address)
        async with load.going_on(lambda: Callback(runflow)):
            for _ in range(kills):
                await _random_moment(load)
                server.kill()
                server = await place.serve(forked=True)
                load.address = server.address
        database = look_into(sqlite_address)
        await quiet(database)
        assert await stored(database) == load.acknowledged.keys()
        again = check_arrived(load.acknowledged.values(), in_file(place.folder / "out.ndjson"))
        books = await check_audit(place)
        assert books["events"] == len(load.acknowledged)
        await server.stop()
    report(f"{kills} kills, {len(load.acknowledged)} callbacks, {dict(load.outcomes)}, {again} messages came twice")


@pytest.mark.parametrize("kills", [FEW, pytest.param(100, marks=pytest.mark.long)])
async def test_three_processes_on_postgresql(
    kills: int,
    install: Install,
    postgres_address: str,
    redis_url: str,
    stream: str,
    look_into: LookInto,
    report: Report,
) -> None:
    """However `serve --no-pipeline` and two `work` die, each acknowledged callback is in the Redis stream once."""
    async with OfflineRunflow(secret=SECRET, api_key=API_KEY) as runflow:
        place = install(
            sink("out", "redis", url=redis_url, stream=stream),
            DATABASE_URL=postgres_address,
            RUNFLOW_API_URL=runflow.url,
            RUNFLOW_API_KEY=API_KEY,
        )
        assert (await place.run("db", "upgrade")).status == 0
        server = await place.serve("--no-pipeline")
        load = Load(server.address)

        async def serve() -> Program:
            server = await place.serve("--no-pipeline", forked=True)
            load.address = server.address
            return server

        async def work() -> Program:
            return await place.work(altered="short-leases", forked=True)

        async with load.going_on(lambda: Callback(runflow)), asyncio.TaskGroup() as group:
            for program, again in ((server, serve), (await work(), work), (await work(), work)):
                group.create_task(_kill_again_and_again(program, again, kills, load))
        database = look_into(postgres_address)
        await quiet(database)
        assert await stored(database) == load.acknowledged.keys()
        assert check_arrived(load.acknowledged.values(), await in_stream(redis_url, stream)) == 0
        books = await check_audit(place)
        assert books["events"] == len(load.acknowledged)
    report(f"{3 * kills} kills, {len(load.acknowledged)} callbacks, {dict(load.outcomes)}")


async def _kill_again_and_again(
    program: Program, again: Callable[[], Awaitable[Program]], kills: int, load: Load
) -> None:
    for _ in range(kills):
        await _random_moment(load)
        program.kill()
        program = await again()


async def _random_moment(load: Load) -> None:
    """Comes soon, but not before some more callbacks went in."""
    await load.taken(10)
    await asyncio.sleep(random.uniform(0, LONGEST_WAIT))


async def test_between_any_two_writes(address: str, install: Install, look_into: LookInto, report: Report) -> None:
    """A process that dies before or after the commit of any write leaves nothing that the next one does not finish."""
    async with OfflineRunflow(secret=SECRET, api_key=API_KEY) as runflow, Collector() as collector:
        place = install(
            collector.sink(),
            DATABASE_URL=address,
            DATABASE_AUTO_UPGRADE="on",
            RUNFLOW_API_URL=runflow.url,
            RUNFLOW_API_KEY=API_KEY,
        )
        load = Load("http://127.0.0.1:1")
        async with load.going_on(lambda: Callback(runflow), connections=4):
            for moment in MOMENTS:
                server = await place.serve_to_die(f"short-leases,{moment}")
                load.address = server.address or load.address
                assert await server.ended() == -9, server.log_end()
            server = await place.serve()
            load.address = server.address
        database = look_into(address)
        await quiet(database)
        assert await stored(database) == load.acknowledged.keys()
        again = check_arrived(load.acknowledged.values(), collector.arrivals)
        await check_audit(place)
        await server.stop()
    report(f"{len(MOMENTS)} deaths, {len(load.acknowledged)} callbacks, {again} messages came twice")
