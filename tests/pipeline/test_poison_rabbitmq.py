"""A message that one queue of RabbitMQ never takes, behind a real lane: the queue goes on, and the message ends."""

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Connection, select, update

from receiver.core.retry import Waits
from receiver.core.verdict import Verdict
from receiver.offline import OfflineRunflow
from receiver.pipeline import deliver
from receiver.store import lanes
from receiver.store.database import system_clock
from receiver.store.tables import verdicts
from tests.pipeline.clock import until_awaited
from tests.pipeline.desk import Desk, plan_of
from tests.pipeline.outage import Interrupted
from tests.pipeline.whole import plan_for, running
from tests.sinks import amqp_side
from tests.sinks.amqp_side import RabbitServer


@pytest.fixture
def clock() -> Callable[[], datetime]:
    """Here the time runs: what loops by itself must not be moved."""
    return system_clock


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for minutes here."""
    monkeypatch.setattr(deliver, "LONGEST_PAUSE", timedelta(seconds=0.5))


@pytest.mark.parametrize("mixed", [False, True], ids=["alone", "among others"])
async def test_a_message_that_a_queue_of_rabbitmq_never_takes(
    database: Interrupted, runflow: OfflineRunflow, rabbit: RabbitServer, mixed: bool
) -> None:
    """RabbitMQ refuses a message over a queue's `max-length-bytes` as it refuses all for a full queue, and says no more.

    The others go on, and in the end it is a dead letter.
    """
    queue, desk = f"test.{uuid.uuid4()}", Desk(database, runflow)
    await amqp_side.make_queue(rabbit.url, queue, x_overflow="reject-publish", x_max_length_bytes=3_000_000)
    sink = amqp_side.sink_to(rabbit.url, routing_key=queue)
    [poison] = await desk.release()
    await database.write(enlarged, poison)
    await desk.release(10 if mixed else 0)
    plan = plan_of(sink, retry=Waits(timedelta(seconds=0.1), timedelta(seconds=0.1)), dead_after=timedelta(seconds=1))

    async def is_dead() -> bool:
        """Whether it is one, and the others were taken. When all are, another one comes."""
        states = {each.evaluation_id: each.state for each in await desk.deliveries()}
        its, others = states.pop(poison), set(states.values())
        if others <= {"delivered"} and its != "dead":
            await desk.release()
        return others == {"delivered"} and its == "dead"

    async with running(database, desk.bells, plan_for(None, [plan])):
        await until_awaited(is_dead)
    await sink.close()
    [dead, *_] = records = await desk.deliveries()
    delivered = {f"{each.evaluation_id}:evaluation.completed:1" for each in records if each.state == "delivered"}
    assert set(await amqp_side.ids(rabbit.url, queue)) == delivered
    assert len(delivered) >= lanes.MOST_PAUSES
    assert "this message alone, others are taken: it did not accept the message" in (dead.last_error or "")


def enlarged(conn: Connection, evaluation_id: UUID) -> None:
    """A verdict of more than the queue takes."""
    document = conn.scalar(select(verdicts.c.document).where(verdicts.c.evaluation_id == evaluation_id))
    large = Verdict.model_validate_json(document or "").model_copy(update={"generation_prompt": "x" * 4_000_000})
    conn.execute(
        update(verdicts).where(verdicts.c.evaluation_id == evaluation_id).values(document=large.model_dump_json())
    )
