"""The batcher: what comes while a flush is under way goes into the next one, together; nothing is forgotten."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from receiver.pipeline.batcher import Batcher
from tests.pipeline.clock import DEADLINE


class Flushes:
    """Flushes that wait until they are let through, and what each was given."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = asyncio.Semaphore(0)
        self.through = asyncio.Semaphore(0)

    async def flush(self, items: list[int]) -> Sequence[int]:
        self.batches.append(items)
        self.begun.release()
        await self.through.acquire()
        return [item * 10 for item in items]

    def let_all_through(self) -> None:
        for _ in range(100):
            self.through.release()


async def doubled(items: list[int]) -> Sequence[int]:
    return [item * 2 for item in items]


async def test_an_idle_batcher_takes_one_at_once() -> None:
    """Nothing waits for company when nothing is under way."""
    flushes = Flushes()
    future = Batcher(flushes.flush).put(1)
    await flushes.begun.acquire()
    assert flushes.batches == [[1]]
    flushes.let_all_through()
    assert await future == 10


async def test_what_comes_meanwhile_goes_together() -> None:
    """Everything that came during a flush is in the next one, in order."""
    flushes = Flushes()
    batcher = Batcher(flushes.flush)
    first = batcher.put(1)
    await flushes.begun.acquire()
    others = [batcher.put(item) for item in (2, 3, 4)]
    flushes.let_all_through()
    assert await asyncio.gather(first, *others) == [10, 20, 30, 40]
    assert flushes.batches == [[1], [2, 3, 4]]


async def test_no_batch_is_larger_than_it_may_be() -> None:
    """More than `most` are several batches, one after the other."""
    flushes = Flushes()
    batcher = Batcher(flushes.flush, most=2)
    futures = [batcher.put(item) for item in range(5)]
    flushes.let_all_through()
    assert await asyncio.gather(*futures) == [0, 10, 20, 30, 40]
    assert flushes.batches == [[0, 1], [2, 3], [4]]


async def test_no_more_flights_than_there_may_be() -> None:
    """With two flights a second batch does not wait for the first, and a third waits for one of them."""
    flushes = Flushes()
    batcher = Batcher(flushes.flush, flights=2, most=1)
    futures = [batcher.put(item) for item in range(3)]
    await flushes.begun.acquire()
    await flushes.begun.acquire()
    assert flushes.batches == [[0], [1]]
    flushes.let_all_through()
    assert await asyncio.gather(*futures) == [0, 10, 20]
    assert sorted(flushes.batches) == [[0], [1], [2]]


async def test_an_error_reaches_all_who_wait_and_nobody_else() -> None:
    """All of a failed batch get the error; the next batch is none the worse."""

    async def flush(items: list[int]) -> Sequence[int]:
        if 1 in items:
            raise ValueError("no")
        return items

    batcher = Batcher(flush, most=2)
    futures = [batcher.put(item) for item in range(4)]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ValueError, ValueError, int, int]


async def test_a_flush_that_tells_too_little_is_an_error() -> None:
    """A flush with fewer results than items fails its batch, and nobody waits for ever."""

    async def flush(items: list[int]) -> Sequence[int]:
        return items[1:]

    batcher = Batcher(flush)
    futures = [batcher.put(item) for item in range(3)]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ValueError] * 3
    with pytest.raises(ValueError, match="zip"):
        await batcher.put(4)


async def test_one_who_fails_when_told_costs_the_others_nothing() -> None:
    """The event loop hears of it, all others of the batch are told, and the next batch flies."""
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    batcher = Batcher(doubled)
    told: list[object] = []
    batcher.hand(1, lambda _: told[0])
    batcher.hand(2, told.append)
    await batcher.drained()
    assert told == [4]
    assert [type(each["exception"]) for each in reported] == [IndexError]
    assert await batcher.put(3) == 6


async def test_one_who_has_gone_costs_the_others_nothing() -> None:
    """What a cancelled caller put is flushed all the same, and the others get theirs."""
    flushes = Flushes()
    batcher = Batcher(flushes.flush)
    futures = [batcher.put(item) for item in range(3)]
    await flushes.begun.acquire()
    futures[1].cancel()
    flushes.let_all_through()
    assert [await futures[0], await futures[2]] == [0, 20]
    assert flushes.batches == [[0, 1, 2]]


async def test_drained_waits_for_what_waits_and_what_flies() -> None:
    """It returns when all is flushed, and at once when there is nothing."""
    flushes = Flushes()
    batcher = Batcher(flushes.flush, most=1)
    await batcher.drained()
    futures = [batcher.put(item) for item in range(3)]
    draining = asyncio.create_task(batcher.drained())
    await flushes.begun.acquire()
    assert not draining.done()
    flushes.let_all_through()
    await draining
    assert all(future.done() for future in futures)


async def test_what_is_posted_is_flushed_and_its_error_is_nobodys() -> None:
    """Nobody waits for what is posted; an error of it is not reported as forgotten."""
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    flushed: list[int] = []

    async def flush(items: list[int]) -> Sequence[int]:
        flushed.extend(items)
        raise ValueError("no")

    batcher = Batcher(flush)
    batcher.post(1)
    batcher.post(2)
    await batcher.drained()
    del batcher
    assert flushed == [1, 2]
    assert reported == []


@pytest.mark.parametrize("seed", range(12))
async def test_nothing_is_ever_stuck(seed: int) -> None:
    """Whatever the timing, each item is flushed once, and each future gets its own result or its batch's error."""
    luck = random.Random(seed)
    flights, most = luck.randint(1, 3), luck.randint(1, 7)
    flushed: list[int] = []
    flying = 0

    async def turns(most_turns: int) -> None:
        for _ in range(luck.randint(0, most_turns)):
            await asyncio.sleep(0)

    async def flush(items: list[int]) -> Sequence[int]:
        nonlocal flying
        flying += 1
        assert flying <= flights
        assert 1 <= len(items) <= most
        await turns(5)
        flushed.extend(items)
        flying -= 1
        if luck.random() < 0.1:
            raise ValueError(items)
        return await doubled(items)

    batcher = Batcher(flush, flights=flights, most=most)

    async def caller(item: int) -> None:
        await turns(40)
        future = batcher.put(item)
        if luck.random() < 0.1:
            await turns(5)
            future.cancel()
        await asyncio.wait([future])
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            assert future.result() == item * 2
        else:
            assert item in error.args[0]

    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*(caller(item) for item in range(300)))
        await batcher.drained()
    assert sorted(flushed) == list(range(300))


async def test_a_rush_is_gathered() -> None:
    """The first item goes at once; what follows soon after waits for others, and goes with them."""
    batches: list[list[int]] = []

    async def flush(items: list[int]) -> list[int]:
        batches.append(items)
        return items

    batcher = Batcher(flush, gather=0.05)
    assert await batcher.put(1) == 1
    second = batcher.put(2)
    await asyncio.sleep(0)
    assert list(await asyncio.gather(second, batcher.put(3))) == [2, 3]
    assert batches == [[1], [2, 3]]
    await batcher.drained()
