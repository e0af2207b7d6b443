"""Tries that failed, one by one: what is noted, what is not, and that it stays bounded."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event

from receiver.store import attempts, fetches, lanes, outbox
from receiver.store.attempts import FIRST_KEPT, LAST_KEPT, Failure, Outcome
from receiver.store.database import Database
from receiver.store.fetches import FinishedFetch, SettledFetch
from receiver.store.outbox import Settled
from receiver.store.tables import attempts as attempts_table
from receiver.store.tables import deliveries, revisions, verdicts
from tests.store.building import (
    ALL,
    HOLD,
    LEASE,
    NOW,
    SECOND,
    claimed,
    fetched_again,
    finished,
    key,
    released,
    staged,
    taken,
    tree_of,
)
from tests.store.places import rows

LATER = NOW + LEASE
MOST = FIRST_KEPT + LAST_KEPT


def failure(outcome: Outcome = "again", *, at: datetime = NOW, error: str = "503") -> Failure:
    return Failure(at, outcome, error)


async def noted(database: Database, *columns: str) -> list[tuple[Any, ...]]:
    """What is noted, by time."""
    return sorted(await database.read(rows, attempts_table, "at", *columns))


async def test_deliveries(database: Database) -> None:
    """A try that failed is noted as it was, beside what the delivery itself keeps: the last."""
    await released(database, 1)
    outcomes: Sequence[Outcome] = ("again", "paused", "dead")
    for second, outcome in enumerate(outcomes):
        at = NOW + second * SECOND
        [claim] = await taken(database, now=at)
        ended = outcome == "dead"
        it = Settled(
            claim.id,
            claim.claim,
            "dead" if ended else "pending",
            None if ended else at + SECOND,
            at if ended else None,
            error=f"error {second}",
            uncounted=outcome == "paused",
            failure=Failure(at, outcome, f"error {second}", status=503),
        )
        await database.write(outbox.settle, [it])
    columns = ("evaluation_id", "delivery_id", "attempt", "outcome", "error", "status", "due_at")
    assert await noted(database, *columns) == [
        (NOW, key(1), claim.id, 1, "again", "error 0", 503, NOW + SECOND),
        (NOW + SECOND, key(1), claim.id, 2, "paused", "error 1", 503, None),
        (NOW + 2 * SECOND, key(1), claim.id, 2, "dead", "error 2", 503, None),
    ]
    assert await database.read(rows, deliveries, "last_error") == [("error 2",)]


async def test_fetches(database: Database) -> None:
    """The same of fetches, which belong to no delivery; one that was given up says so."""
    await staged(database, 1)
    [first] = (await claimed(database)).values()
    why = Failure(NOW, "again", "server_error", "503 INTERNAL_ERROR", 503)
    await database.write(fetches.settle, [SettledFetch(first, LATER, "server_error", failure=why)], NOW)
    [second] = (await claimed(database, now=LATER)).values()
    await database.write(fetches.give_up, second, "refused", [ALL], LATER, "422", 422)
    columns = ("evaluation_id", "delivery_id", "attempt", "outcome", "error", "detail", "status", "due_at")
    assert await noted(database, *columns) == [
        (NOW, key(1), 0, 1, "again", "server_error", "503 INTERNAL_ERROR", 503, LATER),
        (LATER, key(1), 0, 2, "given_up", "refused", "422", 422, None),
    ]


async def test_success_is_not_noted(database: Database) -> None:
    """What goes well at once writes nothing, nor is anything asked of the table."""
    asked: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    def listening(conn: Connection, work: Any, *args: Any) -> Any:
        event.listen(conn, "before_cursor_execute", note)
        result = work(conn, *args)
        event.remove(conn, "before_cursor_execute", note)
        return result

    await staged(database, 1, 2)
    done = [FinishedFetch(each, tree_of(each.known)) for each in (await claimed(database)).values()]
    assert len(await database.write(listening, fetches.finish, done, [ALL], NOW)) == 2
    claims = await taken(database)
    await database.write(
        listening,
        outbox.settle,
        [Settled(it.id, it.claim, "delivered", ended_at=NOW, remote_id="1-0") for it in claims],
    )
    assert any("UPDATE deliveries" in statement for statement in asked)
    assert not any("INTO attempts" in statement for statement in asked)
    assert await noted(database) == []


async def test_given_back_is_not_noted(database: Database) -> None:
    """What was claimed and given back at a stop was no try."""
    await staged(database, 1)
    [fetch] = (await claimed(database)).values()
    await database.write(fetches.settle, [SettledFetch(fetch, NOW, None, uncounted=True)], NOW)
    await finished(database, (await claimed(database)).values())
    [claim] = await taken(database)
    await database.write(outbox.settle, [Settled(claim.id, claim.claim, "pending", NOW, uncounted=True)])
    assert await noted(database) == []


@pytest.mark.parametrize("lost_by", ["another claim", "all leases freed"])
async def test_lost_lease(database: Database, lost_by: str) -> None:
    """Whoever lost the lease notes nothing."""
    await released(database, 2)
    await staged(database, 1)
    [fetch] = (await claimed(database)).values()
    [claim] = await taken(database)
    if lost_by == "another claim":
        await claimed(database, now=LATER)
        await taken(database, now=LATER)
    else:
        await database.write(lanes.free_all_leases, NOW)
    await database.write(outbox.settle, [Settled(claim.id, claim.claim, "dead", ended_at=NOW, failure=failure("dead"))])
    await database.write(fetches.settle, [SettledFetch(fetch, NOW, "x", failure=failure())], NOW)
    assert await database.write(fetches.give_up, fetch, "refused", [ALL], NOW) == []
    assert await noted(database) == []


async def test_first_outcome_counts(database: Database) -> None:
    """When an attempt is written back twice at once, what counts is noted."""
    await released(database, 1, 2)
    one, two = await taken(database)
    outcomes = [
        Settled(one.id, one.claim, "pending", LATER, failure=failure(error="first")),
        Settled(two.id, two.claim, "delivered", ended_at=NOW),
        Settled(one.id, one.claim, "dead", ended_at=NOW, failure=failure("dead", error="second")),
        Settled(two.id, two.claim, "dead", ended_at=NOW, failure=failure("dead", error="second")),
    ]
    await database.write(outbox.settle, outcomes)
    assert await noted(database, "delivery_id", "error") == [(NOW, one.id, "first")]


async def test_replaced_trees(database: Database) -> None:
    """When a tree is fetched again, when the one before it was is noted; an answer older than what is there is noted itself."""
    await released(database, 1)
    await fetched_again(database, 1, now=NOW + SECOND, overall_passed=True)
    await fetched_again(database, 1, now=NOW + 2 * SECOND, updated_at=NOW - HOLD)
    found = await noted(database, "outcome", "attempt")
    assert found == [(NOW, "fetched", None), (NOW + SECOND, "fetched", None), (NOW + 2 * SECOND, "older", 1)]


async def test_first_and_last_are_kept(database: Database) -> None:
    """A fetch that fails for days, and a delivery that does, keep so many rows and no more."""
    await released(database, 2)
    await staged(database, 1)
    tries = MOST + 2 * LAST_KEPT + 7
    for n in range(tries):
        at = NOW + n * SECOND
        [fetch] = (await claimed(database, now=at)).values()
        await database.write(fetches.settle, [SettledFetch(fetch, at, "x", failure=failure(at=at))], at)
        [claim] = await taken(database, now=at)
        settled = Settled(claim.id, claim.claim, "pending", at, error="x", failure=failure(at=at))
        await database.write(outbox.settle, [settled])
    firsts = [NOW + n * SECOND for n in range(FIRST_KEPT)]
    lasts = [NOW + n * SECOND for n in range(tries - LAST_KEPT, tries)]
    found = await noted(database, "delivery_id")
    for delivery_id in (0, claim.id):
        assert [at for at, of in found if of == delivery_id] == firsts + lasts


async def test_many_at_once(database: Database) -> None:
    """A batch of failures, in any order, is noted in one step, each for its own."""
    await released(database, *range(40))
    await staged(database, *range(40, 80))
    claims = await taken(database)
    await database.write(
        outbox.settle,
        [Settled(it.id, it.claim, "pending", NOW, failure=failure(error=str(it.id))) for it in claims][::-1],
    )
    known = (await claimed(database)).values()
    failed = [SettledFetch(it, NOW, "x", failure=failure(error=str(it.evaluation_id))) for it in known]
    await database.write(fetches.settle, failed[::-1], NOW)
    found = await database.read(rows, attempts_table, "evaluation_id", "delivery_id", "error")
    expected = [(it.evaluation_id, it.id, str(it.id)) for it in claims]
    expected += [(it.evaluation_id, 0, str(it.evaluation_id)) for it in known]
    assert sorted(found) == sorted(expected)


async def test_when_a_revision_was_released(database: Database) -> None:
    """Each revision keeps the moment at which it was released; a later fetch that changes nothing moves nothing."""
    await released(database, 1)
    at = NOW + timedelta(minutes=1)
    await fetched_again(database, 1, now=at)
    assert await _released(database) == ([], [(1, NOW)])
    await fetched_again(database, 1, now=at, overall_passed=True)
    assert await _released(database) == ([(1, NOW)], [(2, at)])


async def _released(database: Database) -> tuple[list[Any], list[Any]]:
    return (
        await database.read(rows, revisions, "revision", "released_at"),
        await database.read(rows, verdicts, "revision", "released_at"),
    )


def test_slots() -> None:
    """The first claims have a slot each, the later ones take turns over as many as are kept, and none of the first."""
    slots = [attempts._slot(claim) for claim in range(1, 1000)]
    assert slots[:FIRST_KEPT] == list(range(1, FIRST_KEPT + 1))
    assert len(set(slots[FIRST_KEPT:])) == LAST_KEPT
    assert not set(slots[:FIRST_KEPT]) & set(slots[FIRST_KEPT:])
