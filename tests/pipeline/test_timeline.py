"""What the lanes leave for the timeline: each try that failed, as it failed."""

from datetime import timedelta
from typing import Any

import pytest

from receiver.core.timeline import Entry
from receiver.offline.faults import (
    EmbedsRefused,
    Fault,
    Faults,
    FirstReads,
    Garbage,
    RateLimited,
    RequestFault,
    ServerError,
)
from receiver.pipeline.deliver import SinkLane
from receiver.pipeline.fetch import FetchLane, FetchPace
from receiver.runflow.client import RunflowClient
from receiver.sinks.base import Again, Done, Down, Never, Outcome
from receiver.store.timeline import timeline
from tests.pipeline.clock import Clock
from tests.pipeline.desk import SOURCE, Desk, plan_of, step
from tests.pipeline.recording import RecordingSink


async def entries(desk: Desk, *whats: str) -> list[Entry]:
    """What is told of the one evaluation that there is."""
    [evaluation_id] = [row.evaluation_id for row in await desk.deliveries()] or list(desk.runflow.evaluations._by_id)
    found = await desk.database.read(timeline, evaluation_id, desk.database.now())
    assert found is not None
    return [entry for entry in found.items if entry.what in whats]


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        (Faults(server_error=ServerError(status=502, count=1)), ("again", "server_error", "502 INTERNAL_ERROR", 502)),
        (Faults(reset=RequestFault(count=1)), ("again", "unreachable", None, None)),
        (Faults(garbage=Garbage(count=1)), ("again", "unreadable", "200, but no JSON object", 200)),
        (Faults(not_found_first=FirstReads()), ("again", "not_found", "404 NOT_FOUND", 404)),
        (Faults(pending_first=FirstReads()), ("again", "not_terminal", "status_code is running", 200)),
        (Faults(key_revoked=Fault(count=1)), ("paused", "key_refused", "401 UNAUTHORIZED", 401)),
        (Faults(rate_limited=RateLimited(count=1)), ("paused", "rate_limited", "429 RATE_LIMITED", 429)),
        (
            Faults(embeds_refused=EmbedsRefused(status=403, narrow=True, count=2)),
            ("paused", "key_refused", "403 PERMISSION_DENIED", 403),
        ),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
async def test_a_fetch_that_fails(
    desk: Desk, client: RunflowClient, clock: Clock, faults: Faults, told: tuple[Any, ...]
) -> None:
    """Its reason, Runflow's own words and status are told, and then that it worked."""
    lane = FetchLane(desk.database, desk.bells, client, desk.routes, FetchPace())
    desk.runflow.faults = faults
    [key] = desk.add()
    await desk.arrive(key)
    await step(lane)
    at = clock()
    clock.advance(timedelta(minutes=1))
    await step(lane)
    failed, fetched = [each.model_dump() for each in await entries(desk, "fetch_failed", "fetched")]
    outcome, reason, detail, status = told
    assert (failed["at"], failed["outcome"], failed["reason"], failed["status"]) == (at, outcome, reason, status)
    assert failed["detail"] == detail if detail else failed["detail"]
    assert (failed["due_at"] is None) == (outcome == "paused")
    assert (fetched["at"], fetched["outcome"]) == (clock(), "stored")


async def test_a_fetch_that_is_given_up(desk: Desk, client: RunflowClient, clock: Clock) -> None:
    """422 on all embeds ends it at once, which is told."""
    lane = FetchLane(desk.database, desk.bells, client, desk.routes, FetchPace())
    desk.runflow.faults = Faults(embeds_refused=EmbedsRefused(status=422, narrow=True))
    await desk.arrive(*desk.add())
    await step(lane)
    failed, released = [each.model_dump() for each in await entries(desk, "fetch_failed", "released")]
    assert (failed["outcome"], failed["reason"], failed["status"]) == ("given_up", "refused", 422)
    assert (released["tree"], released["tree_reason"], released["sinks"]) == ("unavailable", "refused", ["log"])


def broken(_: Any) -> Outcome:
    raise RuntimeError("a defect of the sink")


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (lambda _: Again("answered 503"), "again", "answered 503"),
        (lambda _: Down("cannot connect"), "paused", "cannot connect"),
        (lambda _: Never("answered 400"), "dead", "answered 400"),
        (broken, "again", "the sink failed (RuntimeError)"),
    ],
    ids=["again", "down", "never", "a defect"],
)
async def test_a_delivery_that_fails(desk: Desk, clock: Clock, answer: Any, outcome: str, reason: str) -> None:
    """Each try with what the sink said, and then that it was delivered, with the other side's id."""
    sink = RecordingSink(answer)
    lane = SinkLane(desk.database, desk.bells, plan_of(sink), source=SOURCE, process="us")
    await desk.release()
    await step(lane)
    at = clock()
    sink.answer = lambda _: Done("1-0")
    clock.advance(timedelta(minutes=10))
    await step(lane)
    failed, *rest = [each.model_dump() for each in await entries(desk, "delivery_failed", "delivered")]
    assert (failed["at"], failed["outcome"], failed["reason"], failed["attempt"]) == (at, outcome, reason, 1)
    assert (failed["due_at"] is None) == (outcome in ("dead", "paused"))
    counted = {"again": 2, "paused": 1}.get(outcome)
    assert [(each["what"], each["at"], each["remote_id"], each["attempt"]) for each in rest] == (
        [("delivered", clock(), "1-0", counted)] if counted else []
    )
