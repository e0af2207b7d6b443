"""Pages of stored verdicts that neither skip nor repeat, one verdict, and what Runflow embedded."""

import random
from datetime import datetime
from typing import Any

import pytest

from receiver.core.matching import Filter
from receiver.core.verdict import Verdict
from receiver.store import reading, results
from receiver.store.database import Database
from receiver.store.reading import Page, Position, Sort
from receiver.store.tables import verdicts
from tests.store.building import NOW, SECOND, claimed, key, released, staged, tree_of
from tests.store.places import put

EVERYTHING = Filter()


async def put_verdicts(database: Database, *found: Verdict) -> None:
    await database.write(
        put, verdicts, *(results.row_of(each) | {"due_to": "[]", "tree_updated_at": None} for each in found)
    )


def verdict(number: int, received: datetime = NOW, completed: datetime | None = None, **more: Any) -> Verdict:
    return Verdict(
        evaluation_id=key(number), event="evaluation.completed", received_at=received, completed_at=completed,
        tree="pending", **more,
    )  # fmt: skip


async def pages(
    database: Database, *, limit: int, sort: Sort = "received_at", filter_: Filter = EVERYTHING
) -> list[Verdict]:
    """All pages, one after the other."""
    items: list[Verdict] = []
    after: Position | None = None
    while True:
        page = await database.read(reading.page, filter_, limit=limit, sort=sort, after=after)
        assert len(page.items) <= limit
        items += page.items
        if page.end is None:
            return items
        assert len(page.items) == limit
        after = page.end


async def test_empty(database: Database) -> None:
    """Where there is nothing there is one page without items and without an end."""
    assert await database.read(reading.page, EVERYTHING, limit=5) == Page([], None)


@pytest.mark.parametrize("limit", [1, 2, 7, 59, 60, 61])
@pytest.mark.parametrize("sort", ["received_at", "completed_at"])
async def test_neither_skips_nor_repeats(database: Database, limit: int, sort: Sort) -> None:
    """Whatever the size of the pages, and however many have the same time, each verdict is there once, newest first."""
    luck = random.Random(1)
    times = [NOW + luck.randrange(5) * SECOND for _ in range(60)]
    found = [verdict(n, **{"received" if sort == "received_at" else "completed": at}) for n, at in enumerate(times)]
    await put_verdicts(database, *luck.sample(found, 60))
    items = await pages(database, limit=limit, sort=sort)
    assert items == sorted(found, key=lambda each: (getattr(each, sort), each.evaluation_id), reverse=True)


async def test_arrivals_meanwhile(database: Database) -> None:
    """What arrives between two pages does not move what follows."""
    await put_verdicts(database, *(verdict(n, NOW + n * SECOND) for n in range(6)))
    first = await database.read(reading.page, EVERYTHING, limit=3)
    await put_verdicts(database, verdict(99, NOW + 99 * SECOND), verdict(98, NOW + 5 * SECOND))
    second = await database.read(reading.page, EVERYTHING, limit=3, after=first.end)
    assert [each.evaluation_id for each in (*first.items, *second.items)] == [key(n) for n in (5, 4, 3, 2, 1, 0)]


async def test_without_a_time(database: Database) -> None:
    """Sorted by when they were completed, those without that time are left out, and only then."""
    await put_verdicts(database, verdict(1, completed=NOW), verdict(2), verdict(3, completed=NOW + SECOND))
    by_completion = await pages(database, limit=1, sort="completed_at")
    assert [each.evaluation_id for each in by_completion] == [key(3), key(1)]
    assert len(await pages(database, limit=1)) == 3


async def test_filtered_pages(database: Database) -> None:
    """Pages of what a filter lets through are as full as pages of everything."""
    await put_verdicts(database, *(verdict(n, NOW + n * SECOND, overall_passed=n % 3 == 0) for n in range(30)))
    items = await pages(database, limit=4, filter_=Filter(overall_passed=("true",)))
    assert [each.evaluation_id for each in items] == [key(n) for n in range(27, -1, -3)]


@pytest.mark.parametrize("few", [0, 3, 1000])
async def test_rare_and_common(database: Database, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """Pages are the same whether what is looked for is taken for rare, and sorted, or for common, and walked to."""
    monkeypatch.setattr(reading, "FEW", few)
    luck = random.Random(3)
    found = [
        verdict(
            n, NOW + luck.randrange(9) * SECOND, NOW - n * SECOND, client_ref=f"{n % 3}/{n}", task_type=f"task-{n % 2}"
        )
        for n in range(30)
    ]
    await put_verdicts(database, *found)
    filter_ = Filter(client_ref_prefix=("1/", "2/"), task_type=("task-1",))
    for sort in ("received_at", "completed_at"):
        wanted = [each for each in found if filter_.matches(each)]
        items = await pages(database, limit=4, sort=sort, filter_=filter_)
        assert items == sorted(wanted, key=lambda each: (getattr(each, sort), each.evaluation_id), reverse=True)
        assert len(items) == 10


async def test_moments_are_exact(database: Database) -> None:
    """A position is exact to the microsecond, also for the first and the last times there are."""
    written = (
        "0001-01-01T00:00:00Z",
        "0999-12-31T23:59:59.999999Z",
        "1970-01-01T00:00:00Z",
        "2026-11-18T14:00:00.000001Z",
        "2026-11-18T14:00:00.000010Z",
        "9999-12-31T23:59:59.999999Z",
    )
    times = [datetime.fromisoformat(text) for text in written]
    await put_verdicts(database, *(verdict(n, completed=at) for n, at in enumerate(times)))
    items = await pages(database, limit=1, sort="completed_at")
    assert [each.completed_at for each in items] == times[::-1]
    bound = Filter.model_validate({"completed_after": [times[3]], "completed_before": [times[4]]})
    found = await pages(database, limit=9, filter_=bound)
    assert {each.completed_at for each in found} == {times[3], times[4]}


async def test_one(database: Database) -> None:
    """One verdict is the newest result; None where there is no such evaluation."""
    [it] = await released(database, 1)
    assert await database.read(reading.one, key(1)) == it.verdict
    assert await database.read(reading.one, key(2)) is None


async def test_embeds(database: Database, samples: Any) -> None:
    """What Runflow embedded is shown as it came; null where there is no tree, or none of that name."""
    names = ("run", "model", "flow", "comfyui_workflow", "parent_evaluation")
    assert await database.read(reading.embeds, key(9)) == dict.fromkeys(names)
    await staged(database, 1, 2)
    fetched = await claimed(database)
    body = (samples / "evaluation_full.json").read_bytes()
    whole = tree_of(fetched[key(1)].known)._replace(tree=body)
    odd = tree_of(fetched[key(2)].known)._replace(tree=b'{"run": {"a\\u0000": [1, null]}, "model": "x", "extra": 1}')
    await database.write(results.release, [whole, odd], [], NOW)
    embedded = await database.read(reading.embeds, key(1))
    assert set(embedded) == set(names)
    assert {name for name, value in embedded.items() if value is not None} == {"run", "model", "parent_evaluation"}
    assert await database.read(reading.embeds, key(2)) == dict.fromkeys(names) | {
        "run": {"a\ufffd": [1, None]},
        "model": "x",
    }
