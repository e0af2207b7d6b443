"""All verdicts in chunks: each once whatever happens meanwhile, chunks that stay small, and a reading that can be cut off."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from sqlalchemy import Connection, text

from receiver.core.matching import Filter
from receiver.core.verdict import Verdict
from receiver.store import export, results
from receiver.store.database import Database
from receiver.store.export import Chunk, Span
from receiver.store.reading import Position
from receiver.store.tables import verdicts
from tests.store.building import NOW, SECOND, key
from tests.store.places import LONG, put, sql, until

EVERYTHING = Filter()
ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def verdict(number: int, minute: int | None = None, **fields: Any) -> Verdict:
    at = NOW + (number if minute is None else minute) * SECOND
    return Verdict(evaluation_id=key(number), event="evaluation.completed", received_at=at, tree="complete", **fields)


async def put_verdicts(database: Database, *found: Verdict) -> None:
    rows = [results.row_of(each) | {"due_to": "[]", "tree_updated_at": None} for each in found]
    await database.write(put, verdicts, *rows)


async def chunks(
    database: Database, filter_: Filter = EVERYTHING, after: Position | None = None
) -> AsyncIterator[Chunk]:
    span = await database.read(export.span)
    assert span is not None
    async with aclosing(export.chunks(database, filter_, until=span.last, after=after)) as found:
        async for chunk in found:
            yield chunk


def numbers(chunk: Chunk) -> list[int]:
    return [Verdict.model_validate_json(each).evaluation_id.int - key(0).int for each in chunk.documents]


async def test_nothing(database: Database) -> None:
    """Where nothing is stored there is no span."""
    assert await database.read(export.span) is None
    assert await database.read(export.position_of, key(1)) is None


async def test_oldest_first(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, in the order of arrival, and of the id among those that came at the same time; as the stored bytes."""
    monkeypatch.setattr(export, "CHUNK_CHARACTERS", 1500)
    luck = random.Random(1)
    found = [verdict(n, luck.randrange(9), client_ref="é" * luck.randrange(200)) for n in range(100)]
    await put_verdicts(database, *luck.sample(found, 100))
    got = [document async for chunk in chunks(database) for document in chunk.documents]
    found.sort(key=lambda each: (each.received_at, each.evaluation_id))
    assert got == [each.model_dump_json() for each in found]
    ends = Span(*(Position(each.received_at, each.evaluation_id) for each in (found[0], found[-1])))
    assert await database.read(export.span) == ends
    assert await database.read(export.position_of, found[-1].evaluation_id) == ends.last


async def test_chunks_are_small(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are counted and bytes too, and a long document is in a chunk that ends with it."""
    monkeypatch.setattr(export, "CHUNK_CHARACTERS", 20_000)
    monkeypatch.setattr(export, "CHUNK_ROWS", 10)
    long = {7, 8, 20}
    await put_verdicts(database, *(verdict(n, generation_prompt="x" * (30_000 if n in long else 1)) for n in range(40)))
    found = [numbers(chunk) async for chunk in chunks(database)]
    assert found == [list(range(8)), [8], [9, 10], [11, 12, 13, 14], [15, 16, 17, 18, 19, 20],
                     list(range(21, 31)), list(range(31, 40))]  # fmt: skip


async def test_what_was_there_comes_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever arrives, changes or goes meanwhile. What arrived later does not come."""
    monkeypatch.setattr(export, "CHUNK_ROWS", 5)
    monkeypatch.setattr(export, "_FIRST_ROWS", 5)
    await put_verdicts(database, *(verdict(n) for n in range(0, 100, 2)))
    got, turn = [], 0
    async for chunk in chunks(database):
        got += numbers(chunk)
        turn += 1
        await put_verdicts(database, verdict(1000 + turn), verdict(2000 + turn, 0))
        await database.write(sql, "UPDATE verdicts SET revision = revision + 1, status = 'failed'")
        await database.write(lambda conn: conn.execute(verdicts.delete().where(verdicts.c.evaluation_id == key(98))))
    assert got == list(range(0, 98, 2))


async def test_filters(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the filter lets through; what it does not is looked at in steps, too, and the end is told all the same."""
    monkeypatch.setattr(export, "CHUNK_ROWS", 10)
    monkeypatch.setattr(export, "_FIRST_ROWS", 10)
    await put_verdicts(database, *(verdict(n, status="failed" if n in (3, 25) else "completed") for n in range(30)))
    found = [chunk async for chunk in chunks(database, Filter(status=("failed",)))]
    assert [numbers(chunk) for chunk in found] == [[3], [], [25]]
    assert [chunk.looked_at for chunk in found] == [10, 10, 10]
    assert [chunk.end.evaluation_id for chunk in found] == [key(9), key(19), key(29)]


async def test_after(database: Database) -> None:
    """It goes on behind any position, also one whose verdict is gone."""
    await put_verdicts(database, *(verdict(n) for n in range(10)))
    position = Position(NOW + 6 * SECOND, key(6))
    await database.write(lambda conn: conn.execute(verdicts.delete().where(verdicts.c.evaluation_id == key(6))))
    assert [numbers(chunk) async for chunk in chunks(database, after=position)] == [[7, 8, 9]]


async def test_left_early(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stops after the first chunk leaves nothing that runs."""
    monkeypatch.setattr(export, "_FIRST_ROWS", 1)
    await put_verdicts(database, *(verdict(n) for n in range(10)))
    before = asyncio.all_tasks()

    async def nothing_runs() -> bool:
        return not asyncio.all_tasks() - before

    async for chunk in chunks(database):
        assert numbers(chunk) == [0]
        break
    await until(nothing_runs)


async def test_a_read_can_be_cut_off(database: Database) -> None:
    """A query without an end is over when its caller is cancelled: as many as there are connections hinder nobody."""

    def endless(conn: Connection, has_begun: asyncio.Event) -> None:
        loop.call_soon_threadsafe(has_begun.set)
        conn.execute(text(ENDLESS)).close()

    loop = asyncio.get_running_loop()
    for _ in range(2):
        begun = [asyncio.Event() for _ in range(8)]
        tasks = [asyncio.create_task(database.read(endless, each)) for each in begun]
        async with asyncio.timeout(LONG):
            await asyncio.gather(*(each.wait() for each in begun[:4]))
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(each) for each in ended} == {asyncio.CancelledError}
            assert await asyncio.gather(*(database.read(export.span) for _ in range(8))) == [None] * 8
