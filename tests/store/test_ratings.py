"""Ratings: the newest click of each person counts, repeats do nothing, leases and fences as for all work."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from receiver.core.rating import Click, Rating
from receiver.store import ratings
from receiver.store.database import Database

NOW = datetime(2026, 11, 18, 14, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LEASE = timedelta(minutes=3)
KEY = UUID(int=7)


def click(person: str = "U1", is_positive: bool | None = True, after: float = 0, **changes: Any) -> Click:
    at = NOW + timedelta(seconds=after)
    return Click(KEY, 1, person, is_positive, at, "slack", "C:1")._replace(**changes)


async def rate(database: Database, *clicks: Click) -> list[bool]:
    return [await database.write(ratings.rate, each, NOW) for each in clicks]


async def take(database: Database, now: datetime = NOW, limit: int = 10) -> list[ratings.DueRating]:
    return (await database.write(ratings.take, limit=limit, lease=LEASE, now=now)).due


async def said(database: Database) -> list[Rating]:
    return list(await database.read(ratings.of, KEY))


async def test_a_repeat_does_nothing(database: Database) -> None:
    """The same click again, or an older one that comes late."""
    assert await rate(database, click(after=2), click(after=2), click(after=1, is_positive=False)) == [
        True,
        False,
        False,
    ]
    assert await said(database) == [Rating("U1", True)]


async def test_changing_ones_mind_counts(database: Database) -> None:
    """The newest of each person; the newest of all stands last; one that was taken back is not said."""
    await rate(database, click("U1", True, 1), click("U2", True, 2), click("U1", False, 3), click("U2", None, 4))
    assert await said(database) == [Rating("U1", False)]
    await rate(database, click("U2", True, 5))
    assert await said(database) == [Rating("U1", False), Rating("U2", True)]


async def test_what_is_due_is_leased_and_fenced(database: Database) -> None:
    """Nobody else has it until the lease ends; whoever lost it, or was overtaken by a click, writes nothing."""
    await rate(database, click())
    [first] = await take(database)
    assert (first.person, first.is_positive, first.attempts) == ("U1", True, 1)
    assert await take(database, NOW + LEASE - SECOND) == []
    [second] = await take(database, NOW + LEASE)
    assert second.attempts == 2
    assert not await database.write(ratings.settle, first, "told")
    await rate(database, click(after=1, is_positive=False))
    assert not await database.write(ratings.settle, second, "told")
    [third] = await take(database)
    assert (third.is_positive, third.attempts) == (False, 1)
    assert await database.write(ratings.settle, third, "told")
    assert await database.read(ratings.next_due) is None
    assert await said(database) == [Rating("U1", False)]


async def test_what_was_refused_is_not_said(database: Database) -> None:
    """And comes back with the next click."""
    await rate(database, click())
    [due] = await take(database)
    await database.write(ratings.settle, due, "refused", error="no")
    assert await said(database) == []
    await rate(database, click(after=1))
    assert await said(database) == [Rating("U1", True)]


async def test_later_is_later(database: Database) -> None:
    """One that failed is due at its time, and is said meanwhile."""
    await rate(database, click())
    [due] = await take(database)
    await database.write(ratings.settle, due, "due", due_at=NOW + 9 * SECOND, error="busy")
    assert await database.read(ratings.next_due) == NOW + 9 * SECOND
    assert await take(database, NOW + 8 * SECOND) == []
    assert await said(database) == [Rating("U1", True)]
    assert len(await take(database, NOW + 9 * SECOND)) == 1


async def test_a_few_at_a_time_and_one_process_each(database: Database) -> None:
    """The longest due first."""
    await rate(database, *(click(f"U{number}", after=number) for number in range(5)))
    taken = await database.write(ratings.take, limit=3, lease=LEASE, now=NOW)
    assert (len(taken.due), taken.next_moment) == (3, NOW)
    assert len(await take(database)) == 2
    assert await take(database) == []
