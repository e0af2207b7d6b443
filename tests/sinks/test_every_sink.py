"""What every sink must do, whatever its kind: one suite, run over all of them."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import jsonschema
import pytest

from receiver.core.verdict import json_schema
from receiver.offline import OfflineRunflow
from receiver.pipeline import deliver
from receiver.pipeline.deliver import SinkLane, SinkPlan
from receiver.settings import Settings
from receiver.settings.problems import Problems
from receiver.settings.sinks import read_sink
from receiver.sinks.base import Done, Down, Sink, SinkError
from receiver.sinks.registry import OPTIONS, open_sink
from receiver.store.database import open_database, system_clock
from receiver.wiring import sink_plan
from tests.pipeline.clock import Clock
from tests.pipeline.desk import SOURCE, Desk, step
from tests.pipeline.recording import RecordingSink
from tests.sinks.destinations import DESTINATIONS, LARGEST, PASSWORD, SERVERS, Destination, Place
from tests.sinks.messages import evaluation_id, message
from tests.sinks.servers import LONG, until


@pytest.fixture(params=sorted(DESTINATIONS))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A kind of sink, and what its other side needs."""
    fixture = SERVERS.get(request.param)
    return Place(request.param, tmp_path, request.getfixturevalue(fixture) if fixture else None)


@pytest.fixture
async def destination(place: Place) -> AsyncIterator[Destination]:
    """The other side of one kind of sink, running."""
    async with DESTINATIONS[place.kind](place) as it:
        yield it


@pytest.fixture
async def sink(destination: Destination) -> AsyncIterator[Sink]:
    """A sink that leads there."""
    sink = open_sink(destination.options, public_url=None)
    yield sink
    await sink.close()


async def test_a_message_arrives_and_is_done(destination: Destination, sink: Sink) -> None:
    """One message in, one Done out, and the other side has it."""
    [outcome] = await sink.send([message()])

    assert isinstance(outcome, Done)
    [arrival] = await destination.arrived()
    assert str(evaluation_id(1)) in arrival.text


async def test_what_arrives_is_the_envelope_around_a_verdict_of_the_schema(
    destination: Destination, sink: Sink
) -> None:
    """Whoever gets an envelope gets CloudEvents 1.0, and in it what the published schema says."""
    await sink.send([message()])

    [arrival] = await destination.arrived()
    if arrival.envelope is None:
        return
    jsonschema.validate(arrival.envelope["data"], json_schema())
    assert arrival.envelope["specversion"] == "1.0"
    assert arrival.envelope["id"] == message().id


async def test_messages_arrive_in_order_each_with_its_outcome(destination: Destination, sink: Sink) -> None:
    """As many outcomes as messages; batch after batch, nothing changes places."""
    sent = [message(number) for number in range(1, 8)]
    outcomes = [
        outcome
        for start in range(0, len(sent), sink.batch)
        for outcome in await sink.send(sent[start : start + sink.batch])
    ]

    assert [type(outcome) for outcome in outcomes] == [Done] * 7
    arrivals = await destination.arrived()
    assert len(arrivals) == 7
    for number, arrival in enumerate(arrivals, start=1):
        assert str(evaluation_id(number)) in arrival.text


async def test_a_full_batch_is_taken(destination: Destination, sink: Sink) -> None:
    """A sink takes as many messages at once as it says."""
    outcomes = await sink.send([message(number) for number in range(1, sink.batch + 1)])

    assert [type(outcome) for outcome in outcomes] == [Done] * sink.batch
    assert len(await destination.arrived()) == sink.batch


async def test_a_repeat_bears_the_same_key_and_is_dropped_where_that_can_be(
    destination: Destination, sink: Sink
) -> None:
    """Sent once more, a message is done once more; the other side has it once, or can tell that it is the same."""
    [first] = await sink.send([message()])
    [second] = await sink.send([message()])

    assert [type(first), type(second)] == [Done, Done]
    arrivals = await destination.arrived()
    assert len(arrivals) == (1 if destination.drops_repeats else 2)
    assert len({arrival.key for arrival in arrivals}) == 1


async def test_a_repeat_inside_one_batch_spoils_nothing(destination: Destination, sink: Sink) -> None:
    """The same message twice in one batch: every outcome is Done, and the others arrive."""
    outcomes = await sink.send([message(1), message(1), message(2)])

    assert [type(outcome) for outcome in outcomes] == [Done] * 3
    texts = [arrival.text for arrival in await destination.arrived()]
    assert sum(str(evaluation_id(1)) in text for text in texts) == (1 if destination.drops_repeats else 2)
    assert sum(str(evaluation_id(2)) in text for text in texts) == 1


async def test_a_revision_arrives(destination: Destination, sink: Sink) -> None:
    """A later revision of a verdict is no repeat of the first."""
    await sink.send([message(revision=1)])
    await sink.send([message(revision=2)])

    first, second = await destination.arrived()
    assert first.text != second.text
    if second.envelope is not None:
        assert second.envelope["type"] == "io.runflow.evaluation.revised"


async def test_a_replay_arrives_with_the_id_of_before(destination: Destination, sink: Sink) -> None:
    """A replay is meant to arrive: it keeps the id, and has a key of its own."""
    await sink.send([message()])
    await sink.send([message(replay_id="r1")])

    first, second = await destination.arrived()
    if first.envelope is not None and second.envelope is not None:
        assert second.envelope["id"] == first.envelope["id"]
        assert second.envelope["replayid"] == "r1"
    assert second.key in (None, f"{message().id}:r1")


async def test_a_huge_message_arrives(place: Place, destination: Destination, sink: Sink) -> None:
    """A few megabytes of text from Runflow are no trouble, where so many are taken."""
    prompt = ("studio lighting " * 250_000)[: LARGEST.get(place.kind, 4 * 4_000_000) // 4]
    [outcome] = await sink.send([message(generation_prompt=prompt, top_issues=[prompt], task_type=prompt)])

    assert isinstance(outcome, Done)
    [arrival] = await destination.arrived()
    assert arrival.envelope is None or arrival.envelope["data"]["generation_prompt"] == prompt


async def test_any_text_arrives_as_it_is(destination: Destination, sink: Sink) -> None:
    """Quotes, line ends of all kinds, emoji and right-to-left text change nothing."""
    text = 'a "quote" \\ \r\n \u2028 \u0085 \t \x1f 🙂 שלום ﷽ <b>&amp;'
    [outcome] = await sink.send([message(client_ref=text, top_issues=[text, ""])])

    assert isinstance(outcome, Done)
    [arrival] = await destination.arrived()
    assert arrival.envelope is None or arrival.envelope["data"]["client_ref"] == text


async def test_many_at_once_all_arrive(destination: Destination, sink: Sink) -> None:
    """Attempts that overlap do not get in each other's way."""
    outcomes = await asyncio.gather(*(sink.send([message(number)]) for number in range(1, 21)))

    assert [type(outcome) for [outcome] in outcomes] == [Done] * 20
    assert len({arrival.text for arrival in await destination.arrived()}) == 20


async def test_a_check_reaches_the_other_side_and_changes_nothing(destination: Destination, sink: Sink) -> None:
    """It says in a short sentence what it found, and nothing arrives by it."""
    await sink.send([message()])
    found = await sink.check()

    assert 0 < len(found) < 200
    assert len(await destination.arrived()) == 1


async def test_an_unreachable_other_side_is_the_sinks_own_trouble(destination: Destination) -> None:
    """Nobody there: Down for each message, the check fails, and both say why."""
    sink = open_sink(destination.dead, public_url=None)
    outcomes = await sink.send([message(1), message(2)])

    assert [type(outcome) for outcome in outcomes] == [Down, Down]
    with pytest.raises(SinkError) as caught:
        await sink.check()
    assert str(caught.value)
    await sink.close()


async def test_no_secret_is_shown(destination: Destination) -> None:
    """Not in the options as text, not in the sink, not in a reason."""
    sink = open_sink(destination.dead, public_url=None)
    [outcome] = await sink.send([message()])
    with pytest.raises(SinkError) as caught:
        await sink.check()
    await sink.close()

    shown = [repr(destination.dead), str(destination.dead), destination.dead.model_dump_json(), repr(sink)]
    shown += [repr(outcome), str(caught.value)]
    assert [text for text in shown if PASSWORD in text] == []


async def test_closing_leaves_nothing_open(destination: Destination) -> None:
    """As many open files and sockets afterwards as before."""
    before = _open()
    sink = open_sink(destination.options, public_url=None)
    await asyncio.gather(*(sink.send([message(number)]) for number in range(1, 6)))
    await sink.check()
    await sink.close()

    await until(lambda: _open() <= before)


def _open() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def test_an_attempt_that_is_given_up_does_not_spoil_the_next(destination: Destination, sink: Sink) -> None:
    """As at a timeout of the pipeline's, or at a stop."""
    attempt = asyncio.create_task(_send(sink))
    await asyncio.sleep(0)
    attempt.cancel()
    await asyncio.gather(attempt, return_exceptions=True)

    [outcome] = await sink.send([message(2)])
    assert isinstance(outcome, Done)
    assert any(str(evaluation_id(2)) in arrival.text for arrival in await destination.arrived())


async def _send(sink: Sink) -> None:
    await sink.send([message(1)])


RETRY = {"first": 40.0, "factor": 3.0, "longest": 1000.0}
GIVEN = {"timeout": 0.05, "concurrency": 2, "rate": None, "retry": RETRY, "dead_after": 0.5}


def plan_of(destination: Destination, **given: object) -> SinkPlan:
    """How a sink that leads there is used, where a table of `receiver.toml` has these options."""
    problems = Problems()
    table = destination.options.model_dump() | {"name": "log"} | given
    options = read_sink(table, 0, "", OPTIONS, problems)
    assert problems.texts() == []
    assert options is not None
    return sink_plan(options, Settings())


@asynccontextmanager
async def desk_at(migrated_file: Path, folder: Path, clock: Callable[[], datetime]) -> AsyncIterator[Desk]:
    """A database with a Runflow beside it, at this time."""
    database = open_database(f"sqlite:///{shutil.copy(migrated_file, folder)}", clock=clock)
    async with OfflineRunflow(secret="whsec_every_sink", api_key="key") as runflow:
        yield Desk(database, runflow)
    await database.close()


async def test_the_rate_of_its_table_is_kept(destination: Destination, migrated_file: Path, tmp_path: Path) -> None:
    """Messages leave for the real other side at the pace that is set, none sooner."""
    count, rate = 6, 20.0
    plan = plan_of(destination, rate=rate)
    async with desk_at(migrated_file, tmp_path, system_clock) as desk:
        lane = SinkLane(desk.database, desk.bells, plan, source=SOURCE, process="us")
        await desk.release(count)
        begun = time.monotonic()
        while set(await desk.states()) != {"delivered"}:
            await step(lane)
        took = time.monotonic() - begun
        await lane.stop(LONG)
    await plan.sink.close()
    assert took >= (count - 1) / rate
    assert len(await destination.arrived()) == count


async def test_timeout_concurrency_retry_and_dead_after_of_its_table(
    destination: Destination, migrated_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lane cuts off what hangs, has so many under way, tries again at those distances, and gives up when it is told to."""
    monkeypatch.setattr(deliver, "MARGIN", 0.05)
    hanging, clock = RecordingSink(), Clock()
    hanging.open.clear()
    plan = plan_of(destination, **GIVEN)
    await plan.sink.close()
    async with desk_at(migrated_file, tmp_path, clock) as desk:
        lane = SinkLane(desk.database, desk.bells, replace(plan, sink=hanging), source=SOURCE, process="us")
        await desk.release(3)
        for longest in (RETRY["first"], RETRY["first"] * RETRY["factor"]):
            tried = len(hanging.given)
            while len(hanging.given) < tried + 3:
                await step(lane)
            waits = [(each.due_at or clock()) - clock() for each in await desk.deliveries()]
            assert all(longest / 2 <= wait.total_seconds() <= longest for wait in waits)
            assert {each.last_error for each in await desk.deliveries()} == {"no answer within 0.1 s"}
            clock.advance(seconds=longest)
        assert hanging.busiest == GIVEN["concurrency"]
        clock.advance(hours=0.5)
        while set(await desk.states()) != {"dead"}:
            await step(lane)
        [reason] = {each.last_error for each in await desk.deliveries()}
        await lane.stop(LONG)
    assert reason == "given up after 0:30:00: no answer within 0.1 s"
