"""Driving the stages of a pipeline by hand over a database, and looking at what they did."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from receiver.core.callback import origin_of
from receiver.core.routing import Route
from receiver.core.verdict import Verdict
from receiver.offline import OfflineRunflow
from receiver.pipeline.deliver import SinkLane, SinkPlan
from receiver.pipeline.fetch import FetchLane, FetchPace
from receiver.pipeline.stage import Stage
from receiver.pipeline.station import Bells
from receiver.runflow.client import RunflowClient
from receiver.sinks.base import Sink
from receiver.store import lanes, outbox_desk, reading
from receiver.store.database import Database
from receiver.store.intake import EventArrival
from receiver.store.outbox_desk import DeliveryFilter, DeliveryRecord
from receiver.store.tables import deliveries, fetches, processes
from tests.pipeline.clock import DEADLINE, until

KEY = "rf_live_pipeline_tests"
SOURCE = "https://api.runflow.io/v1/evaluations"
HOLD = timedelta(minutes=10)
LOG = Route("log")


def client_of(runflow: OfflineRunflow, *, key: str = KEY, timeout: float = DEADLINE) -> RunflowClient:
    """A client with the right key that waits for long."""
    return RunflowClient(runflow.url, key, timeout=timeout)


def plan_of(sink: Sink, name: str = "log", **changes: Any) -> SinkPlan:
    """How a sink is used: two at a time, for a day."""
    usual: dict[str, Any] = {"timeout": DEADLINE, "concurrency": 2, "rate": None, "dead_after": timedelta(days=1)}
    return SinkPlan(name, sink, **(usual | changes))


def arrival(runflow: OfflineRunflow, evaluation_id: UUID, at: datetime, *, body: bytes | None = None) -> EventArrival:
    """The evaluation's callback, as the hook makes it."""
    event = f"evaluation.{runflow.evaluations.get(evaluation_id).status}"
    content = body or runflow.callback_body(evaluation_id)
    return EventArrival(evaluation_id, event, content, origin_of(evaluation_id), "main", "req_1", at)


class Desk:
    """A database with an offline Runflow beside it. `routes` are who gets what is released."""

    def __init__(self, database: Database, runflow: OfflineRunflow, routes: Sequence[Route] = (LOG,)) -> None:
        self.database = database
        self.bells = Bells(database)
        self.runflow = runflow
        self.routes = routes

    def add(self, count: int = 1) -> list[UUID]:
        """So many decided evaluations."""
        return [self.runflow.add(kind="not_passed") for _ in range(count)]

    async def arrive(self, *ids: UUID, body: bytes | None = None) -> None:
        """Stores their callbacks and stages them."""
        now = self.database.now()
        await self.database.accept([arrival(self.runflow, each, now, body=body) for each in ids])
        await Stage(self.database, self.bells, hold=HOLD).step()

    async def release(self, count: int = 1) -> list[UUID]:
        """So many new verdicts that are due to the sinks, as a process without a key releases them."""
        ids = self.add(count)
        await self.arrive(*ids)
        await FetchLane(self.database, self.bells, None, self.routes, FetchPace()).step()
        return ids

    async def verdict(self, evaluation_id: UUID) -> Verdict:
        """What is stored of it."""
        verdict = await self.database.read(reading.one, evaluation_id)
        assert verdict is not None
        return verdict

    async def fetch(self, evaluation_id: UUID) -> Any:
        """The row of its fetch."""
        query = select(fetches).where(fetches.c.evaluation_id == evaluation_id)
        return await self.database.read(lambda conn: conn.execute(query).one())

    async def deliveries(self, sink: str = "log") -> list[DeliveryRecord]:
        """The deliveries to this sink, oldest first."""
        return (await self.database.read(outbox_desk.page, DeliveryFilter(sinks=(sink,)), limit=1000))[::-1]

    async def delivery(self, sink: str = "log") -> DeliveryRecord:
        """The one delivery to this sink."""
        [only] = await self.deliveries(sink)
        return only

    async def states(self, sink: str = "log") -> list[str]:
        """The states of the deliveries to this sink."""
        return [each.state for each in await self.deliveries(sink)]

    async def lane(self, name: str) -> lanes.LaneState:
        """The state of a lane."""
        return await self.database.read(lanes.state, name)


async def leased(database: Database) -> int:
    """How many deliveries and fetches are leased."""

    def count(conn: Connection) -> int:
        held = [*conn.scalars(select(deliveries.c.id).where(deliveries.c.state == "leased"))]
        return len(held) + len([*conn.scalars(select(fetches.c.claim).where(fetches.c.leased))])

    return await database.read(count)


async def living(database: Database) -> list[str]:
    """The ids of the processes that say that they live."""
    return await database.read(lambda conn: list(conn.scalars(select(processes.c.id))))


async def idle(lane: FetchLane | SinkLane) -> None:
    """Waits until nothing of the lane is under way."""
    await until(lambda: not lane._tasks.busy)


async def step(lane: FetchLane | SinkLane) -> datetime | None:
    """One step of the lane, and the end of all that it started."""
    moment = await lane.step()
    await idle(lane)
    return moment


async def cancelled(*tasks: "asyncio.Task[Any]") -> None:
    """Cancels these and waits for that."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
