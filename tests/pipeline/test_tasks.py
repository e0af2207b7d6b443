"""What the lanes are built of: bounded tasks, patience with the database, pace, and the pause that all share."""

import asyncio
from datetime import timedelta

import pytest
from aiolimiter import AsyncLimiter
from structlog import get_logger
from structlog.typing import EventDict

from receiver.errors import StoreUnavailable
from receiver.pipeline import pace, tasks
from receiver.pipeline.pace import permitted
from receiver.pipeline.pause import Pause
from receiver.pipeline.tasks import Patience, Tasks
from receiver.store import lanes
from receiver.store.database import Database
from tests.pipeline.clock import DEADLINE, Clock, until
from tests.pipeline.outage import Interrupted


async def test_there_is_room_when_the_end_is_told() -> None:
    """Whoever is woken by the end of a task finds its place free; otherwise nobody would come again."""
    rooms: list[tuple[int, bool]] = []
    bell = asyncio.Event()

    def ended() -> None:
        bell.set()
        rooms.append((running.room, running.busy))

    running = Tasks(1, ended)
    running.start(asyncio.sleep(0))
    assert (running.room, running.busy) == (0, True)
    await bell.wait()
    assert (running.room, running.busy) == (1, False)
    assert rooms == [(1, False)]


async def test_what_a_task_raises_is_logged_and_frees_its_place(logged: list[EventDict]) -> None:
    """A defect in one task is told, and costs the others nothing."""
    bell = asyncio.Event()
    running = Tasks(2, bell.set)

    async def broken() -> None:
        raise ValueError("a defect")

    running.start(broken())
    await bell.wait()
    assert running.room == 2
    assert [entry["event"] for entry in logged] == ["pipeline.task_failed"]


async def test_a_stop_waits_then_cancels_then_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends in time ends by itself, what does not is cancelled, and what ignores that is left behind."""
    monkeypatch.setattr(tasks, "CANCEL_SECONDS", 0.05)
    ends: list[str] = []
    release, give_in = asyncio.Event(), asyncio.Event()

    async def quick() -> None:
        await release.wait()
        ends.append("by itself")

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async def deaf() -> None:
        while not give_in.is_set():
            try:
                await give_in.wait()
            except asyncio.CancelledError:
                ends.append("deaf")

    running = Tasks(3, lambda: None)
    for work in (quick(), slow(), deaf()):
        running.start(work)
    release.set()
    async with asyncio.timeout(DEADLINE):
        await running.stop(0.05)
    assert sorted(ends) == ["by itself", "cancelled", "deaf"]
    give_in.set()
    await until(lambda: not running.busy)


async def test_patience_outlasts_a_short_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes until it succeeds, and returns what the write returned."""
    monkeypatch.setattr(tasks, "PAUSE_BETWEEN", 0.001)
    tries = 0

    async def write() -> str:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise StoreUnavailable("database", "gone")
        return "written"

    assert await Patience(DEADLINE).wait_for(write) == "written"
    assert tries == 4


async def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """When its time is up, and when it was ended, the last error is raised; any other error is raised at once."""
    monkeypatch.setattr(tasks, "PAUSE_BETWEEN", 0.001)
    tries = 0

    async def write() -> None:
        nonlocal tries
        tries += 1
        raise StoreUnavailable("database", "gone")

    async def broken() -> None:
        raise ValueError("a defect")

    with pytest.raises(StoreUnavailable):
        await Patience(0).wait_for(write)
    ended = Patience(DEADLINE)
    waiting = asyncio.create_task(ended.wait_for(write))
    await until(lambda: tries > 3)
    ended.end()
    with pytest.raises(StoreUnavailable):
        await waiting
    before = tries
    with pytest.raises(StoreUnavailable):
        await ended.wait_for(write)
    assert tries == before + 1
    with pytest.raises(ValueError, match="a defect"):
        await Patience(DEADLINE).wait_for(broken)


async def test_a_pace_permits_what_it_has_and_waits_a_while_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a burst at once, then nothing: after a while the stage is let go on to its other work."""
    monkeypatch.setattr(pace, "LONGEST_WAIT", 0.01)
    limiter = AsyncLimiter(3, 10_000)
    assert await permitted(limiter, 2) == 2
    assert await permitted(limiter, 2) == 1
    assert await permitted(limiter, 2) == 0


async def test_a_pace_waits_until_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the next one comes within the wait it is taken."""
    monkeypatch.setattr(pace, "LONGEST_WAIT", DEADLINE)
    limiter = AsyncLimiter(1, 0.01)
    assert [await permitted(limiter, 1) for _ in range(5)] == [1] * 5


def pause_of(database: Database) -> Pause:
    return Pause(database, "sink:log", "sink", Patience(DEADLINE), get_logger())


async def test_a_pause_is_told_when_it_begins_changes_and_ends(
    database: Interrupted, clock: Clock, logged: list[EventDict]
) -> None:
    """Probes that fail for the same reason are no news, another reason is; each failure lengthens the pause."""
    pause = pause_of(database)
    waits: list[int] = []

    def wait(failures: int) -> timedelta:
        waits.append(failures)
        return timedelta(seconds=failures)

    for reason in ("refused", "refused", "no key"):
        await pause.begin(reason, wait)
        clock.advance(hours=1)
    await pause.end()
    await pause.end()
    assert waits == [1, 2, 3]
    told = [(entry["event"], entry["log_level"]) for entry in logged]
    assert told == [
        ("sink.paused", "error"),
        ("sink.still_paused", "info"),
        ("sink.paused", "error"),
        ("sink.resumed", "info"),
    ]
    assert (await database.read(lanes.state, "sink:log")).failures == 0


async def test_those_that_fail_together_pause_once(
    database: Interrupted, clock: Clock, logged: list[EventDict]
) -> None:
    """What was under way when the lane was paused fails as well, and neither counts nor lengthens it."""
    pause = pause_of(database)
    await pause.begin("refused", lambda _: timedelta(minutes=1))
    await pause.begin("refused", lambda _: timedelta(hours=1))
    state = await database.read(lanes.state, "sink:log")
    assert (state.failures, state.paused_until) == (1, clock() + timedelta(minutes=1))
    assert [entry["event"] for entry in logged] == ["sink.paused"]


async def test_a_pause_waits_for_the_database(database: Interrupted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause that cannot be written yet is written when the database is back."""
    monkeypatch.setattr(tasks, "PAUSE_BETWEEN", 0.001)
    pause = pause_of(database)
    database.away = True
    pausing = asyncio.create_task(pause.begin("refused", lambda _: timedelta(minutes=1)))
    await until(lambda: database.refused > 2)
    database.away = False
    await pausing
    assert (await database.read(lanes.state, "sink:log")).failures == 1
    database.away = True
    resuming = asyncio.create_task(pause.end())
    await until(lambda: database.refused > 4)
    database.away = False
    await resuming
    assert (await database.read(lanes.state, "sink:log")).failures == 0
