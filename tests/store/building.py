"""Events, verdicts and routes for the store's tests, and short ways to bring them into a database."""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from receiver.core.callback import read_callback
from receiver.core.routing import Route
from receiver.core.verdict import Action, GateFailure, Issue, Judge, Verdict, from_callback
from receiver.store import fetches, outbox, staging
from receiver.store.database import Database
from receiver.store.fetches import ClaimedFetch, FinishedFetch
from receiver.store.intake import EventArrival, OtherArrival
from receiver.store.results import Found, Released
from receiver.store.staging import Staged, WaitingEvent

NOW = datetime(2026, 11, 18, 14, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOLD = timedelta(minutes=10)
LEASE = timedelta(seconds=40)
ALL = Route("all")
FILE = Route("file", takes_samples=True)


def key(number: int) -> UUID:
    """An evaluation's id, a different one for each number."""
    return UUID(int=0x01A1EF00_87BE_711D_AB0D_000000000000 + number)


SAMPLE = UUID("00000000-0000-4000-8000-000000000001")


def body(evaluation_id: UUID, event: str = "evaluation.completed", **fields: Any) -> bytes:
    """A callback's body."""
    content = {"event": event, "evaluation_id": str(evaluation_id), "status": event.removeprefix("evaluation.")}
    return json.dumps(content | {"completed_at": "2026-11-18T13:59:59+00:00"} | fields).encode()


def arrival(
    number: int | UUID, event: str = "evaluation.completed", *, at: datetime = NOW, **fields: Any
) -> EventArrival:
    """An evaluation's event on its way in; `fields` change its bytes."""
    evaluation_id = key(number) if isinstance(number, int) else number
    origin: Literal["sample", "callback"] = "sample" if evaluation_id == SAMPLE else "callback"
    return EventArrival(evaluation_id, event, body(evaluation_id, event, **fields), origin, "old", "req-1", at)


def other(
    content: bytes, *, kind: Literal["ignored", "quarantined"] = "quarantined", at: datetime = NOW
) -> OtherArrival:
    """A genuine body that is no evaluation's event."""
    event, why = ("run.completed", None) if kind == "ignored" else (None, "not JSON")
    return OtherArrival(kind, event, why, content, "old", "req-2", at)


def plan_at(now: datetime) -> Callable[[WaitingEvent], Staged]:
    """What becomes of an event: its tree is fetched at once, and it is held meanwhile; a sample is held no moment."""

    def plan(event: WaitingEvent) -> Staged:
        callback, oddities = read_callback(event.body, event.event)
        verdict = from_callback(
            callback,
            evaluation_id=event.evaluation_id,
            event=event.event,
            received_at=event.received_at,
            origin=event.origin,
        )
        if event.origin == "sample":
            return Staged(event, verdict, oddities, due_at=None, hold_until=now, reason="sample")
        return Staged(event, verdict, oddities, due_at=now, hold_until=now + HOLD)

    return plan


def tree_of(known: Verdict, **changes: Any) -> Found:
    """A result with a tree, as a fetch brings it. `updated_at` is when Runflow last changed it."""
    updated_at = changes.pop("updated_at", NOW)
    verdict = known.model_copy(
        update={
            "tree": "complete",
            "tree_reason": None,
            "revision": 0,
            "task_type": "headshot",
            "overall_passed": False,
            "weighted_pass_rate": 0.5,
            "generated_image_url": "https://cdn.example/1",
            "judges": [Judge(id="j1", name="Identity", passed=False, weight=0.5, evidence=["a", "b"])],
            "issues": [Issue(judge="Identity", category="identity", detail="another face")],
            "gate_failures": [GateFailure(output_key="image", module="nsfw", reason="flagged")],
            "action": Action(primary_action="regenerate", improved_prompt="better"),
        }
        | changes
    )
    return Found(verdict, b'{"id": "as it came"}', updated_at)


async def accepted(database: Database, *arrivals: EventArrival | OtherArrival) -> None:
    """Stores what came in."""
    await database.accept(arrivals)


async def stage(database: Database, *, limit: int = 1000, now: datetime = NOW) -> list[Staged]:
    """Sees to events that wait."""
    return await database.write(staging.stage, plan_at(now), limit=limit, now=now)


async def staged(database: Database, *numbers: int, now: datetime = NOW, **fields: Any) -> None:
    """Takes in an event for each evaluation and sees to it: pending verdicts whose fetch is due."""
    await database.accept([arrival(number, at=now, **fields) for number in numbers])
    await stage(database, now=now)


async def claimed(database: Database, *, limit: int = 1000, now: datetime = NOW) -> dict[UUID, ClaimedFetch]:
    """Claims fetches that are due."""
    taken = await database.write(fetches.claim, limit=limit, lease=LEASE, now=now)
    return {each.evaluation_id: each for each in taken}


async def finished(
    database: Database,
    these: Iterable[ClaimedFetch],
    *,
    routes: Sequence[Route] = (ALL,),
    now: datetime = NOW,
    **changes: Any,
) -> list[Released]:
    """Ends fetches with a tree."""
    done = [FinishedFetch(each, tree_of(each.known, **changes)) for each in these]
    return await database.write(fetches.finish, done, routes, now)


async def released(
    database: Database, *numbers: int, routes: Sequence[Route] = (ALL,), now: datetime = NOW, **changes: Any
) -> list[Released]:
    """Brings evaluations all the way to a released verdict with a tree, and deliveries to the routes' sinks."""
    await staged(database, *numbers, now=now)
    fetched = await claimed(database, now=now)
    return await finished(database, [fetched[key(number)] for number in numbers], routes=routes, now=now, **changes)


async def fetched_again(
    database: Database, number: int, *, routes: Sequence[Route] = (ALL,), now: datetime = NOW, **changes: Any
) -> list[Released]:
    """Fetches a released evaluation once more."""
    await database.write(staging.ask_again, key(number), now)
    return await finished(database, (await claimed(database, now=now)).values(), routes=routes, now=now, **changes)


async def taken(
    database: Database, sink: str = "all", *, limit: int = 1000, now: datetime = NOW
) -> list[outbox.Claimed]:
    """Claims deliveries of a sink."""
    return await database.write(outbox.claim, sink, limit=limit, lease=LEASE, now=now)
