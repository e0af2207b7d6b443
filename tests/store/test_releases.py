"""The order of what was released: no position is passed over, none comes twice, and filters say what they say elsewhere."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib import import_module
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Connection, delete

from receiver.core.matching import Filter
from receiver.core.verdict import Verdict
from receiver.store import fetches, releases, results
from receiver.store.database import Database
from receiver.store.releases import Page, Reach
from receiver.store.tables import releases as table
from receiver.store.tables import revisions, verdicts
from tests.store.building import ALL, HOLD, NOW, SECOND, claimed, fetched_again, key, released, staged, tree_of
from tests.store.history import mixed
from tests.store.places import ask, opened, rows, sql, until


async def start(database: Database) -> int:
    """The last position that was taken: a table that was emptied goes on counting."""
    return (await database.read(releases.reach)).taken


async def page(database: Database, after: int, limit: int = 1000, **options: Any) -> Page:
    """What is settled behind a position."""
    reach = await database.read(releases.reach)
    return await database.read(releases.page, after, upto=reach.settled, limit=limit, **options)


def ids(page: Page) -> list[tuple[int, int]]:
    """Number of the evaluation and revision, of each entry."""
    read = [Verdict.model_validate_json(entry.document) for entry in page.entries]
    return [(verdict.evaluation_id.int - key(0).int, verdict.revision) for verdict in read]


async def test_each_revision_once(database: Database) -> None:
    """Each released revision has one position, in the order of their releases, and keeps its own content."""
    began = await start(database)
    await released(database, 1, 2)
    await fetched_again(database, 1)  # nothing new
    await fetched_again(database, 1, overall_passed=True)
    await staged(database, 3)  # pending: not released
    found = await page(database, began)
    assert sorted(ids(found)[:2]) == [(1, 1), (2, 1)]
    assert ids(found)[2:] == [(1, 2)]
    passed = {
        (each.evaluation_id.int - key(0).int, each.revision): each.overall_passed for each in map(_read, found.entries)
    }
    assert passed == {(1, 1): False, (2, 1): False, (1, 2): True}
    assert found.end == found.entries[-1].position == await start(database)


def _read(entry: releases.Entry) -> Verdict:
    return Verdict.model_validate_json(entry.document)


async def test_everything_that_happens(database: Database) -> None:
    """After a history of all kinds there is one position for each revision that is stored, and no other."""
    began = await start(database)
    await mixed(database)
    stored = await database.read(rows, revisions, "evaluation_id", "revision")
    stored += [each for each in await database.read(rows, verdicts, "evaluation_id", "revision") if each[1] > 0]
    found = [(each.evaluation_id, each.revision) for each in map(_read, (await page(database, began)).entries)]
    assert sorted(found) == sorted(stored)


async def test_what_was_there_before(database: Database) -> None:
    """The migration gives each revision that is stored a position, in the order in which they were released."""
    await mixed(database)
    before = await database.read(rows, table, "evaluation_id", "revision", "released_at")
    await database.write(sql, "UPDATE verdicts SET released_at = NULL WHERE revision = 2")  # as versions before left it
    began = await start(database)

    def again(conn: Connection) -> None:
        conn.execute(delete(table))
        conn.exec_driver_sql(import_module("receiver.store.migrations.versions.0007_releases")._ALL_RELEASED)

    await database.write(again)
    found = await database.read(rows, table, "position", "evaluation_id", "revision", "released_at")
    assert sorted((key, revision) for _, key, revision, _ in found) == [each[:2] for each in before]
    assert [each[3] for each in found] == sorted(each[3] for each in found)
    assert len((await page(database, began)).entries) == len(before)


async def test_pages(database: Database) -> None:
    """Pages of any size give the same, each from where the last one ended."""
    began = await start(database)
    await released(database, *range(1, 8))
    whole = (await page(database, began)).entries
    for limit in (1, 2, 3, 7, 8):
        after, read = began, []
        while more := (found := await page(database, after, limit)).entries:
            read += more
            after = found.end
        assert read == whole
    assert await page(database, whole[-1].position) == Page([], whole[-1].position)


async def test_few_that_match(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that finds little ends, so that no question takes long, and the next one goes on behind it."""
    monkeypatch.setattr(releases, "SPAN", 3)
    began = await start(database)
    await released(database, *range(1, 8))
    await released(database, 8, client_ref="this")
    after = began
    pages: list[Page] = []
    while not pages or pages[-1].end < await start(database):
        pages.append(await page(database, after, filter_=Filter(client_ref=("this",))))
        after = pages[-1].end
    assert [len(each.entries) for each in pages] == [0, 0, 1]


async def test_a_filter_looks_at_the_revision(database: Database) -> None:
    """An earlier revision matches by what it said, not by what was found since."""
    began = await start(database)
    await released(database, 1, overall_passed=False)
    await fetched_again(database, 1, overall_passed=True)
    await released(database, 2, overall_passed=True)
    assert ids(await page(database, began, filter_=Filter(overall_passed=("false",)))) == [(1, 1)]
    assert ids(await page(database, began, filter_=Filter(overall_passed=("true",)))) == [(1, 2), (2, 1)]


async def test_what_was_deleted(database: Database) -> None:
    """A revision that is not there any more is passed over; a later one does not come in its place."""
    began = await start(database)
    await released(database, 1, 2, 3)
    await fetched_again(database, 1, overall_passed=True)

    def forget(conn: Connection) -> None:
        conn.execute(delete(revisions))
        conn.execute(delete(verdicts).where(verdicts.c.evaluation_id == key(2)))

    await database.write(forget)
    assert ids(await page(database, began)) == [(3, 1), (1, 2)]
    assert ids(await page(database, began, filter_=Filter(task_type=("headshot",)))) == [(3, 1), (1, 2)]


async def test_a_position_is_not_given_twice(database: Database) -> None:
    """Even where the newest are deleted, later ones come after them: a cursor stays what it was."""
    await released(database, 1)
    last = await start(database)
    await database.write(lambda conn: conn.execute(delete(table)).close())
    assert await start(database) == last
    await released(database, 2)
    assert (await page(database, last)).entries[0].position > last


async def test_undone(database: Database) -> None:
    """A transaction that is undone leaves no position behind that anybody would wait for."""
    await staged(database, 1)
    [fetch] = (await claimed(database)).values()

    def fail(conn: Connection) -> None:
        results.release(conn, [tree_of(fetch.known)], [ALL], NOW)
        raise RuntimeError("undone")

    with pytest.raises(RuntimeError):
        await database.write(fail)
    reach = await database.read(releases.reach)
    assert reach.settled == reach.taken
    await database.write(fetches.release_held, [ALL], limit=1, now=NOW + HOLD)
    assert ids(await page(database, reach.taken)) == [(1, 1)]


async def test_since_a_time(database: Database) -> None:
    """The first that was released at a time or later, though clocks may disagree with positions by a little."""
    began = await start(database)
    for number, seconds in enumerate((0, 10, 12, 11, 20), 1):
        await released(database, number, now=NOW + timedelta(seconds=seconds))
    positions = [entry.position for entry in (await page(database, began)).entries]
    for seconds, index in ((-5, 0), (0, 0), (1, 1), (10, 1), (11, 2), (12, 2), (13, 4), (20, 4)):
        assert await database.read(releases.before, NOW + seconds * SECOND) == positions[index] - 1, seconds
    assert await database.read(releases.before, NOW + 21 * SECOND) is None


async def test_in_the_order_of_commits(
    on_postgres: Database, another_on_postgres: Database, postgres_place: str
) -> None:
    """Nobody reads past a position whose transaction is under way: it may be committed in the end."""
    began = await start(on_postgres)
    await staged(on_postgres, 1, 2, 3)
    known = {key_: fetch.known for key_, fetch in (await claimed(on_postgres)).items()}

    def release(conn: Connection, number: int) -> None:
        results.release(conn, [tree_of(known[key(number)])], [ALL], NOW)

    def release_in_the_end(conn: Connection, number: int) -> None:
        release(conn, number)
        conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({GATE})").close()

    async with gate(postgres_place) as opens:
        late = asyncio.create_task(on_postgres.write(release_in_the_end, 1))
        await until(lambda: _waits_at_the_gate(postgres_place))
        await another_on_postgres.write(release, 2)
        reach = await on_postgres.read(releases.reach)
        assert reach == Reach(settled=began, taken=began + 2)
        assert await page(on_postgres, began) == Page([], began)
        await opens()
        await late
    assert ids(await page(on_postgres, began)) == [(1, 1), (2, 1)]
    await another_on_postgres.write(release, 3)
    assert ids(await page(on_postgres, began)) == [(1, 1), (2, 1), (3, 1)]


async def test_others_transactions(on_postgres: Database, postgres_place: str) -> None:
    """Whatever else is under way on that server, and whatever others lock, holds up no reader."""
    began = await start(on_postgres)
    conn = await asyncpg.connect(postgres_place)
    try:
        async with conn.transaction():
            await conn.execute("SELECT pg_advisory_xact_lock(3), pg_advisory_xact_lock(1, 2)")
            await conn.execute("INSERT INTO lanes (name, failures) VALUES ('probe', 0)")
            await released(on_postgres, 1)
            assert ids(await page(on_postgres, began)) == [(1, 1)]
    finally:
        await conn.close()


GATE = 77


@asynccontextmanager
async def gate(url: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Holds a lock that a transaction of the test waits for, until what it gives is called."""
    conn = await asyncpg.connect(url)

    async def opens() -> None:
        await conn.execute(f"SELECT pg_advisory_unlock({GATE})")

    try:
        await conn.execute(f"SELECT pg_advisory_lock({GATE})")
        yield opens
    finally:
        await conn.close()


async def _waits_at_the_gate(url: str) -> bool:
    return bool(await ask(url, "SELECT 1 FROM pg_locks WHERE objid = $1 AND NOT granted", GATE))


async def test_many_writers(place: str) -> None:
    """A reader that goes on from where it is, while three processes release, sees each once."""
    async with opened(place) as one, opened(place) as two, opened(place) as three, opened(place) as reader:
        began = await start(reader)
        for number in range(60):
            await staged(one, number)
        known = {key_: each.known for key_, each in (await claimed(one)).items()}

        def release(conn: Connection, number: int) -> None:
            results.release(conn, [tree_of(known[key(number)])], [ALL], NOW)

        async def write(database: Database, numbers: Iterable[int]) -> None:
            for number in numbers:
                await database.write(release, number)

        writing = asyncio.gather(*(write(each, range(n, 60, 3)) for n, each in enumerate((one, two, three))))
        after = began
        seen: list[tuple[int, int]] = []
        while len(seen) < 60:
            is_over = writing.done()
            found = await page(reader, after, 5)
            assert found.end >= after
            after, seen = found.end, seen + ids(found)
            assert found.entries or not is_over, "nothing comes, and not all came"
        await writing
    assert sorted(seen) == [(number, 1) for number in range(60)]
