"""The outbox as people see it: lists, counts, retry and discard by every filter."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from receiver.core.routing import Route
from receiver.store import outbox, outbox_desk
from receiver.store.database import Database
from receiver.store.outbox import STATES, Settled, State
from receiver.store.outbox_desk import DISCARDABLE, RETRYABLE, Count, DeliveryFilter
from receiver.store.tables import deliveries
from tests.store.building import ALL, NOW, SECOND, key, released, taken
from tests.store.places import rows

LATER = NOW + timedelta(hours=1)
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
    return await database.write(act, DeliveryFilter(**filter_), LATER)


async def states(database: Database, sink: str = "all") -> dict[int, str]:
    return {it: state for it, of, state in await database.read(rows, deliveries, "id", "sink", "state") if of == sink}


@pytest.mark.parametrize(
    ("verb", "movable", "to"), [("retry", RETRYABLE, "pending"), ("discard", DISCARDABLE, "discarded")]
)
async def test_moves(database: Database, ids: dict[State, int], verb: str, movable: list[State], to: State) -> None:
    """Only what waits or has failed can be moved: what is under way or delivered stays as it is."""
    assert not {"leased", "delivered"} & set(movable)
    assert await change(database, verb, sinks=("all",)) == len(movable)
    assert await states(database) == {ids[state]: to if state in movable else state for state in STATES}
    assert set((await states(database, "other")).values()) == {"pending"}


@pytest.mark.parametrize("state", RETRYABLE)
async def test_retry_begins_anew(database: Database, ids: dict[State, int], state: State) -> None:
    """What is retried is due now, with all its attempts and all its time before it, and is really sent."""
    assert await change(database, "retry", ids=(ids[state],)) == 1
    columns = ("id", "due_at", "attempts", "started_at", "ended_at", "created_at")
    assert [row for row in await database.read(rows, deliveries, *columns) if row[0] == ids[state]] == [
        (ids[state], LATER, 0, LATER, None, NOW)
    ]
    found = {each.id: each for each in await taken(database, now=LATER)}
    assert (found[ids[state]].attempts, found[ids[state]].started_at) == (1, LATER)


@pytest.mark.parametrize("state", DISCARDABLE)
async def test_discard_is_for_good(database: Database, ids: dict[State, int], state: State) -> None:
    """What is discarded is never claimed, and says when it ended."""
    assert await change(database, "discard", ids=(ids[state],)) == 1
    columns = ("id", "state", "due_at", "ended_at")
    assert (ids[state], "discarded", None, LATER) in await database.read(rows, deliveries, *columns)
    assert ids[state] not in {each.id for each in await taken(database, now=LATER + timedelta(days=9))}


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
    counts = await database.read(outbox_desk.counts, DeliveryFilter(**filter_))
    assert sum(each.deliveries for each in counts if each.state in DISCARDABLE) == expected
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
