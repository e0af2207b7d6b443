"""SIGKILL at random moments while a burst goes to Slack: each verdict is told of by a message that is there; they are few."""

import asyncio
import random
from collections import Counter

import pytest
from sqlalchemy import select

from receiver.offline import OfflineRunflow
from receiver.store.tables import deliveries
from tests.acceptance.books import LookInto, check_audit, quiet, stored
from tests.acceptance.collector import sink
from tests.acceptance.load import Callback, Load
from tests.acceptance.processes import API_KEY, SECRET, Install, Report
from tests.sinks.slack_side import CHANNEL, TOKEN, Posted, SlackServer


def told(message: Posted) -> int:
    """How many verdicts a message speaks of, by its title."""
    title = message.text.splitlines()[0]
    return int(title.split(" more")[0]) if " more" in title else 1


@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=pytest.mark.long)])
async def test_a_burst_in_slack(
    kills: int, install: Install, sqlite_address: str, look_into: LookInto, report: Report
) -> None:
    """Each delivery names the message that told of it; that is there, and speaks of as many verdicts as name it."""
    async with OfflineRunflow(secret=SECRET, api_key=API_KEY) as runflow, SlackServer() as server:
        options = {"rate": 20, "digest_within": 2, "digest_gather": 0.3, "digest_longest": 1.2}
        place = install(
            sink("slack", "slack", channel=CHANNEL, token=TOKEN, api_url=server.api_url, **options),
            DATABASE_URL=sqlite_address,
            RUNFLOW_API_URL=runflow.url,
            RUNFLOW_API_KEY=API_KEY,
        )
        running = await place.serve()
        load = Load(running.address)
        async with load.going_on(lambda: Callback(runflow)):
            for _ in range(kills):
                await load.taken(20)
                await asyncio.sleep(random.uniform(0, 1.5))
                running.kill()
                running = await place.serve(forked=True)
                load.address = running.address
        database = look_into(sqlite_address)
        await quiet(database)
        assert await stored(database) == load.acknowledged.keys()
        await check_audit(place)
        query = select(deliveries.c.remote_id)
        named = Counter(await database.read(lambda conn: list(conn.scalars(query))))
        await running.stop()

    messages = {f"{CHANNEL}:{each.ts}": told(each) for each in server.slack.messages}
    assert sum(named.values()) == len(load.acknowledged)
    assert {place: count for place, count in named.items() if messages.get(str(place)) != count} == {}
    again = sum(messages.values()) - len(load.acknowledged)
    report(f"{kills} kills, {len(load.acknowledged)} verdicts in {len(messages)} messages, {again} told twice")
