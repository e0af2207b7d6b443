"""The same callback over many connections at once, in one process and in two."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from receiver.store.tables import events, other_bodies, set_aside
from receiver.web.hook import PATH
from tests.web.logged import Lines
from tests.web.receivers import Receiver, callback, guarded, serving, settings_for, signed
from tests.web.wire import Answer, Wire, request

CONNECTIONS = 50


async def at_once(receivers: Sequence[Receiver], bodies: Sequence[bytes]) -> list[Answer]:
    """The answers to these bodies, each over a connection of its own, the receivers in turn."""
    async with AsyncExitStack() as stack:
        wires = [
            await stack.enter_async_context(Wire(receivers[number % len(receivers)].port))
            for number in range(len(bodies))
        ]
        requests = [request("POST", PATH, [signed(body)], body) for body in bodies]
        answers = await asyncio.gather(*(wire.ask(each) for wire, each in zip(wires, requests, strict=True)))
    return [guarded(answer) for answer in answers]


def results(answers: Sequence[Answer]) -> Counter[tuple[int, str]]:
    return Counter((answer.status, answer.json["result"]) for answer in answers)


async def test_one_event_from_many_connections(receiver: Receiver) -> None:
    """Of fifty posts at once exactly one must be told that it was the first, and the other 49 be counted on its row."""
    _, body = callback()
    answers = await at_once([receiver], [body] * CONNECTIONS)
    assert results(answers) == {(202, "accepted"): 1, (200, "duplicate"): CONNECTIONS - 1}
    assert [row.repeats for row in await receiver.rows(events)] == [CONNECTIONS - 1]
    assert await receiver.count(other_bodies) == 0


async def test_one_event_at_two_receivers(postgres: str, tmp_path: Path, lines: Lines) -> None:
    """The same must hold where two processes share a PostgreSQL."""
    settings = settings_for(postgres, tmp_path)
    async with serving(settings) as one, serving(settings) as other:
        for _ in range(5):
            _, body = callback()
            answers = await at_once([one, other], [body] * CONNECTIONS)
            assert results(answers) == {(202, "accepted"): 1, (200, "duplicate"): CONNECTIONS - 1}
        assert [row.repeats for row in await one.rows(events)] == [CONNECTIONS - 1] * 5
    assert lines.above_info() == []


async def test_one_event_in_many_forms(receiver: Receiver) -> None:
    """Of fifty posts at once with bytes of their own one is the event, and the other 49 bodies must be kept as well."""
    _, body = callback()
    bodies = [body + b" " * number for number in range(CONNECTIONS)]
    answers = await at_once([receiver], bodies)
    assert results(answers) == {(202, "accepted"): 1, (200, "duplicate"): CONNECTIONS - 1}
    [row] = await receiver.rows(events)
    assert row.repeats == CONNECTIONS - 1
    assert sorted([row.body, *(other.body for other in await receiver.rows(other_bodies))], key=len) == bodies


async def test_many_events_and_repeats_in_any_order(postgres: str, tmp_path: Path, lines: Lines) -> None:
    """Two receivers given the same events in opposite orders must not wait for each other, nor lose count."""
    settings = settings_for(postgres, tmp_path)
    bodies = [callback()[1] for _ in range(60)]
    async with serving(settings) as one, serving(settings) as other:
        answers = await asyncio.gather(at_once([one], bodies), at_once([other], bodies[::-1]))
        assert results([*answers[0], *answers[1]]) == {(202, "accepted"): 60, (200, "duplicate"): 60}
        assert sorted(row.body for row in await one.rows(events)) == sorted(bodies)
        assert {row.repeats for row in await one.rows(events)} == {1}
    assert lines.above_info() == []


async def test_one_odd_body_from_many_connections(receiver: Receiver) -> None:
    """A body that is not understood, or of another kind, must be one row however often it comes at once."""
    bodies = [b"not JSON", b'{"event": "run.failed"}']
    answers = await at_once([receiver], bodies * 25)
    assert results(answers) == {(202, "quarantined"): 25, (200, "ignored"): 25}
    assert {(row.body, row.repeats) for row in await receiver.rows(set_aside)} == {(body, 24) for body in bodies}
