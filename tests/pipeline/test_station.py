"""The loop of every stage and its bells: nothing that rings is missed, nothing that breaks stops it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest
from structlog.typing import EventDict

from receiver.errors import StoreUnavailable
from receiver.pipeline import station as stations
from receiver.pipeline.station import Bells, Station
from receiver.store.database import Database, open_database
from tests.pipeline.clock import DEADLINE, Clock, until
from tests.pipeline.desk import cancelled
from tests.pipeline.outage import Interrupted

NEVER = timedelta(days=1)


class SlowBells(Bells):
    """Bells whose safety net is as wide as a test needs."""

    def __init__(self, database: Database, poll: timedelta = NEVER) -> None:
        super().__init__(database)
        self._poll = poll

    @property
    def poll(self) -> timedelta:
        return self._poll


class Steps:
    """A stage whose steps do what they are told, one after the other; after the last they only count."""

    def __init__(self, *acts: Callable[[], datetime | None]) -> None:
        self._acts = list(acts)
        self.count = 0

    async def step(self) -> datetime | None:
        self.count += 1
        return self._acts.pop(0)() if self._acts else None

    async def reached(self, count: int) -> None:
        await until(lambda: self.count >= count)


@asynccontextmanager
async def running(steps: Steps, bells: Bells, clock: Clock) -> AsyncIterator[Station]:
    station = Station("tests", steps.step, bells, clock)
    task = asyncio.create_task(station.run())
    yield station
    station.stop()
    async with asyncio.timeout(DEADLINE):
        await task


def nothing() -> None:
    return None


async def test_a_bell_wakes_it(database: Interrupted, clock: Clock) -> None:
    """It steps once at the start, and once more each time its bell rings while it sleeps."""
    bells, steps = SlowBells(database), Steps()
    async with running(steps, bells, clock):
        await steps.reached(1)
        bells.ring("tests")
        await steps.reached(2)
        bells.heard("tests")
        await steps.reached(3)


async def test_the_named_time_wakes_it(database: Interrupted, clock: Clock) -> None:
    """It steps again when the time has come that the step before named, also if that is in the past."""
    steps = Steps(lambda: clock() + timedelta(milliseconds=5), lambda: clock() - timedelta(hours=1))
    async with running(steps, SlowBells(database), clock):
        await steps.reached(3)


async def test_the_poll_is_the_safety_net(database: Interrupted, clock: Clock) -> None:
    """Without a bell, and with a time named that is far away, it looks again after the poll's time."""
    steps = Steps(nothing, lambda: clock() + timedelta(days=1))
    async with running(steps, SlowBells(database, timedelta(milliseconds=5)), clock):
        await steps.reached(4)


@pytest.mark.parametrize(
    ("address", "pooler", "seconds"),
    [
        ("sqlite:////nowhere/receiver.db", False, 5),
        ("postgresql://127.0.0.1:1/nowhere", False, 30),
        ("postgresql://127.0.0.1:1/nowhere", True, 1),
    ],
)
async def test_how_wide_the_net_is(address: str, pooler: bool, seconds: int) -> None:
    """Where others can be heard the poll is slow; behind a transaction pooler, where they cannot, it is once a second."""
    database = open_database(address, pooler=pooler)
    assert Bells(database).poll == timedelta(seconds=seconds)
    await database.close()


async def test_a_bell_during_a_step_is_heard_after_it(database: Interrupted, clock: Clock) -> None:
    """What rings while a step is under way, after it has looked, makes another step."""
    bells = SlowBells(database)
    looked, go_on = asyncio.Event(), asyncio.Event()
    count = 0

    async def step() -> None:
        nonlocal count
        count += 1
        looked.set()
        await go_on.wait()

    station = Station("tests", step, bells, clock)
    task = asyncio.create_task(station.run())
    await looked.wait()
    bells.ring("tests")
    go_on.set()
    await until(lambda: count == 2)
    station.stop()
    async with asyncio.timeout(DEADLINE):
        await task


async def test_it_survives_a_database_that_is_away(
    database: Interrupted, clock: Clock, monkeypatch: pytest.MonkeyPatch, logged: list[EventDict]
) -> None:
    """It keeps looking, and tells the log once that the database went away and once that it is back."""
    monkeypatch.setattr(stations, "UNAVAILABLE_WAIT", 0.001)

    def away() -> None:
        raise StoreUnavailable("database", "gone")

    steps = Steps(away, away, away)
    async with running(steps, SlowBells(database), clock):
        await steps.reached(4)
        await until(lambda: len(logged) == 2)
    assert [entry["event"] for entry in logged] == ["pipeline.store_unavailable", "pipeline.store_back"]


async def test_it_survives_a_defect(
    database: Interrupted, clock: Clock, monkeypatch: pytest.MonkeyPatch, logged: list[EventDict]
) -> None:
    """An exception in a step is logged, and the next step comes all the same."""
    monkeypatch.setattr(stations, "UNAVAILABLE_WAIT", 0.001)

    def broken() -> None:
        raise ValueError("a defect")

    steps = Steps(broken)
    async with running(steps, SlowBells(database), clock):
        await steps.reached(2)
    assert [(entry["event"], entry["stage"]) for entry in logged] == [("pipeline.step_failed", "tests")]


async def test_a_stop_ends_it_before_its_first_step_and_during_one(database: Interrupted, clock: Clock) -> None:
    """A station that is stopped before it runs does nothing; one that is at a step ends after it."""
    steps = Steps()
    station = Station("tests", steps.step, SlowBells(database), clock)
    station.stop()
    async with asyncio.timeout(DEADLINE):
        await station.run()
    assert steps.count == 0

    def stop() -> None:
        stopped_by_itself.stop()

    steps = Steps(stop)
    stopped_by_itself = Station("tests", steps.step, SlowBells(database), clock)
    async with asyncio.timeout(DEADLINE):
        await stopped_by_itself.run()
    assert steps.count == 1


@pytest.mark.postgres
async def test_rings_reach_another_process(postgres_address: str) -> None:
    """What one process rings wakes the stage of that name in another, and no other stage; nothing is rung back."""
    here, there = open_database(postgres_address), open_database(postgres_address)
    ours, theirs = Bells(here), Bells(there)
    tasks = [asyncio.create_task(bells.run()) for bells in (ours, theirs)]
    try:
        bell = theirs.bell("events")
        async with asyncio.timeout(DEADLINE):
            while not bell.is_set():  # they may not be listening yet
                ours.ring("events")
                await asyncio.sleep(0.05)
        ours.ring("sink:log")
        async with asyncio.timeout(DEADLINE):
            await theirs.bell("sink:log").wait()
        assert not theirs.bell("fetches").is_set()
    finally:
        await cancelled(*tasks)
        await here.close()
        await there.close()


async def test_bells_outlive_a_defect(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends the listening, it begins again."""
    monkeypatch.setattr("receiver.pipeline.station.UNAVAILABLE_WAIT", 0.01)
    begun = 0

    async def listen(_: object) -> None:
        nonlocal begun
        begun += 1
        raise ZeroDivisionError

    monkeypatch.setattr(database, "listen", listen)
    ringing = asyncio.create_task(Bells(database).run())
    await until(lambda: begun > 2)
    await cancelled(ringing)


@pytest.mark.postgres
async def test_what_was_not_rung_yet_can_be_rung_at_the_end(postgres_address: str) -> None:
    """What is left to ring when a process stops is passed on by `flush`, though its loop has ended."""
    here, there = open_database(postgres_address), open_database(postgres_address)
    ours, theirs = Bells(here), Bells(there)
    task = asyncio.create_task(theirs.run())
    try:
        async with asyncio.timeout(DEADLINE):
            while not theirs.bell("events").is_set():  # they may not be listening yet
                ours.ring("events")
                await ours.flush()
                await asyncio.sleep(0.05)
    finally:
        await cancelled(task)
        await here.close()
        await there.close()
