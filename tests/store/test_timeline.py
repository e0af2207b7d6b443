"""The timeline: everything that happened to an evaluation, once, in order, with its reasons."""

from datetime import timedelta
from typing import Any

import pytest

from receiver.core.rating import Click
from receiver.core.routing import Route
from receiver.core.timeline import Timeline
from receiver.store import fetches, lanes, outbox, outbox_desk, ratings, results
from receiver.store import timeline as timelines
from receiver.store.attempts import Failure
from receiver.store.database import Database
from receiver.store.fetches import SettledFetch
from receiver.store.outbox import Settled
from receiver.store.outbox_desk import DeliveryFilter
from receiver.store.tables import attempts, deliveries, revisions, verdicts
from tests.store.building import (
    ALL,
    HOLD,
    LEASE,
    NOW,
    SAMPLE,
    SECOND,
    accepted,
    arrival,
    claimed,
    fetched_again,
    finished,
    key,
    released,
    stage,
    staged,
    taken,
)  # fmt: skip
from tests.store.history import mixed
from tests.store.places import put, rows, sql

MINUTE = timedelta(minutes=1)
OTHER = Route("other")


async def told(database: Database, number: int = 1, *, now: Any = NOW) -> Timeline:
    found = await database.read(timelines.timeline, key(number), now)
    assert found is not None
    return found


async def whats(database: Database, number: int = 1) -> list[str]:
    return [entry.what for entry in (await told(database, number)).items]


async def last(database: Database, what: str) -> dict[str, Any]:
    """The newest entry of a kind, without what it is."""
    *_, entry = (each for each in (await told(database)).items if each.what == what)
    return entry.model_dump(exclude={"what"})


async def test_ratings(database: Database) -> None:
    """The newest click of each person, and whether Runflow has it."""
    await released(database, 1)
    for person, is_positive, after in (("U1", True, 1), ("U1", False, 2), ("U2", None, 3)):
        click = Click(key(1), 1, person, is_positive, NOW + after * SECOND, "all", "C:1")
        assert await database.write(ratings.rate, click, NOW + after * SECOND)
    [first, _] = (await database.write(ratings.take, limit=9, lease=LEASE, now=NOW + MINUTE)).due
    assert await database.write(ratings.settle, first, "refused", error="answered 403")
    entries = [each for each in (await told(database)).items if each.what == "rated"]
    assert [each.model_dump(exclude={"what", "sink", "revision"}) for each in entries] == [
        {"at": NOW + 2 * SECOND, "person": "U1", "is_positive": False, "state": "refused"}
        | {"reason": "answered 403", "due_at": None},
        {"at": NOW + 3 * SECOND, "person": "U2", "is_positive": None, "state": "due"}
        | {"reason": None, "due_at": NOW + MINUTE + LEASE},
    ]


async def test_nothing_known(database: Database) -> None:
    """Of an evaluation that never came there is no timeline."""
    assert await database.read(timelines.timeline, key(1), NOW) is None


async def test_all_went_well(database: Database) -> None:
    """Arrival, tree, release, delivery with the broker's id: four entries, of rows that are there anyhow."""
    await released(database, 1)
    [claim] = await taken(database)
    at = NOW + SECOND
    await database.write(outbox.settle, [Settled(claim.id, claim.claim, "delivered", ended_at=at, remote_id="1700-0")])
    found = (await told(database)).model_dump(mode="json")
    assert found == {
        "complete": True,
        "items": [
            {"at": "2026-11-18T14:00:00Z", "what": "received", "event": "evaluation.completed", "origin": "callback",
             "secret_label": "old", "request_id": "req-1", "oddities": [], "waiting": False},
            {"at": "2026-11-18T14:00:00Z", "what": "fetched", "outcome": "stored", "oddities": []},
            {"at": "2026-11-18T14:00:00Z", "what": "released", "revision": 1, "tree": "complete", "tree_reason": None,
             "status": "completed", "overall_passed": False, "sinks": ["all"]},
            {"at": "2026-11-18T14:00:01Z", "what": "delivered", "delivery": claim.id, "sink": "all", "revision": 1,
             "replay_id": "", "attempt": 1, "remote_id": "1700-0"},
        ],
    }  # fmt: skip
    assert await database.read(rows, attempts, "at") == []


async def test_arrivals(database: Database) -> None:
    """Both events, repeats with their count and their last time, other bytes with what is odd in them."""
    await accepted(database, arrival(1), arrival(1, "evaluation.failed", at=NOW + SECOND, completed_at=7))
    again = [arrival(1, at=NOW + n * MINUTE) for n in (1, 2)]
    await accepted(database, *again, arrival(1, at=NOW + 3 * MINUTE, status="odd"))
    entries = (await told(database)).items
    assert [(each.what, each.at - NOW) for each in entries] == [
        ("received", timedelta(0)),
        ("received", SECOND),
        ("repeated", 3 * MINUTE),
        ("other_bytes", 3 * MINUTE),
    ]
    _, failed, repeated, other = (entry.model_dump() for entry in entries)
    assert (failed["oddities"], failed["waiting"]) == (["completed_at is not readable"], True)
    assert repeated["repeats"] == 3
    assert other["oddities"] == ["status 'odd' in an event evaluation.completed"]
    await stage(database)
    assert (await last(database, "received"))["waiting"] is False


async def test_to_come(database: Database) -> None:
    """What waits says for when, whether somebody is at it, and what holds it up."""
    await staged(database, 1)
    due = {"at": NOW, "state": "pending", "hold_until": NOW + HOLD, "paused_until": None, "pause_reason": None}
    assert await last(database, "fetch_due") == due
    await database.write(lanes.pause, lanes.FETCH, until=NOW + MINUTE, reason="key_refused: 401", now=NOW)
    paused = {"paused_until": NOW + MINUTE, "pause_reason": "key_refused: 401"}
    assert await last(database, "fetch_due") == due | paused
    [entry] = [each for each in (await told(database, now=NOW + MINUTE)).items if each.what == "fetch_due"]
    assert entry.model_dump(exclude={"what"}) == due, "a pause that is over holds nothing up"
    await finished(database, (await claimed(database)).values(), routes=[ALL, OTHER])
    assert "fetch_due" not in await whats(database)
    await taken(database, "other")
    await database.write(lanes.pause, lanes.sink_lane("all"), until=NOW + MINUTE, reason="refused", now=NOW)
    waiting = [each.model_dump() for each in (await told(database)).items if each.what == "delivery_due"]
    assert [(it["sink"], it["state"], it["at"], it["pause_reason"]) for it in waiting] == [
        ("all", "pending", NOW, "refused"),
        ("other", "leased", NOW + LEASE, None),
    ]


async def test_fetches_that_fail(database: Database) -> None:
    """Each fetch is there with its reason, Runflow's status, and when it was to be tried again; then the one that worked."""
    await staged(database, 1)
    [fetch] = (await claimed(database)).values()
    why = Failure(NOW, "again", "server_error", "503 UNAVAILABLE", 503)
    await database.write(fetches.settle, [SettledFetch(fetch, NOW + SECOND, "server_error", failure=why)], NOW)
    await database.write(fetches.release_held, [ALL], limit=9, now=NOW + HOLD)
    await finished(database, (await claimed(database, now=NOW + HOLD)).values(), now=NOW + HOLD + SECOND)
    assert await whats(database) == [
        "received", "fetch_failed", "released", "delivery_due", "fetched", "released", "delivery_due",
    ]  # fmt: skip
    assert await last(database, "fetch_failed") == {
        "at": NOW, "outcome": "again", "attempt": 1, "reason": "server_error", "detail": "503 UNAVAILABLE", "status": 503,
        "due_at": NOW + SECOND,
    }  # fmt: skip
    first, second = [each.model_dump() for each in (await told(database)).items if each.what == "released"]
    assert (first["at"], first["revision"], first["tree"], first["tree_reason"]) == (
        NOW + HOLD, 1, "unavailable", "server_error",
    )  # fmt: skip
    assert (second["at"], second["revision"], second["tree"]) == (NOW + HOLD + SECOND, 2, "complete")


async def test_given_up(database: Database) -> None:
    """The last try of a fetch says that it was the last."""
    await staged(database, 1)
    [fetch] = (await claimed(database)).values()
    await database.write(fetches.give_up, fetch, "refused", [ALL], NOW, "422 NO_SUCH_EMBED", 422)
    assert await whats(database) == ["received", "fetch_failed", "released", "delivery_due"]
    found = await last(database, "fetch_failed")
    assert (found["outcome"], found["detail"], found["status"], found["due_at"]) == (
        "given_up", "422 NO_SUCH_EMBED", 422, None,
    )  # fmt: skip


async def test_fetched_again(database: Database) -> None:
    """Each fetch that brought a tree is there once, whether it changed anything or not, and one that was older."""
    await released(database, 1)
    await fetched_again(database, 1, now=NOW + SECOND)  # the same again
    await fetched_again(database, 1, now=NOW + 2 * SECOND, overall_passed=True)
    await fetched_again(database, 1, now=NOW + 3 * SECOND, updated_at=NOW - HOLD)
    await fetched_again(database, 1, now=NOW + 4 * SECOND, overall_passed=None)
    entries = [each for each in (await told(database)).items if each.what in ("fetched", "released")]
    assert [(each.what, (each.at - NOW).seconds) for each in entries] == [
        ("fetched", 0), ("released", 0), ("fetched", 1), ("fetched", 2), ("released", 2), ("fetched", 3),
        ("fetched", 4), ("released", 4),
    ]  # fmt: skip
    outcomes = [each.model_dump()["outcome"] for each in entries if each.what == "fetched"]
    assert outcomes == ["stored", "stored", "stored", "older", "stored"]


async def test_deliveries(database: Database) -> None:
    """Tries of all outcomes, a retry, a replay and a discard, each under its sink, its revision and its replay."""
    await released(database, 1)
    await database.write(put, deliveries, results.new_delivery(key(1), "all", 1, NOW + MINUTE, replay_id="r1"))
    [claim] = await taken(database)
    failed = Settled(claim.id, claim.claim, "dead", ended_at=NOW, error="413", failure=Failure(NOW, "dead", "413"))
    await database.write(outbox.settle, [failed])
    assert (await last(database, "delivery_failed"))["outcome"] == "dead"
    await database.write(outbox_desk.retry, DeliveryFilter(ids=(claim.id,)), NOW + SECOND, "me")
    [again] = await taken(database, now=NOW + SECOND)
    at = NOW + 2 * SECOND
    await database.write(outbox.settle, [Settled(again.id, again.claim, "delivered", ended_at=at, remote_id="x")])
    await database.write(outbox_desk.discard, DeliveryFilter(states=("pending",)), NOW + 2 * MINUTE)
    entries = (await told(database)).items[3:]
    assert [(each.what, each.at - NOW) for each in entries] == [
        ("delivery_failed", timedelta(0)),
        ("retried", SECOND),
        ("delivered", 2 * SECOND),
        ("replayed", MINUTE),
        ("discarded", 2 * MINUTE),
    ]
    assert [each.model_dump()["replay_id"] for each in entries] == ["", "", "", "r1", "r1"]
    assert [each.model_dump().get("by", "nothing") for each in entries] == ["nothing", "me", "nothing", "nothing", None]
    assert {each.model_dump()["delivery"] for each in entries[:3]} == {claim.id}


async def test_deeds(database: Database) -> None:
    """Each retry and each discard is told, also where another followed; a first try long after its creation is no retry."""
    await released(database, 1)
    at = NOW + HOLD
    [claim] = await taken(database, now=at)
    assert "retried" not in await whats(database)
    died = Settled(claim.id, claim.claim, "dead", ended_at=at, error="x", failure=Failure(at, "dead", "x"))
    await database.write(outbox.settle, [died])
    one = DeliveryFilter(ids=(claim.id,))
    await database.write(outbox_desk.discard, one, at + SECOND)
    await database.write(outbox_desk.retry, one, at + 2 * SECOND, "me")
    [claim] = await taken(database, now=at + 2 * SECOND)
    assert await database.write(outbox_desk.retry, one, at + 3 * SECOND, "you") == 0, "it is being sent"
    died = died._replace(claim=claim.claim, ended_at=at + 4 * SECOND, failure=Failure(at + 4 * SECOND, "dead", "y"))
    await database.write(outbox.settle, [died])
    await database.write(outbox_desk.retry, one, at + 5 * SECOND, "you")
    entries = [each for each in (await told(database, now=at)).items if each.at >= at]
    assert [(each.what, (each.at - at).seconds, each.model_dump().get("by")) for each in entries] == [
        ("delivery_failed", 0, None), ("discarded", 1, None), ("retried", 2, "me"), ("delivery_failed", 4, None),
        ("retried", 5, "you"), ("delivery_due", 5, None),
    ]  # fmt: skip


@pytest.mark.parametrize("has_delivery", [True, False])
async def test_before_there_were_attempts(database: Database, has_delivery: bool) -> None:
    """What an earlier version left is told as far as its rows tell it: a death by its delivery, a release by its deliveries."""
    routes = [ALL] if has_delivery else []
    await released(database, 1, routes=routes)
    await fetched_again(database, 1, routes=routes, overall_passed=True)
    for table in (revisions, verdicts):
        await database.write(sql, f"UPDATE {table.name} SET released_at = NULL")
    if has_delivery:
        claims = await taken(database)
        await database.write(
            outbox.settle, [Settled(it.id, it.claim, "dead", ended_at=NOW, error="x") for it in claims]
        )
        assert (await last(database, "delivery_failed"))["reason"] == "x"
    await database.write(sql, "DELETE FROM attempts")
    expected = ["received", "fetched"]
    assert await whats(database) == expected + (["released"] * 2 + ["delivery_failed"] * 2 if has_delivery else [])


async def test_a_sample(database: Database) -> None:
    """A sample is never fetched, and says why it has no tree."""
    await accepted(database, arrival(SAMPLE))
    await stage(database)
    await database.write(fetches.release_held, [Route("file", takes_samples=True)], limit=9, now=NOW)
    found = await database.read(timelines.timeline, SAMPLE, NOW)
    assert found is not None
    assert [each.what for each in found.items] == ["received", "released", "delivery_due"]
    assert found.items[1].model_dump()["tree_reason"] == "sample"


async def test_too_many(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many rows the newest are shown, and it is told that there were more."""
    monkeypatch.setattr(timelines, "MOST", 5)
    await released(database, 1)
    assert (await told(database)).complete
    for n in range(9):
        replay = results.new_delivery(key(1), "all", 1, NOW + n * SECOND, replay_id=f"r{n}")
        await database.write(put, deliveries, replay)
    found = await told(database)
    assert not found.complete
    replays = [each.model_dump()["replay_id"] for each in found.items if each.what == "replayed"]
    assert replays == [f"r{n}" for n in range(4, 9)]


async def test_everything_that_happens(database: Database) -> None:
    """A history of all states has a timeline for each evaluation, and none is of another."""
    await mixed(database)
    for number in range(11):
        found = await told(database, number)
        assert found.items[0].what == "received"
        assert found == Timeline.model_validate_json(found.model_dump_json())
    ids = [entry.delivery for n in range(11) for entry in (await told(database, n)).items if hasattr(entry, "delivery")]
    assert set(ids) <= {each for (each,) in await database.read(rows, deliveries, "id")}
