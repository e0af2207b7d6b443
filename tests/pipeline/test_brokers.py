"""Real brokers behind real lanes: killed and started again under way, everything is delivered by itself.

What came is read back as a consumer reads it, and repeats are as the page on sinks promises.
"""

import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from receiver.offline import OfflineRunflow
from receiver.pipeline import deliver
from receiver.sinks.base import Sink
from receiver.store.audit import audit
from receiver.store.database import Database, system_clock
from tests.pipeline.clock import until_awaited
from tests.pipeline.desk import Desk, plan_of
from tests.pipeline.outage import Interrupted
from tests.pipeline.whole import plan_for, running
from tests.sinks import amqp_side, nats_side
from tests.sinks.amqp_side import RabbitServer
from tests.sinks.nats_side import NatsServer
from tests.sinks.servers import OwnServer

HALF = 300


@pytest.fixture
def clock() -> Callable[[], datetime]:
    """Here the time runs: what loops by itself must not be moved."""
    return system_clock


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for minutes here."""
    monkeypatch.setattr(deliver, "LONGEST_PAUSE", timedelta(seconds=0.5))


async def delivered_through_a_kill(
    database: Database, runflow: OfflineRunflow, sink: Sink, server: OwnServer
) -> list[str]:
    """Kills the server in the middle of a load, which goes on, and starts it again. The ids that were due."""
    desk = Desk(database, runflow)
    keys = await desk.release(HALF)

    async def delivered() -> int:
        return (await desk.states()).count("delivered")

    async with running(database, desk.bells, plan_for(None, [plan_of(sink)])):
        await until_awaited(lambda: at_least(1, delivered))
        server.kill()
        keys += await desk.release(HALF)
        await server.start()
        await until_awaited(lambda: at_least(2 * HALF, delivered))
    await sink.close()
    books = await database.read(audit, ["log"])
    assert (books.adds_up, books.exceptions) == (True, [])
    return [f"{key}:evaluation.completed:1" for key in keys]


async def at_least(number: int, count: Callable[[], Awaitable[int]]) -> bool:
    """Whether there are so many by now."""
    return await count() >= number


async def test_nats_has_each_once(database: Interrupted, runflow: OfflineRunflow, tmp_path: Path) -> None:
    """What was sent before the kill and not acknowledged is sent again, and dropped by the stream if it had it."""
    server = NatsServer(tmp_path)
    await server.start()
    try:
        await nats_side.make_stream(server.url)
        due = await delivered_through_a_kill(database, runflow, nats_side.sink_to(server.url), server)
        found = await nats_side.ids(server.url)
    finally:
        server.kill()

    assert sorted(found) == sorted(due)


async def test_rabbitmq_has_each_and_a_consumer_drops_the_rest_by_id(
    database: Interrupted, runflow: OfflineRunflow, rabbit: RabbitServer
) -> None:
    """A repeat is of a message whose confirm was lost: of no more than were under way at the kill."""
    queue = f"test.{uuid.uuid4()}"
    await amqp_side.make_queue(rabbit.url, queue)
    sink = amqp_side.sink_to(rabbit.url, routing_key=queue)
    due = await delivered_through_a_kill(database, runflow, sink, rabbit)
    found = await amqp_side.ids(rabbit.url, queue)

    assert set(found) == set(due)
    assert len(found) <= len(due) + 2 * sink.batch
