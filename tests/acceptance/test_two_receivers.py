"""Two machines on one PostgreSQL, given the same callbacks at the same time: each is stored once and delivered once."""

import asyncio

from receiver.offline import OfflineRunflow
from tests.acceptance.books import LookInto, check_books, quiet, repeats, stored
from tests.acceptance.collector import Collector, check_arrived
from tests.acceptance.load import Callback, Load
from tests.acceptance.processes import API_KEY, SECRET, Install

EVENTS = 200


async def test_the_same_callbacks_at_both(install: Install, postgres_address: str, look_into: LookInto) -> None:
    """One of the two says that it is the first, the other that it is a repeat, and one message goes out."""
    async with OfflineRunflow(secret=SECRET, api_key=API_KEY) as runflow, Collector() as collector:
        place = install(
            collector.sink(timeout=60),
            DATABASE_URL=postgres_address,
            DATABASE_AUTO_UPGRADE="on",
            RUNFLOW_API_URL=runflow.url,
            RUNFLOW_API_KEY=API_KEY,
        )
        servers = await asyncio.gather(place.serve(forked=True), place.serve(forked=True))
        callbacks = [Callback(runflow) for _ in range(EVENTS)]
        loads = [Load(server.address) for server in servers]
        await asyncio.gather(*(load.post(callbacks, connections=10) for load in loads))
        database = look_into(postgres_address)
        await quiet(database)
        answers = loads[0].outcomes + loads[1].outcomes
        in_vain = answers.total() - 2 * EVENTS  # none, unless the machine stands still
        assert EVENTS - in_vain <= answers["202"] <= EVENTS
        assert await stored(database) == {callback.key for callback in callbacks}
        assert EVENTS <= await repeats(database) <= EVENTS + in_vain
        assert check_arrived(callbacks, collector.arrivals) == 0
        await check_books(database, delivered=EVENTS)
