"""The stream, read by who is cut off and comes back while everything is killed: each released revision exactly once."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import httpx
import pytest
from sqlalchemy import Connection, select

from receiver.offline import OfflineRunflow
from receiver.store.database import Database
from receiver.store.tables import revisions, verdicts
from tests.acceptance.books import LookInto, quiet
from tests.acceptance.load import Callback, Load
from tests.acceptance.processes import API_KEY, SECRET, Install, Program, Report, Server, until
from tests.web.sources import Event, Source

TOKEN = "a-token-of-the-acceptance-tests"
AT_ONCE = "[fetch]\nhold = 0\n"
"""A verdict goes out at once without its tree, and with it as a revision: each evaluation is released twice."""
LONGEST_READ = 1.0
LONGEST_PAUSE = 0.2
FEW = 3
"""How often each process is killed where there is little time."""

Revisions = dict[tuple[str, int], str]
"""What `tree` of each revision is."""


class Follower:
    """Reads the stream from one of several processes, is cut off at random, and comes back to any of them."""

    def __init__(self, addresses: Callable[[], Sequence[str]], **params: str) -> None:
        self.events: list[Event] = []
        self.connections = 0
        self._addresses = addresses
        self._source = Source("", TOKEN, params)
        self._luck = random.Random(str(params))

    @property
    def revisions(self) -> set[tuple[str, int]]:
        """All that came."""
        return {event.revision for event in self.events}

    def has(self, wanted: set[tuple[str, int]]) -> bool:
        """Whether all of these came."""
        return self.revisions >= wanted

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """For as long as this lasts."""
        task = asyncio.create_task(self._again_and_again())
        try:
            yield
            if task.done():
                task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _again_and_again(self) -> None:
        while True:
            self._source.address = self._luck.choice(self._addresses())
            try:
                async with asyncio.timeout(self._luck.uniform(0, LONGEST_READ)), self._source.opened():
                    assert self._source.status in (200, 503)
                    self.connections += 1
                    async for event in self._source.rest():
                        self.events.append(event)
            except (httpx.HTTPError, TimeoutError):
                pass
            await asyncio.sleep(self._luck.uniform(0, LONGEST_PAUSE))


async def released(database: Database) -> Revisions:
    """Every revision that is stored, by the tables of verdicts and not by those of the stream."""

    def read(conn: Connection) -> Revisions:
        newest = select(verdicts.c.evaluation_id, verdicts.c.revision, verdicts.c.tree).where(verdicts.c.revision > 0)
        found = {(str(key), number): tree for key, number, tree in conn.execute(newest)}
        earlier = select(revisions.c.evaluation_id, revisions.c.revision)
        return found | {(str(key), number): "unavailable" for key, number in conn.execute(earlier)}

    return await database.read(read)


async def check(database: Database, everything: Follower, complete: Follower, load: Load) -> str:
    """Each follower has what it is to have, each once, in the order of cursors."""
    await quiet(database)
    due = await released(database)
    assert {key for key, _ in due} == {str(key) for key in load.acknowledged}
    assert max(number for _, number in due) > 1, "no revisions"
    wanted = {each for each, tree in due.items() if tree == "complete"}
    for follower, its in ((everything, set(due)), (complete, wanted)):
        await until(partial(follower.has, its), "all that was released")
        assert follower.revisions == its
        assert len(follower.events) == len(its), "something came twice"
        cursors = [int(event.id) for event in follower.events]
        assert cursors == sorted(cursors)
    connections = everything.connections, complete.connections
    return f"{len(due)} revisions of {len(load.acknowledged)} evaluations over {connections} connections"


@pytest.mark.parametrize("kills", [FEW, pytest.param(100, marks=pytest.mark.long)])
async def test_one_process_on_sqlite(
    kills: int, install: Install, sqlite_address: str, look_into: LookInto, report: Report
) -> None:
    """A `serve` is killed and stopped in turn; a second, without a pipeline, reads the same file and lives on."""
    async with OfflineRunflow(secret=SECRET, api_key=API_KEY) as runflow:
        place = install(
            AT_ONCE,
            DATABASE_URL=sqlite_address,
            RUNFLOW_API_URL=runflow.url,
            RUNFLOW_API_KEY=API_KEY,
            RECEIVER_API_TOKENS=TOKEN,
        )
        server = await place.serve()
        beside = await place.serve("--no-pipeline", forked=True)
        load = Load(server.address)

        def addresses() -> Sequence[str]:
            return load.address, load.address, beside.address

        everything, complete = Follower(addresses), Follower(addresses, tree="complete")
        async with everything.reading(), complete.reading():
            await until(lambda: everything.connections > 0 and complete.connections > 0, "two readers")
            async with load.going_on(lambda: Callback(runflow)):
                for number in range(kills):
                    await load.taken(10)
                    await (server.stop() if number % 2 else _killed(server))
                    server = await place.serve(forked=True)
                    load.address = server.address
            report(f"{kills} ends; {await check(look_into(sqlite_address), everything, complete, load)}")


async def _killed(server: Server) -> None:
    server.kill()


@pytest.mark.parametrize("kills", [FEW, pytest.param(60, marks=pytest.mark.long)])
async def test_four_processes_on_postgresql(
    kills: int, install: Install, postgres_address: str, look_into: LookInto, report: Report
) -> None:
    """Two `serve --no-pipeline` stream what two `work` release, while all four are killed and stopped in turn."""
    async with OfflineRunflow(secret=SECRET, api_key=API_KEY) as runflow:
        place = install(
            AT_ONCE,
            DATABASE_URL=postgres_address,
            RUNFLOW_API_URL=runflow.url,
            RUNFLOW_API_KEY=API_KEY,
            RECEIVER_API_TOKENS=TOKEN,
        )
        assert (await place.run("db", "upgrade")).status == 0
        servers = [await place.serve("--no-pipeline", forked=True) for _ in range(2)]
        load = Load(servers[0].address)

        async def end_servers(which: int) -> None:
            for number in range(kills):
                await load.taken(10)
                await (servers[which].stop() if number % 2 else _killed(servers[which]))
                servers[which] = await place.serve("--no-pipeline", forked=True)
                load.address = servers[0].address

        async def end_workers() -> None:
            worker: Program = await place.work(altered="short-leases", forked=True)
            for number in range(kills):
                await load.taken(10)
                if number % 2:
                    await worker.stop()
                else:
                    worker.kill()
                worker = await place.work(altered="short-leases", forked=True)

        def addresses() -> Sequence[str]:
            return [server.address for server in servers]

        everything, complete = Follower(addresses), Follower(addresses, tree="complete")
        async with everything.reading(), complete.reading():
            await until(lambda: everything.connections > 0 and complete.connections > 0, "two readers")
            async with load.going_on(lambda: Callback(runflow)), asyncio.TaskGroup() as group:
                for ending in (end_servers(0), end_servers(1), end_workers(), end_workers()):
                    group.create_task(ending)
            report(f"{4 * kills} ends; {await check(look_into(postgres_address), everything, complete, load)}")
