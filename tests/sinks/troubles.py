"""What the tests of troubles share: messages sent until they are taken, what one comes to, servers that behave badly."""

import asyncio
from collections.abc import Sequence

import pytest

from receiver.sinks.base import Done, Outcome, Sink, SinkError
from tests.sinks.gap import Gap
from tests.sinks.messages import message
from tests.sinks.servers import LONG, Connection


async def until_done(sink: Sink, *numbers: int) -> None:
    """Sends these, and what was not done of them again, as the pipeline does."""
    left = list(numbers)
    async with asyncio.timeout(2 * LONG):
        while left:
            outcomes = await sink.send([message(number) for number in left])
            left = [number for number, outcome in zip(left, outcomes, strict=True) if not isinstance(outcome, Done)]


def keys(*numbers: int) -> list[str]:
    """The ids of these messages."""
    return [message(number).key for number in numbers]


async def outcome_of(sink: Sink) -> Outcome:
    """What one message comes to; a check says the same. The sink is closed."""
    async with asyncio.timeout(2 * LONG):
        [outcome] = await sink.send([message()])
        if isinstance(outcome, Done):
            await sink.check()
        else:
            with pytest.raises(SinkError) as caught:
                await sink.check()
            assert str(caught.value) == outcome.reason
        await sink.close()
    return outcome


async def through_a_cut(sink: Sink, gap: Gap) -> tuple[Sequence[Outcome], Sequence[Outcome]]:
    """Messages 1 to 3 across a cable that is pulled after the first, and mended. What 2 and 3 came to, under way and later."""
    await until_done(sink, 1)
    gap.pull()
    cut = await sink.send([message(2, generation_prompt="x" * 4_000_000), message(3)])
    away = await sink.send([message(2), message(3)])
    with pytest.raises(SinkError, match="no connection in time"):
        await sink.check()
    gap.mend()
    await until_done(sink, 2, 3)
    await sink.close()
    return cut, away


async def broken_under_way(sink: Sink, gap: Gap) -> set[Outcome]:
    """Message 1, and then three times a hundred more, which do not fit through before the connection breaks: their outcomes."""
    await until_done(sink, 1)
    gap.pull()
    batch = [message(2, generation_prompt="x" * 8_000_000), *(message(number) for number in range(3, 102))]
    sending = [asyncio.create_task(sink.send(batch)) for _ in range(3)]
    await asyncio.wait(sending, timeout=0.1)
    gap.drop()
    outcomes = {outcome for each in await asyncio.gather(*sending) for outcome in each}
    await sink.close()
    return outcomes


async def cut(connection: Connection) -> None:
    """Ends the connection at once."""
    connection.reset()


async def speak_http(connection: Connection) -> None:
    """Another protocol, whatever it is told."""
    await connection.say("HTTP/1.1 400 Bad Request\r\n\r\n")
    await connection.hang()
