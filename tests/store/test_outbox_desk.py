"""The outbox as people see it: lists, counts, retry and discard by every filter."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from receiver.core.routing import Route
from receiver.store import outbox, outbox_desk
from receiver.store.database import Database
from receiver.store.outbox import STATES, Settled, State
from receiver.store.outbox_desk import Count, DeliveryFilter
from receiver.store.tables import deliveries
from tests.store.building import ALL, LEASE, NOW, SECOND, key, released, taken
from tests.store.places import rows

LATER = NOW + timedelta(hours=1)
SOON = NOW + SECOND
"""While leases of now are in force."""
ROUTES = (ALL, Route("other"))


@pytest.fixture
async def ids(database: Database) -> dict[State, int]:
    """One delivery in each state to the sink `all`, by state; the sink `other` has five that are pending."""
    await released(database, *range(len(STATES)), routes=ROUTES)
    found: dict[State, int] = {}
    for state, claim in zip(STATES, await taken(database, limit=9), strict=True):
        found[state] = claim.id
        if state == "pending":
            settled = Settled(claim.id, claim.claim, state, LATER, error="503")
        else:
            settled = Settled(claim.id, claim.claim, state, ended_at=NOW, remote_id="17-0", error="why")
        if state != "leased":
            await database.write(outbox.settle, [settled])
    return found


async def change(database: Database, verb: str, **filter_: Any) -> int:
    act = {"retry": outbox_desk.retry, "discard": outbox_desk.discard}[verb]
    return await database.write(act, DeliveryFilter(**filter_), SOON)


async def would(database: Database, verb: str, **filter_: Any) -> int:
    """How many a change would move, as people are told before."""
    count = {"retry": outbox_desk.retryable, "discard": outbox_desk.discardable}[verb]
    return sum(each.deliveries for each in await database.read(count, DeliveryFilter(**filter_), SOON))


async def states(database: Database, sink: str = "all") -> dict[int, str]:
    return {it: state for it, of, state in await database.read(rows, deliveries, "id", "sink", "state") if of == sink}


@pytest.mark.parametrize(
    ("verb", "filter_", "moved", "to"),
    [
        ("retry", {}, {"pending", "dead"}, "pending"),
        ("retry", {"states": STATES}, {"pending", "dead", "discarded"}, "pending"),
        ("retry", {"states": ("discarded",)}, {"discarded"}, "pending"),
        ("discard", {}, {"pending", "dead"}, "discarded"),
        ("discard", {"states": STATES}, {"pending", "dead"}, "discarded"),
    ],
)
async def test_moves(
    database: Database, ids: dict[State, int], verb: str, filter_: dict[str, Any], moved: set[State], to: State
) -> None:
    """Only what waits or has failed is moved, and what was discarded only when it is asked for; what is under way never."""
    assert await would(database, verb, sinks=("all",), **filter_) == len(moved)
    assert await change(database, verb, sinks=("all",), **filter_) == len(moved)
    assert await states(database) == {ids[state]: to if state in moved else state for state in STATES}
    assert set((await states(database, "other")).values()) == {"pending"}


async def test_discarded_by_their_ids(database: Database, ids: dict[State, int]) -> None:
    """What was discarded comes back when its number is given."""
    assert await change(database, "retry", ids=tuple(ids.values())) == 3
    assert (await states(database))[ids["discarded"]] == "pending"


@pytest.mark.parametrize(("verb", "to"), [("retry", "pending"), ("discard", "discarded")])
async def test_lease_that_ended(database: Database, ids: dict[State, int], verb: str, to: str) -> None:
    """What a dead process had leased waits, too; whatever that process still writes changes nothing."""
    [lost] = await taken(database, "other", limit=1)
    filter_ = DeliveryFilter(sinks=("other",))
    act = {"retry": outbox_desk.retry, "discard": outbox_desk.discard}[verb]
    assert await database.write(act, filter_, NOW + LEASE - SECOND) == 4
    assert await database.write(act, filter_, NOW + LEASE) == (5 if verb == "retry" else 1)
    await database.write(outbox.settle, [Settled(lost.id, lost.claim, "delivered", ended_at=NOW)])
    assert set((await states(database, "other")).values()) == {to}


@pytest.mark.parametrize("state", ["dead", "discarded", "pending"])
async def test_retry_begins_anew(database: Database, ids: dict[State, int], state: State) -> None:
    """What is retried is due now, with all its attempts and all its time before it, and is really sent."""
    assert await change(database, "retry", ids=(ids[state],)) == 1
    columns = ("id", "due_at", "attempts", "started_at", "ended_at", "created_at")
    assert [row for row in await database.read(rows, deliveries, *columns) if row[0] == ids[state]] == [
        (ids[state], SOON, 0, SOON, None, NOW)
    ]
    found = {each.id: each for each in await taken(database, now=SOON)}
    assert (found[ids[state]].attempts, found[ids[state]].started_at) == (1, SOON)


@pytest.mark.parametrize("state", ["dead", "pending"])
async def test_discard_is_for_good(database: Database, ids: dict[State, int], state: State) -> None:
    """What is discarded is never claimed, and says when it ended."""
    assert await change(database, "discard", ids=(ids[state],)) == 1
    columns = ("id", "state", "due_at", "ended_at")
    assert (ids[state], "discarded", None, SOON) in await database.read(rows, deliveries, *columns)
    assert ids[state] not in {each.id for each in await taken(database, now=SOON + timedelta(days=9))}


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ({}, 2 + 5),
        ({"states": ("dead",)}, 1),
        ({"states": ("dead", "pending")}, 2 + 5),
        ({"states": ("leased", "delivered", "discarded")}, 0),
        ({"sinks": ("other",)}, 5),
        ({"sinks": ("other", "all")}, 2 + 5),
        ({"sinks": ("none",)}, 0),
        ({"evaluation_ids": (key(0), key(99))}, 2),
        ({"evaluation_ids": (key(0),), "sinks": ("other",)}, 1),
        ({"evaluation_ids": (key(0),), "states": ("dead",)}, 0),
        ({"ids": (10**12,)}, 0),
    ],
)
async def test_filters(database: Database, ids: dict[State, int], filter_: dict[str, Any], expected: int) -> None:
    """All that is given must hold; several values of one mean any of them; nothing given is all."""
    assert await would(database, "discard", **filter_) == expected
    assert await change(database, "discard", **filter_) == expected


async def test_counts(database: Database, ids: dict[State, int]) -> None:
    """How many there are, by sink and state."""
    expected = [Count("all", state, 1) for state in sorted(STATES)] + [Count("other", "pending", 5)]
    assert await database.read(outbox_desk.counts, DeliveryFilter()) == expected


async def test_pages(database: Database, ids: dict[State, int]) -> None:
    """Pages go from the newest on, and neither skip nor repeat."""
    found = []
    before = None
    while page := await database.read(outbox_desk.page, DeliveryFilter(), limit=3, before_id=before):
        found += [record.id for record in page]
        before = page[-1].id
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 10
    page = await database.read(outbox_desk.page, DeliveryFilter(sinks=("all",), states=("dead",)), limit=3)
    [record] = page
    assert record.model_dump() == {
        "id": ids["dead"],
        "evaluation_id": key(list(STATES).index("dead")),
        "sink": "all",
        "revision": 1,
        "replay_id": "",
        "state": "dead",
        "attempts": 1,
        "created_at": NOW,
        "due_at": None,
        "ended_at": NOW,
        "remote_id": "17-0",
        "last_error": "why",
    }


def test_closed() -> None:
    """An unknown state or word is refused."""
    for wrong in ({"states": ("lost",)}, {"colour": "red"}):
        with pytest.raises(ValidationError):
            DeliveryFilter.model_validate(wrong)


async def test_retry_while_it_is_sent(database: Database) -> None:
    """What is under way is not retried a second time; when it ends it is as it ended."""
    await released(database, 1)
    [claim] = await taken(database)
    assert await change(database, "retry") == 0
    await database.write(outbox.settle, [Settled(claim.id, claim.claim, "dead", ended_at=NOW + SECOND)])
    assert await change(database, "retry") == 1
