"""Threads of sinks: kept by subject, for a time, the newest where it is begun anew."""

from datetime import UTC, datetime, timedelta

from receiver.store import threads
from receiver.store.database import Database
from receiver.store.threads import Begun
from tests.sinks.messages import full_verdict
from tests.store.places import scalar

NOW = datetime(2026, 11, 18, 14, tzinfo=UTC)
DAY = timedelta(days=1)


async def found(database: Database, *subjects: str, sink: str = "slack", now: datetime = NOW) -> dict[str, str]:
    return await database.read(threads.of, sink, subjects, since=now - DAY)


async def begin(
    database: Database,
    threads_begun: dict[str, str],
    *,
    sink: str = "slack",
    now: datetime = NOW,
    ended: str | None = None,
) -> None:
    begun = {subject: Begun(thread, ended) for subject, thread in threads_begun.items()}
    await database.write(threads.begin, sink, begun, now=now, since=now - DAY)


async def test_a_thread_is_found_by_its_subject(database: Database) -> None:
    """And by no other, and not by another sink."""
    await begin(database, {"order-1": "C:1", "order-2": "C:2"})
    assert await found(database, "order-1", "order-2", "order-3") == {"order-1": "C:1", "order-2": "C:2"}
    assert await found(database, "order-1", sink="other") == {}


async def test_begun_anew_the_newest_is_it(database: Database) -> None:
    """Its first message was deleted, say."""
    await begin(database, {"order-1": "C:1"})
    await begin(database, {"order-1": "C:2"}, now=NOW + DAY / 2, ended="C:1")
    assert await found(database, "order-1", now=NOW + DAY * 1.4) == {"order-1": "C:2"}


async def test_of_two_that_were_begun_at_once_the_first_that_is_noted_stays(database: Database) -> None:
    """Also of two that were begun in place of the same one."""
    await begin(database, {"order-1": "C:1"})
    await begin(database, {"order-1": "C:2"})
    assert await found(database, "order-1") == {"order-1": "C:1"}
    await begin(database, {"order-1": "C:3"}, ended="C:1")
    await begin(database, {"order-1": "C:4"}, ended="C:1")
    assert await found(database, "order-1") == {"order-1": "C:3"}


async def test_it_ends_and_is_forgotten(database: Database) -> None:
    """Of the same sink, when another is begun."""
    await begin(database, {"order-1": "C:1"})
    await begin(database, {"order-1": "D:1"}, sink="other")
    later = NOW + DAY + timedelta(seconds=1)
    assert await found(database, "order-1", now=later) == {}
    await begin(database, {"order-2": "C:2"}, now=later)
    assert await database.read(scalar, "SELECT count(*) FROM threads") == 2


def test_the_subject_is_the_reference_or_the_evaluation() -> None:
    """As much of a reference as comparisons look at."""
    assert threads.subject_of(full_verdict(client_ref="x" * 300)) == "x" * 255
    assert threads.subject_of(full_verdict(client_ref=None)) == str(full_verdict().evaluation_id)
    assert threads.subject_of(full_verdict(client_ref="")) == str(full_verdict().evaluation_id)
