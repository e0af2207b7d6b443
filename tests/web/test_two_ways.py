"""A callback may take the short way to the hook or ASGI's: nobody outside can tell which it was."""

import asyncio
from uuid import UUID

import pytest

from receiver.errors import StoreUnavailable
from receiver.store.tables import events, set_aside
from receiver.web.hook import PATH
from tests.web.logged import Lines
from tests.web.receivers import SECOND, WAYS, Receiver, callback, guarded, signed
from tests.web.wire import Answer, Header, Wire, request

KEY = UUID("0193a5c0-1111-7222-8333-944444444444")
BODY = callback(evaluation_id=KEY)[1]
CASES: dict[str, tuple[list[Header], bytes]] = {
    "new, and again": ([signed(BODY)], BODY),
    "by the other secret": ([signed(BODY, SECOND), ("Runflow-Request-Id", "req_1")], BODY),
    "another kind of event": ([signed(b'{"event":"run.completed"}')], b'{"event":"run.completed"}'),
    "not understood": ([signed(b"[]")], b"[]"),
    "empty": ([signed(b"")], b""),
    "no signature": ([], BODY),
    "two signatures": ([signed(BODY), signed(BODY)], BODY),
    "a bad signature": ([signed(b"other")], BODY),
    "to be closed": ([signed(BODY), ("Connection", "close")], BODY),
}


def shown(answer: Answer) -> tuple[int, list[Header], bytes]:
    """All of an answer but when it was given."""
    return answer.status, sorted(header for header in answer.headers if header[0] != "date"), answer.body


@pytest.mark.parametrize("case", CASES)
async def test_the_answers_are_the_same(receiver: Receiver, case: str) -> None:
    """Each, and a repeat of it, must be answered alike to the byte, and stored alike."""
    headers, body = CASES[case]
    told, kept = [], []
    for way in WAYS:
        await receiver.forget()
        answers = [await receiver.ask("POST", way, headers, body) for _ in range(2)]
        assert all(len(answer.all("date")) == 1 for answer in answers)
        told.append([shown(answer) for answer in answers])
        kept.append([
            [(row.body, row.secret_label, row.request_id, row.repeats) for row in await receiver.rows(table)]
            for table in (events, set_aside)
        ])  # fmt: skip
    assert told[0] == told[1]
    assert kept[0] == kept[1]


async def test_a_refusal_is_the_same(on_sqlite: Receiver, lines: Lines) -> None:
    """503 must be said alike, with when to come again."""
    on_sqlite.service.intake.close_for(StoreUnavailable("disk", "full"))
    try:
        refusals = [shown(await on_sqlite.ask("POST", way, [signed(BODY)], BODY)) for way in WAYS]
    finally:
        on_sqlite.service.intake.close_for(None)
    assert refusals[0] == refusals[1]
    assert (refusals[0][0], ("retry-after", "5") in refusals[0][1]) == (503, True)
    assert on_sqlite.service._hook.turned_away == {"disk": 2}
    assert len(lines.of("callback.turned_away")) == 1


@pytest.mark.parametrize("number", [64, 1000])
async def test_a_client_that_sends_on_and_reads_late(on_sqlite: Receiver, number: int) -> None:
    """What comes before the answer to what was before it waits its turn, whichever way each takes."""
    pairs = [callback() for _ in range(number)]
    ways = [way for _ in range(number) for way in WAYS][:number]
    async with Wire(on_sqlite.port) as wire:
        requests = [request("POST", way, [signed(body)], body) for way, (_, body) in zip(ways, pairs, strict=True)]
        sending = asyncio.create_task(wire.send(b"".join(requests)))
        answers = [guarded(await wire.answer()) for _ in pairs]
        await sending
    assert [answer.json["evaluation_id"] for answer in answers] == [str(key) for key, _ in pairs]
    assert {answer.status for answer in answers} == {202}


async def test_a_body_in_pieces(on_sqlite: Receiver) -> None:
    """A body that comes byte by byte is one body."""
    _, body = callback()
    async with Wire(on_sqlite.port) as wire:
        for byte in request("POST", PATH, [signed(body)], body):
            await wire.send(bytes([byte]))
            await asyncio.sleep(0)
        assert guarded(await wire.answer()).status == 202


async def test_a_client_that_waits_to_be_asked_for_the_body(on_sqlite: Receiver) -> None:
    """It is asked, and answered as ever."""
    _, body = callback()
    expecting = ("Expect", "100-continue")
    async with Wire(on_sqlite.port) as wire:
        await wire.send(request("POST", PATH, [signed(body), ("Content-Length", str(len(body))), expecting]))
        assert (await wire._reader.readuntil(b"\r\n\r\n")) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.send(body)
        assert guarded(await wire.answer()).status == 202


async def test_http_1_0(on_sqlite: Receiver) -> None:
    """The connection ends with the answer."""
    _, body = callback()
    async with Wire(on_sqlite.port) as wire:
        answer = guarded(await wire.ask(request("POST", PATH, [signed(body)], body, version="1.0")))
        assert (answer.status, await wire.ended()) == (202, b"")
