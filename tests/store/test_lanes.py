"""What all processes agree on: paused lanes, who drains a paced sink, who is alive."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import pytest

from receiver.store import fetches, lanes, outbox
from receiver.store.database import Database
from receiver.store.lanes import FETCH, LaneState, sink_lane
from receiver.store.tables import deliveries, processes
from receiver.store.tables import fetches as fetches_table
from receiver.store.tables import lanes as lanes_table
from tests.store.building import ALL, LEASE, NOW, SECOND, claimed, released, staged, taken
from tests.store.places import all_of, rows

MINUTE = timedelta(minutes=1)
GONE = timedelta(seconds=35)


async def pause(database: Database, *, until: datetime, now: datetime = NOW, reason: str = "401") -> bool:
    return await database.write(lanes.pause, FETCH, until=until, reason=reason, now=now)


async def beat(database: Database, process: str, now: datetime = NOW) -> int:
    return await database.write(lanes.beat, process, host="here", pid=7, now=now, gone_after=GONE)


async def test_never_paused(database: Database) -> None:
    """A lane of which nothing is known is not paused."""
    assert await database.read(lanes.state, FETCH) == LaneState(FETCH, None, 0, None)
    assert await database.read(lanes.troubled) == []
    assert await database.write(lanes.resume, FETCH) is False


async def test_pause_once(database: Database) -> None:
    """What fails during a pause belongs to it: it neither counts nor prolongs it. What fails afterwards counts on."""
    assert await pause(database, until=NOW + MINUTE, reason="first") is True
    assert await pause(database, until=NOW + 9 * MINUTE, now=NOW + MINUTE - SECOND, reason="second") is False
    assert await database.read(lanes.state, FETCH) == LaneState(FETCH, NOW + MINUTE, 1, "first")
    assert await pause(database, until=NOW + 3 * MINUTE, now=NOW + MINUTE, reason="third") is True
    assert await database.read(lanes.state, FETCH) == LaneState(FETCH, NOW + 3 * MINUTE, 2, "third")
    assert await database.read(lanes.troubled) == [LaneState(FETCH, NOW + 3 * MINUTE, 2, "third")]


async def test_pause_of_two_processes(database: Database, another: Callable[[], Awaitable[Database]]) -> None:
    """However many fail at once in two processes, one begins the pause."""
    both = [database, await another()]
    begun = await all_of([pause(both[n % 2], until=NOW + MINUTE) for n in range(20)])
    assert sum(begun) == 1
    assert (await database.read(lanes.state, FETCH)).failures == 1


async def test_resume(database: Database) -> None:
    """A lane that works again has no failures, and is told about once; other lanes stay as they are."""
    await pause(database, until=NOW + MINUTE)
    name = sink_lane("all")
    await database.write(lanes.pause, name, until=NOW + MINUTE, reason="refused", now=NOW)
    assert [await database.write(lanes.resume, FETCH) for _ in range(2)] == [True, False]
    assert await database.read(lanes.state, FETCH) == LaneState(FETCH, None, 0, None)
    assert await database.read(lanes.troubled) == [LaneState(name, NOW + MINUTE, 1, "refused")]
    assert await pause(database, until=NOW + MINUTE) is True


@pytest.mark.parametrize("name", [FETCH, None])
async def test_probe_now(database: Database, name: str | None) -> None:
    """Somebody who has mended it need not wait for the end of the pause: the next try is made at once, as a probe."""
    of_all = sink_lane("all")
    await pause(database, until=NOW + MINUTE)
    await database.write(lanes.pause, of_all, until=NOW + MINUTE, reason="refused", now=NOW)
    await database.write(lanes.probe_now, name, NOW + SECOND)
    assert await database.read(lanes.state, FETCH) == LaneState(FETCH, NOW + SECOND, 1, "401")
    other = NOW + (MINUTE if name else SECOND)
    assert await database.read(lanes.state, of_all) == LaneState(of_all, other, 1, "refused")
    await database.write(lanes.probe_now, None, NOW + 2 * MINUTE)  # a pause that is over stays so
    assert (await database.read(lanes.state, FETCH)).paused_until == NOW + SECOND


async def test_hold(database: Database) -> None:
    """A lane is held by one until its time is over; who holds it may prolong it."""

    async def hold(holder: str, now: datetime, until: datetime) -> bool:
        return await database.write(lanes.hold, "sink:a", holder, until=until, now=now)

    assert await hold("one", NOW, NOW + MINUTE) is True
    assert await hold("two", NOW + MINUTE - SECOND, NOW + 9 * MINUTE) is False
    assert await hold("one", NOW + SECOND, NOW + 2 * MINUTE) is True
    assert await hold("two", NOW + MINUTE, NOW + 9 * MINUTE) is False
    assert await hold("two", NOW + 2 * MINUTE, NOW + 9 * MINUTE) is True
    assert await hold("one", NOW + 2 * MINUTE, NOW + 9 * MINUTE) is False
    await pause(database, until=NOW + MINUTE)
    assert await database.read(rows, lanes_table, "name", "holder", "failures") == [
        ("fetch", None, 1),
        ("sink:a", "two", 0),
    ]


async def test_hold_of_two_processes(database: Database, another: Callable[[], Awaitable[Database]]) -> None:
    """However many want a lane at once, one gets it."""
    both = [database, await another()]
    calls = [both[n % 2].write(lanes.hold, "sink:a", f"p{n}", until=NOW + MINUTE, now=NOW) for n in range(20)]
    assert sum(await all_of(calls)) == 1


async def test_beat(database: Database) -> None:
    """Who beats is alive; who was not seen for long is forgotten; each is told how many there are."""
    assert await beat(database, "one") == 1
    assert await beat(database, "two", NOW + 30 * SECOND) == 2
    assert await beat(database, "two", NOW + GONE) == 2
    assert await beat(database, "two", NOW + GONE + SECOND) == 1
    assert await database.read(rows, processes, "id", "host", "pid", "started_at", "seen_at") == [
        ("two", "here", 7, NOW + 30 * SECOND, NOW + GONE + SECOND)
    ]
    assert await beat(database, "one", NOW + GONE + SECOND) == 2


async def test_beats_of_many(database: Database, another: Callable[[], Awaitable[Database]]) -> None:
    """Many that beat at once are all counted in the end."""
    both = [database, await another()]
    await all_of([beat(both[n % 2], f"p{n % 10}") for n in range(40)])
    assert await beat(database, "p0") == 10


async def test_leave(database: Database) -> None:
    """Who leaves is forgotten, and its lanes are free."""
    for process in ("one", "two"):
        await beat(database, process)
        await database.write(lanes.hold, f"sink:{process}", process, until=NOW + MINUTE, now=NOW)
    await database.write(lanes.leave, "one")
    assert await database.read(rows, processes, "id") == [("two",)]
    columns = ("name", "holder", "held_until")
    assert await database.read(rows, lanes_table, *columns) == [
        ("sink:one", None, None),
        ("sink:two", "two", NOW + MINUTE),
    ]


async def test_free_all_leases(database: Database) -> None:
    """A process that is alone makes all that the dead had leased due at once; pauses stay."""
    await released(database, 1, 2)
    await staged(database, 3, 4)
    [sent, _] = await taken(database, limit=2)
    await database.write(outbox.settle, [outbox.Settled(sent.id, sent.claim, "delivered", ended_at=NOW)])
    await claimed(database, limit=1)
    await beat(database, "dead")
    await database.write(lanes.hold, "sink:all", "dead", until=NOW + MINUTE, now=NOW)
    await pause(database, until=NOW + MINUTE)
    await database.write(lanes.free_all_leases, NOW)
    assert await database.read(rows, deliveries, "state", "due_at") == [("delivered", None), ("pending", NOW)]
    assert set(await database.read(rows, fetches_table, "leased", "due_at")) == {
        (False, None),
        (False, NOW),
    }
    assert await database.read(rows, processes, "id") == []
    assert await database.read(rows, lanes_table, "name", "holder", "failures") == [
        ("fetch", None, 1),
        ("sink:all", None, 0),
    ]
    assert len(await taken(database)) == 1
    assert len(await claimed(database)) == 2


async def test_probe(database: Database) -> None:
    """Whether anything can be written is tried by a write that nobody takes for a lane."""
    for n in range(3):
        await database.write(lanes.probe, NOW + n * SECOND)
    await database.probe()
    assert await database.read(lanes.troubled) == []
    taken_fetches = await database.write(fetches.take, [ALL], limit=1, lease=LEASE, now=NOW, idle=True)
    assert taken_fetches.probing is False
