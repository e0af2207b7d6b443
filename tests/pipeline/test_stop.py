"""Stopping a pipeline: what is under way ends or is given back, nothing stays leased, and it takes no longer than it may."""

import asyncio
import socket
from collections.abc import Callable, Sequence

import pytest
from sqlalchemy import func, select
from structlog.typing import EventDict

from receiver.core.envelope import Message
from receiver.core.verdict import Verdict
from receiver.offline.faults import ServerError
from receiver.pipeline import pipeline as pipelines
from receiver.pipeline import tasks
from receiver.pipeline.fetch import FetchLane, FetchPace
from receiver.pipeline.pipeline import Pipeline, StageOnly
from receiver.runflow.client import RunflowClient
from receiver.sinks.base import Done, Down, Outcome
from receiver.store.tables import events, revisions
from tests.pipeline.clock import DEADLINE, Clock, until, until_awaited
from tests.pipeline.desk import HOLD, Desk, arrival, cancelled, leased, living, plan_of, step
from tests.pipeline.gate import Gate
from tests.pipeline.outage import Interrupted
from tests.pipeline.recording import BatchingSink, RecordingSink
from tests.pipeline.whole import plan_for

Gated = tuple[Gate, RunflowClient]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time for what is under way, and enough to give it back."""
    monkeypatch.setattr(pipelines, "STOP_GRACE", 0.05)


async def stopped(pipeline: Pipeline | StageOnly) -> None:
    async with asyncio.timeout(DEADLINE):
        await pipeline.stop()


async def the_next_try_waits(database: Interrupted) -> None:
    """The database is back, and answers when the test lets it."""
    database.slow.clear()
    database.away = False
    await until(lambda: database.waiting >= 1)


async def test_what_ends_in_time_is_acknowledged(desk: Desk, gate: Gated) -> None:
    """A send and a fetch that end within the grace are written back; nothing new is claimed; all is closed."""
    api, client = gate
    sink = RecordingSink()
    sink.open.clear()
    pipeline = Pipeline(desk.database, desk.bells, plan_for(client, [plan_of(sink)]))
    await desk.release()
    [fetched] = desk.add()
    api.open.clear()
    pipeline.start()
    await desk.database.accept([arrival(desk.runflow, fetched, desk.database.now())])
    desk.bells.ring("events")
    await until(lambda: sink.busy == 1 and api.waiting == 1)
    assert await living(desk.database) == [pipeline._id]
    stopping = asyncio.create_task(stopped(pipeline))
    await until(lambda: all(task.done() for task in pipeline._tasks))
    await desk.release()
    sink.open.set()
    api.open.set()
    await stopping
    assert sorted(await desk.states()) == ["delivered", "pending", "pending"]
    assert len(sink.given) == 1
    assert (await desk.verdict(fetched)).tree == "complete"
    assert await leased(desk.database) == 0
    assert await living(desk.database) == []
    assert (sink.closed, client._client.is_closed) == (1, True)


@pytest.mark.usefixtures("hasty")
async def test_what_does_not_end_is_given_back(desk: Desk, gate: Gated, clock: Clock) -> None:
    """It is due at once, has used up no attempt, and is not leased; others are rung for it."""
    api, client = gate
    sink = RecordingSink()
    sink.open.clear()
    pipeline = Pipeline(desk.database, desk.bells, plan_for(client, [plan_of(sink)]))
    await desk.release(3)
    [fetched] = desk.add()
    await desk.arrive(fetched)
    api.open.clear()
    pipeline.start()
    await until(lambda: sink.busy == 2 and api.waiting == 1)
    await stopped(pipeline)
    for record in await desk.deliveries():
        assert (record.state, record.attempts, record.due_at) == ("pending", 0, clock())
    fetch = await desk.fetch(fetched)
    assert (fetch.leased, fetch.attempts, fetch.due_at) == (False, 0, clock())
    assert desk.bells.bell("sink:log").is_set()
    assert desk.bells.bell("fetches").is_set()
    assert await living(desk.database) == []


@pytest.mark.usefixtures("hasty")
async def test_why_there_is_no_tree_outlasts_a_stop(
    desk: Desk, gate: Gated, client: RunflowClient, clock: Clock
) -> None:
    """A fetch that had failed, and was given back at its next try, still says why when its hold is over."""
    api, through_the_gate = gate
    desk.runflow.faults.server_error = ServerError(count=1)
    [key] = desk.add()
    await desk.arrive(key)
    pipeline = Pipeline(desk.database, desk.bells, plan_for(through_the_gate, []))
    await step(pipeline._fetch)
    clock.advance(seconds=2)
    api.open.clear()
    pipeline.start()
    await until(lambda: api.waiting == 1)
    await stopped(pipeline)
    clock.advance(HOLD)
    await step(FetchLane(desk.database, desk.bells, client, desk.routes, FetchPace()))
    assert (await desk.deliveries())[0].revision == 1
    assert (await desk.verdict(key)).tree == "complete"
    first = select(revisions.c.document).where(revisions.c.revision == 1)
    document = await desk.database.read(lambda conn: conn.execute(first).scalar_one())
    assert Verdict.model_validate_json(document).tree_reason == "server_error"


async def test_a_stop_during_a_step_leaves_nothing_leased(desk: Desk, database: Interrupted, gate: Gated) -> None:
    """A claim that is under way when the stop comes is waited for, and what it claimed ends or is given back."""
    api, client = gate
    sink = RecordingSink()
    pipeline = Pipeline(database, desk.bells, plan_for(client, [plan_of(sink)]))
    await desk.release(2)
    await desk.arrive(*desk.add())
    database.slow.clear()
    pipeline.start()
    await until(lambda: database.waiting == len(pipeline._stations) + 1)  # and the beat
    stopping = asyncio.create_task(stopped(pipeline))
    await until(lambda: all(station._stopping for station in pipeline._stations))
    database.slow.set()
    await stopping
    assert await desk.states() == ["delivered", "delivered", "pending"]
    assert await leased(database) == 0
    assert api.waiting == 0


class Stubborn(RecordingSink):
    """Answers, though it is cut off, before it gives in."""

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        try:
            return await super().send(messages)
        except asyncio.CancelledError:
            return [Done()] * len(messages)


@pytest.mark.usefixtures("hasty")
async def test_a_sink_that_answers_when_it_is_cut_off_is_heeded(desk: Desk) -> None:
    """An outcome that came with the end of the grace is an outcome."""
    sink = Stubborn()
    sink.open.clear()
    pipeline = Pipeline(desk.database, desk.bells, plan_for(None, [plan_of(sink)]))
    await desk.release()
    pipeline.start()
    await until(lambda: sink.busy == 1)
    await stopped(pipeline)
    assert await desk.states() == ["delivered"]


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(("answer", "state"), [(lambda _: Done(), "delivered"), (lambda _: Down("refused"), "pending")])
async def test_an_outcome_that_waits_for_the_database_is_not_given_back(
    desk: Desk, database: Interrupted, answer: Callable[[Message], Outcome], state: str
) -> None:
    """What was sent, and could not be acknowledged before the grace was over, is acknowledged at the end, not sent again."""
    sink = BatchingSink(answer)
    sink.open.clear()
    pipeline = Pipeline(database, desk.bells, plan_for(None, [plan_of(sink, concurrency=1)]))
    await desk.release(3)
    pipeline.start()
    await until(lambda: sink.busy == 1)
    database.away = True
    sink.open.set()
    await until(lambda: database.refused >= 1)
    await the_next_try_waits(database)
    stopping = asyncio.create_task(stopped(pipeline))
    await until(lambda: not pipeline._sinks[0]._tasks.busy)
    database.slow.set()
    await stopping
    assert await desk.states() == [state] * 3
    assert await leased(database) == 0
    assert {each.attempts for each in await desk.deliveries()} == {1 if state == "delivered" else 0}


@pytest.mark.usefixtures("hasty")
async def test_a_tree_that_waits_for_the_database_is_not_fetched_again(
    desk: Desk, database: Interrupted, gate: Gated
) -> None:
    """What was fetched is written at the end, though the grace was over."""
    api, client = gate
    pipeline = Pipeline(database, desk.bells, plan_for(client, []))
    [key] = desk.add()
    await desk.arrive(key)
    api.open.clear()
    pipeline.start()
    await until(lambda: api.waiting == 1)
    database.away = True
    api.open.set()
    await until(lambda: database.refused >= 1)
    await the_next_try_waits(database)
    stopping = asyncio.create_task(stopped(pipeline))
    await until(lambda: not pipeline._fetch._tasks.busy)
    database.slow.set()
    await stopping
    assert (await desk.verdict(key)).tree == "complete"
    assert (await desk.fetch(key)).due_at is None
    assert await leased(database) == 0


@pytest.mark.usefixtures("hasty")
async def test_a_stop_with_the_database_away_ends(
    desk: Desk, database: Interrupted, gate: Gated, logged: list[EventDict]
) -> None:
    """What cannot be written is left to its lease; the stop ends all the same, closes all, and says that it left no word."""
    api, client = gate
    sink = RecordingSink()
    sink.open.clear()
    pipeline = Pipeline(database, desk.bells, plan_for(client, [plan_of(sink)]))
    await desk.release()
    await desk.arrive(*desk.add())
    api.open.clear()
    pipeline.start()
    await until(lambda: sink.busy == 1 and api.waiting == 1)
    database.away = True
    await stopped(pipeline)
    assert (sink.closed, client._client.is_closed) == (1, True)
    assert "pipeline.left_without_word" in {entry["event"] for entry in logged}
    database.away = False
    assert await leased(database) == 2


async def test_a_stop_with_a_database_that_hangs_ends(
    desk: Desk, database: Interrupted, monkeypatch: pytest.MonkeyPatch, logged: list[EventDict]
) -> None:
    """A database that does not answer is not waited for for ever."""
    monkeypatch.setattr(pipelines, "STOP_GRACE", 0.05)
    monkeypatch.setattr(pipelines, "LAST_WORDS", 0.05)
    sink = RecordingSink()
    sink.open.clear()
    pipeline = Pipeline(database, desk.bells, plan_for(None, [plan_of(sink)]))
    await desk.release()
    pipeline.start()
    await until(lambda: sink.busy == 1)
    database.slow.clear()
    await stopped(pipeline)
    assert sink.closed == 1
    assert "pipeline.left_without_word" in {entry["event"] for entry in logged}
    database.slow.set()
    await until(lambda: database.waiting == 0)


class Unclosable(RecordingSink):
    """A sink whose connection will not be closed."""

    def __init__(self, *, hangs: bool) -> None:
        super().__init__()
        self._hangs = hangs

    async def close(self) -> None:
        await super().close()
        if self._hangs:
            await asyncio.Event().wait()
        raise OSError("gone")


async def test_all_are_closed_though_one_cannot_be(
    desk: Desk, client: RunflowClient, monkeypatch: pytest.MonkeyPatch, logged: list[EventDict]
) -> None:
    """A sink that fails to close, or hangs at it, keeps none of the others open."""
    monkeypatch.setattr(pipelines, "CLOSE_SECONDS", 0.05)
    sinks = [Unclosable(hangs=False), Unclosable(hangs=True), RecordingSink()]
    plans = [plan_of(sink, f"sink-{number}") for number, sink in enumerate(sinks)]
    pipeline = Pipeline(desk.database, desk.bells, plan_for(client, plans))
    pipeline.start()
    await stopped(pipeline)
    assert [sink.closed for sink in sinks] == [1, 1, 1]
    assert client._client.is_closed
    assert len([entry for entry in logged if entry["event"] == "pipeline.not_closed"]) == 2


async def test_one_that_was_never_started_can_be_stopped(
    desk: Desk, database: Interrupted, client: RunflowClient
) -> None:
    """It closes what it was given, and says nothing to the database."""
    sink = RecordingSink()
    database.away = True
    pipeline = Pipeline(desk.database, desk.bells, plan_for(client, [plan_of(sink)]))
    await stopped(pipeline)
    assert (sink.closed, client._client.is_closed, database.refused) == (1, True, 0)


async def test_the_stage_alone_stops_too(desk: Desk) -> None:
    """It stages what comes, and ends when it is told to."""
    [key] = desk.add()
    await desk.database.accept([arrival(desk.runflow, key, desk.database.now())])
    stage = StageOnly(desk.database, desk.bells, hold=HOLD)
    stage.start()
    await until_awaited(lambda: _is_staged(desk))
    await stopped(stage)
    assert (await desk.verdict(key)).tree == "pending"
    assert all(task.done() for task in stage._tasks)


async def _is_staged(desk: Desk) -> bool:
    waiting = select(func.count()).select_from(events).where(events.c.waiting)
    return await desk.database.read(lambda conn: conn.execute(waiting).scalar_one() == 0)


async def test_a_beat_that_breaks_goes_on(
    desk: Desk, database: Interrupted, monkeypatch: pytest.MonkeyPatch, logged: list[EventDict]
) -> None:
    """A database that is away, and a defect, cost a beat and no more."""
    monkeypatch.setattr(pipelines, "UNAVAILABLE_WAIT", 0.001)
    monkeypatch.setattr(pipelines, "BEAT_SECONDS", 0.001)
    pipeline = Pipeline(database, desk.bells, plan_for(None, []))
    database.away = True
    pipeline.start()
    await until(lambda: database.refused >= 5)
    with monkeypatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: 1 / 0)
        database.away = False
        await until(lambda: any(entry["event"] == "pipeline.beat_failed" for entry in logged))
    await until_awaited(lambda: _lives(desk, pipeline))
    await stopped(pipeline)
    assert await living(database) == []


async def _lives(desk: Desk, pipeline: Pipeline) -> bool:
    return await living(desk.database) == [pipeline._id]


async def test_a_task_that_will_not_end_holds_up_no_stop(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that ignores being cut off is left behind; its message is left to its lease."""
    monkeypatch.setattr(pipelines, "STOP_GRACE", 0.05)
    monkeypatch.setattr(tasks, "CANCEL_SECONDS", 0.05)
    give_in = asyncio.Event()

    class Deaf(RecordingSink):
        async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
            self.given += messages
            while not give_in.is_set():
                try:
                    await give_in.wait()
                except asyncio.CancelledError:
                    continue
            return [Done()]

    sink = Deaf()
    pipeline = Pipeline(desk.database, desk.bells, plan_for(None, [plan_of(sink)]))
    await desk.release()
    pipeline.start()
    await until(lambda: len(sink.given) == 1)
    await stopped(pipeline)
    assert await desk.states() == ["leased"]
    give_in.set()
    await cancelled(*pipeline._sinks[0]._tasks._running)


async def test_step_after_step_claims_nothing_twice(desk: Desk) -> None:
    """A lane that is stepped while its sends are under way gives no message to the sink a second time."""
    sink = RecordingSink()
    pipeline = Pipeline(desk.database, desk.bells, plan_for(None, [plan_of(sink, concurrency=50)]))
    keys = await desk.release(30)
    await asyncio.gather(*(pipeline._sinks[0].step() for _ in range(5)))
    await step(pipeline._sinks[0])
    assert sorted(message.verdict.evaluation_id for message in sink.given) == sorted(keys)
    await stopped(pipeline)
