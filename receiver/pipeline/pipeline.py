"""The whole pipeline of one process: its stages, started together and stopped in order."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from receiver.core.routing import Route
from receiver.errors import StoreUnavailable
from receiver.pipeline.deliver import SinkLane, SinkPlan
from receiver.pipeline.fetch import FetchLane, FetchPace
from receiver.pipeline.ratings import RatingLane
from receiver.pipeline.rollup import Rollup
from receiver.pipeline.stage import Stage
from receiver.pipeline.station import EVENTS, FETCHES, RATINGS, UNAVAILABLE_WAIT, Bells, Station
from receiver.runflow.client import RunflowClient
from receiver.sinks.base import Board
from receiver.store import lanes
from receiver.store.database import Database, new_id

BEAT_SECONDS = 10.0
GONE_AFTER = timedelta(seconds=35)
STOP_GRACE = 3.0
"""Seconds that steps, fetches and sends under way have to end at a stop. What has not ended is given back."""
LAST_WORDS = 1.0
"""Seconds for that, and for leaving: a database that hangs must not hold up the stop. Its leases end by themselves."""
CLOSE_SECONDS = 1.0

log = structlog.get_logger()


@dataclass(frozen=True)
class PipelinePlan:
    """What a pipeline is made of. `client` is None without an API key. `source` is the address of Runflow's evaluations."""

    client: RunflowClient | None
    sinks: Sequence[SinkPlan]
    routes: Sequence[Route]
    source: str
    hold: timedelta
    pace: FetchPace


class Pipeline:
    """Stage, fetch and deliver. Any number of processes may run one on PostgreSQL, one on SQLite."""

    def __init__(self, database: Database, bells: Bells, plan: PipelinePlan) -> None:
        self._database = database
        self._id = new_id()
        self._plan = plan
        self._bells = bells
        self._fetch = FetchLane(database, bells, plan.client, plan.routes, plan.pace)
        self._sinks = [SinkLane(database, bells, sink, source=plan.source, process=self._id) for sink in plan.sinks]
        self._stations = [
            stage_station(database, bells, plan.hold),
            Station(FETCHES, self._fetch.step, bells, database.now),
            Station(RATINGS, RatingLane(database, bells, plan.client, _boards(plan)).step, bells, database.now),
            *(Station(lane.name, lane.step, bells, database.now) for lane in self._sinks),
        ]
        self._rollup = Rollup(database)
        self._tasks: list[asyncio.Task[None]] = []
        self._beside: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts all stages."""
        self._beside = [asyncio.create_task(work) for work in (self._beat(), self._rollup.run())]
        self._tasks = [asyncio.create_task(station.run()) for station in self._stations]

    async def stop(self) -> None:
        """In order: claim nothing more, let what is under way end, give back the rest, leave."""
        clock = asyncio.get_running_loop().time
        until = clock() + STOP_GRACE
        for station in self._stations:
            station.stop()
        await _ended(self._tasks, grace=STOP_GRACE)
        await _ended(self._beside, grace=0)
        try:
            async with asyncio.timeout_at(until + LAST_WORDS):
                grace = max(until - clock(), 0)
                await asyncio.gather(self._fetch.stop(grace), *(lane.stop(grace) for lane in self._sinks))
                if self._beside:
                    await self._database.write(lanes.leave, self._id)
        except (StoreUnavailable, TimeoutError):
            log.warning("pipeline.left_without_word", process=self._id)
        await self._close()

    async def _close(self) -> None:
        open_ones = [plan.sink.close() for plan in self._plan.sinks]
        if self._plan.client is not None:
            open_ones.append(self._plan.client.close())
        await asyncio.gather(*(_closed(each) for each in open_ones))

    async def _beat(self) -> None:
        while True:
            try:
                alive = await self._database.write(
                    lanes.beat,
                    self._id,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    now=self._database.now(),
                    gone_after=GONE_AFTER,
                )
                self._fetch.share_rate(alive)
                await asyncio.sleep(BEAT_SECONDS)
            except StoreUnavailable:
                await asyncio.sleep(UNAVAILABLE_WAIT)
            except Exception:
                log.exception("pipeline.beat_failed")
                await asyncio.sleep(UNAVAILABLE_WAIT)


def _boards(plan: PipelinePlan) -> dict[str, Board]:
    return {each.name: each.sink for each in plan.sinks if isinstance(each.sink, Board)}


async def _closed(closing: Awaitable[None]) -> None:
    """Waits for a connection to be closed; one that cannot be is left to the end of the process."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await closing
    except Exception:
        log.exception("pipeline.not_closed")


async def _ended(tasks: Sequence["asyncio.Task[None]"], *, grace: float) -> None:
    """Waits `grace` seconds for the tasks, then cancels them and waits for that."""
    if tasks:
        await asyncio.wait(tasks, timeout=grace)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class StageOnly:
    """What `serve --no-pipeline` runs, so that a verdict is shown as pending even with no worker alive."""

    def __init__(self, database: Database, bells: Bells, *, hold: timedelta) -> None:
        self._station = stage_station(database, bells, hold)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts it."""
        self._tasks = [asyncio.create_task(self._station.run())]

    async def stop(self) -> None:
        """Ends the present step."""
        self._station.stop()
        await _ended(self._tasks, grace=STOP_GRACE)


def stage_station(database: Database, bells: Bells, hold: timedelta) -> Station:
    """The stage that sees to stored events."""
    return Station(EVENTS, Stage(database, bells, hold=hold).step, bells, database.now)
