"""The books: they add up over any history, and whatever is missing is seen."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from receiver.core.routing import Route
from receiver.store import audit, lanes, outbox
from receiver.store.audit import Books, SinkBooks
from receiver.store.database import Database
from receiver.store.outbox import Settled
from receiver.store.tables import deliveries
from tests.store.building import ALL, NOW, fetched_again, key, released, staged, taken
from tests.store.history import ROUTES, SINKS, mixed
from tests.store.places import rows, sql

NEITHER = "its event is stored, but neither a verdict nor a fetch"
NEVER_DUE = """
    INSERT INTO deliveries (evaluation_id, sink, revision, replay_id, state, claim, attempts, created_at, started_at)
    SELECT evaluation_id, 'all', 7, '', 'delivered', 1, 1, received_at, received_at FROM verdicts WHERE revision = 3
"""


async def books(database: Database, sinks: Sequence[str] = SINKS) -> Books:
    return await database.read(audit.audit, sinks)


async def test_empty(database: Database) -> None:
    """Of nothing everything is accounted for."""
    found = await books(database)
    assert found == Books(0, 0, 0, 0, 0, [], [], 0)
    assert found.adds_up


async def test_adds_up(database: Database) -> None:
    """A mixed history adds up: events of evaluations, verdicts and what waits; what was due to each sink and its states."""
    await mixed(database)
    found = await books(database)
    assert found.adds_up
    assert (found.events, found.evaluations, found.verdicts, found.waiting, found.quarantined) == (14, 12, 8, 4, 1)
    assert found.unaccounted == 0
    [dead] = [number for number, state in await database.read(rows, deliveries, "id", "state") if state == "dead"]
    assert found.exceptions == [f"sink all: 1 dead letters, deliveries {dead}"]
    by_sink = {sink.sink: sink for sink in found.sinks}
    # Seven evaluations went to `all`, one of them in three revisions, one in two, and one more delivery is a replay.
    states = {"delivered": 2, "dead": 1, "discarded": 1, "leased": 1, "pending": 6}
    assert by_sink["all"] == SinkBooks("all", 7 + 2 + 1 + 1, states)
    assert by_sink["file"].due == 7 + 2 + 1 + 1  # the sample, no replay
    assert (
        by_sink["bad"].due == 5 + 2 + 1
    )  # the given-up and the held one had no verdict that was bad until its tree came
    assert all(sink.adds_up for sink in found.sinks)


HARMS: list[tuple[str, str | None]] = [
    (
        "DELETE FROM deliveries WHERE sink = 'all' AND revision = 2",
        "revision 2 was due to sink all, and there is no delivery",
    ),
    ("DELETE FROM deliveries WHERE state = 'delivered'", "revision 1 was due to sink all, and there is no delivery"),
    ("DELETE FROM deliveries WHERE state = 'dead'", "revision 1 was due to sink all, and there is no delivery"),
    ("DELETE FROM fetches WHERE due_at IS NOT NULL AND leased", NEITHER),
    ("DELETE FROM fetches WHERE due_at IS NOT NULL AND NOT leased", NEITHER),
    ("UPDATE fetches SET due_at = NULL, hold_until = NULL", NEITHER),
    ("DELETE FROM verdicts WHERE revision = 3", NEITHER),
    ("DELETE FROM verdicts WHERE revision = 0", NEITHER),
    ("UPDATE verdicts SET revision = 0 WHERE revision = 3", NEITHER),
    ("UPDATE events SET waiting = NOT waiting WHERE waiting", NEITHER),
    ("DELETE FROM events WHERE origin = 'sample'", "its verdict is stored, but no event"),
    ("DELETE FROM revisions WHERE revision = 2", None),
    ("DELETE FROM deliveries WHERE replay_id = '' AND revision = 3 AND sink = 'bad'", "revision 3 was due to sink bad"),
    ("UPDATE deliveries SET state = 'lost' WHERE state = 'delivered'", None),
    ("UPDATE deliveries SET sink = 'elsewhere' WHERE state = 'delivered'", "revision 1 was due to sink all"),
    (NEVER_DUE, None),
]


def harmed(conn: Connection, harm: str) -> Books:
    """The books after a harm, which is undone."""
    savepoint = conn.begin_nested()
    assert sql(conn, harm) > 0, harm
    found = audit.audit(conn, SINKS)
    savepoint.rollback()
    return found


async def test_each_harm_is_seen(database: Database) -> None:
    """A row that is gone, or was never due, makes the books not add up; where it can be, it is named."""
    await mixed(database)
    for harm, told in HARMS:
        found = await database.write(harmed, harm)
        assert not found.adds_up, harm
        if told is not None:
            assert found.unaccounted > 0, harm
            assert any(told in line for line in found.exceptions), (harm, found.exceptions)
    assert (await books(database)).adds_up


async def test_one_for_another(database: Database) -> None:
    """What is missing in one place is not made up for by what is too much in another."""
    await staged(database, 4)
    await database.write(sql, "DELETE FROM fetches")  # 4 is lost
    await released(database, 5, routes=[])
    await database.write(
        sql,
        "DELETE FROM events WHERE NOT EXISTS (SELECT 1 FROM verdicts AS v"
        " WHERE v.evaluation_id = events.evaluation_id AND v.revision = 0)",
    )  # 5 is too much
    found = await books(database)
    assert not found.adds_up
    assert found.exceptions == [
        f"evaluation {key(4)}: {NEITHER}",
        f"evaluation {key(5)}: its verdict is stored, but no event",
    ]


async def test_sink_taken_away(database: Database) -> None:
    """What waits for a sink that is not configured any more is accounted for, and is an exception; what has ended is none."""
    await released(database, 1, 2, 3, routes=[ALL, Route("gone"), Route("ended")])
    for claim in await taken(database, "ended"):
        await database.write(outbox.settle, [Settled(claim.id, claim.claim, "delivered", ended_at=NOW)])
    await taken(database, "gone", limit=1)
    found = await books(database, ["all"])
    assert found.adds_up
    assert found.exceptions == ["sink gone: is not configured any more, 3 deliveries wait for it"]


async def test_dead_letters(database: Database) -> None:
    """Dead letters are named by their numbers, the first of them where there are many."""
    await released(database, *range(audit.MOST_NAMED + 1))
    claims = await taken(database)
    for dead in (claims[:2], claims[2:]):
        await database.write(outbox.settle, [Settled(it.id, it.claim, "dead", ended_at=NOW) for it in dead])
        [line] = (await books(database)).exceptions
        many = len(dead) if dead == claims[:2] else len(claims)
        assert line.startswith(f"sink all: {many} dead letters, deliveries {claims[0].id}, {claims[1].id}")
    assert line.endswith(f", {claims[-2].id} …")


async def test_paused_lanes(database: Database) -> None:
    """A paused lane is an exception with its reason until it has resumed, or its sink is not configured any more."""
    await released(database, 1)
    of_all = lanes.sink_lane("all")
    for name, reason in ((lanes.FETCH, "key_refused: 401"), (of_all, "refused: 403"), (lanes.sink_lane("gone"), "404")):
        await database.write(lanes.pause, name, until=NOW + timedelta(minutes=1), reason=reason, now=NOW)
    found = await books(database)
    assert found.adds_up
    assert found.exceptions == ["fetch: paused, key_refused: 401", "sink all: paused, refused: 403"]
    await database.write(lanes.resume, lanes.FETCH)
    assert (await books(database)).exceptions == ["sink all: paused, refused: 403"]


async def test_in_pages(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account is the same whatever the size of the pages it is read in, also with many revisions of one evaluation."""
    await mixed(database)
    for n in range(5):
        await fetched_again(database, 4, routes=ROUTES, top_issues=[str(n)])
    await database.write(sql, "DELETE FROM deliveries WHERE revision IN (2, 4) AND sink = 'file'")
    expected = await books(database)
    assert expected.unaccounted == 4
    for size in (1, 2, 3, 100):
        monkeypatch.setattr(audit, "PAGE", size)
        assert await books(database) == expected, size


async def test_no_more_than_a_page(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, no more than a page of verdicts is in memory at once."""
    await released(database, *range(50), routes=ROUTES)
    sizes = []
    chunks = audit._chunks

    def noted(items: Iterator[Any]) -> Iterator[list[Any]]:
        for chunk in chunks(items):
            sizes.append(len(chunk))
            yield chunk

    monkeypatch.setattr(audit, "PAGE", 7)
    monkeypatch.setattr(audit, "_chunks", noted)
    assert (await books(database)).adds_up
    assert max(sizes) == 7
    assert sum(sizes) == 50
