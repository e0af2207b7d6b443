"""Cursors under fire: a reader goes from page to page while four others write, on both databases."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import count
from random import Random

import pytest

from tests.web.receivers import Receiver, callback
from tests.web.seeds import NOON, key, store, verdict

THERE = 400
PAGE = 9


def scattered(luck: Random) -> timedelta:
    """A time in the range that is read, the same for many."""
    return timedelta(seconds=luck.randrange(60))


async def through(receiver: Receiver, sort: str, written: Callable[[], Awaitable[None]]) -> list[tuple[str, str]]:
    """The sort column and the id of every item, page by page to the end, with others' writes between any two pages."""
    seen: list[tuple[str, str]] = []
    cursor = ""
    while True:
        answer = await receiver.get(f"/v1/verdicts?sort={sort}&limit={PAGE}{cursor}")
        assert answer.status == 200, answer.body
        seen += [(item[sort], item["evaluation_id"]) for item in answer.json["items"]]
        if answer.json["next"] is None:
            return seen
        cursor = f"&cursor={answer.json['next']}"
        await written()


@pytest.mark.parametrize("sort", ["received_at", "completed_at"])
async def test_cursors_under_fire(receiver: Receiver, sort: str) -> None:
    """Each verdict that was there at the start comes exactly once, and none comes twice, whatever arrives meanwhile.

    Two writers are Runflow; two put verdicts at any place of the range that is read, as a stage does that is late.
    """
    luck = Random(f"{sort} under fire")
    times = [scattered(luck) for _ in range(THERE)]
    there = [verdict(n, received_at=NOON + at, completed_at=NOON + at) for n, at in enumerate(times, 1)]
    await store(receiver, *there)
    writes, told, numbers = count(), asyncio.Condition(), count(10_000)
    is_over = asyncio.Event()

    async def wrote() -> None:
        next(writes)
        async with told:
            told.notify_all()

    async def runflow() -> None:
        while not is_over.is_set():
            await receiver.post(callback()[1])
            await wrote()

    async def late_stage() -> None:
        while not is_over.is_set():
            batch = [(next(numbers), scattered(luck)) for _ in range(3)]
            await store(receiver, *(verdict(n, received_at=NOON + at, completed_at=NOON + at) for n, at in batch))
            await wrote()

    async def written() -> None:
        async with told:
            await told.wait()

    async with asyncio.TaskGroup() as group:
        for writer in (runflow, runflow, late_stage, late_stage):
            group.create_task(writer())
        seen = await through(receiver, sort, written)
        is_over.set()

    ids = [evaluation_id for _, evaluation_id in seen]
    assert len(ids) == len(set(ids))
    assert {str(key(number)) for number in range(1, THERE + 1)} <= set(ids)
    assert seen == sorted(seen, reverse=True)
    assert next(writes) > THERE / PAGE
    assert len(seen) > THERE  # some of what came meanwhile was still ahead
