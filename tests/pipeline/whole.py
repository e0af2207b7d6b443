"""Whole pipelines, started and stopped."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from receiver.core.routing import Route
from receiver.pipeline.deliver import SinkLane, SinkPlan
from receiver.pipeline.fetch import FetchLane, FetchPace
from receiver.pipeline.pipeline import Pipeline, PipelinePlan
from receiver.pipeline.station import Bells
from receiver.runflow.client import RunflowClient
from receiver.store.database import Database
from tests.pipeline.desk import SOURCE, cancelled


def plan_for(client: RunflowClient | None, sinks: Sequence[SinkPlan], **changes: Any) -> PipelinePlan:
    """A plan in which everything goes to all of these sinks."""
    routes = [Route(sink.name) for sink in sinks]
    usual: dict[str, Any] = {"hold": timedelta(minutes=10), "pace": FetchPace()}
    return PipelinePlan(client=client, sinks=sinks, routes=routes, source=SOURCE, **(usual | changes))


@asynccontextmanager
async def running(database: Database, bells: Bells, plan: PipelinePlan) -> AsyncIterator[Pipeline]:
    """A pipeline that is started, and stopped in order at the end."""
    pipeline = Pipeline(database, bells, plan)
    pipeline.start()
    try:
        yield pipeline
    finally:
        await pipeline.stop()


async def kill(pipeline: Pipeline) -> None:
    """Ends all that the pipeline runs, as the end of its process would: nothing is finished, nothing is given back."""
    lanes: list[FetchLane | SinkLane] = [pipeline._fetch, *pipeline._sinks]
    await cancelled(*pipeline._tasks, *pipeline._beside)
    await cancelled(*(task for lane in lanes for task in lane._tasks._running))
    await pipeline._close()
