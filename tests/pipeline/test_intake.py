"""The intake: bounded, durable before it returns, honest when it cannot store."""

import asyncio
import gc
from uuid import UUID, uuid4

import pytest

from receiver.errors import StoreUnavailable
from receiver.pipeline.intake import Intake, IntakeLimits
from receiver.store.audit import audit
from receiver.store.intake import EventArrival, Taken
from tests.pipeline.accepting import accepted
from tests.pipeline.clock import DEADLINE, Clock, until
from tests.pipeline.outage import Interrupted


def callback(clock: Clock, size: int = 10, key: UUID | None = None) -> EventArrival:
    return EventArrival(key or uuid4(), "evaluation.completed", b"x" * size, "callback", None, None, clock())


def intake_over(database: Interrupted, *, rows: int = 100, size: int = 10_000, wait: float = DEADLINE) -> Intake:
    return Intake(database, IntakeLimits(rows, size), lambda: None, longest_wait=wait)


async def events_in(database: Interrupted) -> int:
    return (await database.read(audit, [])).events


async def test_it_returns_when_the_callback_is_stored(database: Interrupted, clock: Clock) -> None:
    """What was accepted can be read, the pipeline was told, and a repeat is known as one."""
    told: list[int] = []
    intake = Intake(database, IntakeLimits(), lambda: told.append(1))
    key = uuid4()
    assert await accepted(intake, callback(clock, key=key)) is Taken.NEW
    assert await events_in(database) == 1
    assert told == [1]
    assert await accepted(intake, callback(clock, key=key)) is Taken.REPEAT
    assert await events_in(database) == 1


async def test_a_full_queue_turns_away_at_once(database: Interrupted, clock: Clock) -> None:
    """Past the rows nobody waits; when what waits is stored there is room again."""
    intake = intake_over(database, rows=3)
    database.slow.clear()
    waiting = [accepted(intake, callback(clock)) for _ in range(3)]
    await until(lambda: intake.refuses is not None)
    with pytest.raises(StoreUnavailable) as refused:
        await accepted(intake, callback(clock))
    assert refused.value.reason == "queue_full"
    database.slow.set()
    assert await asyncio.gather(*waiting) == [Taken.NEW] * 3
    assert intake.refuses is None
    assert await accepted(intake, callback(clock)) is Taken.NEW


async def test_bytes_are_bounded_as_well(database: Interrupted, clock: Clock) -> None:
    """Few large callbacks fill the queue like many small ones."""
    intake = intake_over(database, size=1000)
    database.slow.clear()
    waiting = accepted(intake, callback(clock, size=1000))
    await until(lambda: intake.refuses is not None)
    with pytest.raises(StoreUnavailable, match="too many"):
        await accepted(intake, callback(clock, size=1))
    database.slow.set()
    await waiting
    assert intake.refuses is None


async def test_when_it_cannot_be_stored_everyone_is_told(database: Interrupted, clock: Clock) -> None:
    """Each caller of a batch that failed gets the reason, and the room that they took is free again."""
    intake = intake_over(database, rows=3)
    database.away = True
    outcomes = await asyncio.gather(*(accepted(intake, callback(clock)) for _ in range(3)), return_exceptions=True)
    assert [isinstance(each, StoreUnavailable) and each.reason for each in outcomes] == ["database"] * 3
    assert intake.refuses is None
    database.away = False
    assert await accepted(intake, callback(clock)) is Taken.NEW
    assert await events_in(database) == 1


async def test_nobody_waits_longer_than_runflow_does(database: Interrupted, clock: Clock) -> None:
    """A database that takes too long is an answer 503 in time; the callback still counts as waiting, and is stored later."""
    intake = intake_over(database, rows=1, wait=0.01)
    database.slow.clear()
    with pytest.raises(StoreUnavailable) as refused:
        await accepted(intake, callback(clock))
    assert refused.value.reason == "database"
    assert intake.refuses is not None
    database.slow.set()
    await until(lambda: intake.refuses is None)
    assert await events_in(database) == 1


async def test_whoever_was_given_up_is_told_nothing_more(database: Interrupted, clock: Clock) -> None:
    """Each is told once: that it took too long, and not afterwards that it was stored."""
    intake = intake_over(database, wait=0.01)
    database.slow.clear()
    told: list[object] = []
    for _ in range(2):
        intake.accept(callback(clock), told.append)
    await until(lambda: len(told) == 2)
    database.slow.set()
    await intake.stop()
    assert [isinstance(each, StoreUnavailable) for each in told] == [True, True]
    assert await events_in(database) == 2


@pytest.mark.parametrize("away", [False, True])
async def test_a_caller_that_hangs_up_loses_nothing(database: Interrupted, clock: Clock, away: bool) -> None:
    """What was taken is stored though nobody waits for it any more; if it cannot be, that is not reported as forgotten."""
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    intake = intake_over(database, rows=1)
    database.slow.clear()
    caller = accepted(intake, callback(clock))
    await until(lambda: database.waiting == 1)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    database.away = away
    database.slow.set()
    await until(lambda: intake.refuses is None)
    gc.collect()
    assert reported == []
    database.away = False
    assert await events_in(database) == (0 if away else 1)


async def test_it_can_be_closed_for_a_reason_and_opened_again(database: Interrupted, clock: Clock) -> None:
    """While it is closed everyone is turned away with that reason."""
    intake = intake_over(database)
    intake.close_for(StoreUnavailable("schema", "not migrated"))
    with pytest.raises(StoreUnavailable) as refused:
        await accepted(intake, callback(clock))
    assert refused.value.reason == "schema"
    intake.close_for(None)
    assert await accepted(intake, callback(clock)) is Taken.NEW


async def test_a_stop_refuses_what_comes_and_stores_what_was_taken(database: Interrupted, clock: Clock) -> None:
    """It returns when all that was taken is stored, and nothing opens it again."""
    intake = intake_over(database)
    database.slow.clear()
    waiting = accepted(intake, callback(clock))
    await until(lambda: database.waiting == 1)
    stopping = asyncio.create_task(intake.stop())
    await until(lambda: intake.refuses is not None)
    intake.close_for(None)
    with pytest.raises(StoreUnavailable) as refused:
        await accepted(intake, callback(clock))
    assert refused.value.reason == "stopping"
    assert not stopping.done()
    database.slow.set()
    await stopping
    assert await waiting is Taken.NEW
    assert await events_in(database) == 1
