"""How much a request to the hook may carry, and when that is noticed."""

from pathlib import Path

import pytest

from receiver.store.tables import events, set_aside
from receiver.web.hook import PATH
from tests.web.logged import Lines
from tests.web.receivers import Receiver, callback, guarded, serving, settings_for, signed
from tests.web.wire import Wire, chunked, request

LIMIT = 1024 * 1024
CHUNKED = ("Transfer-Encoding", "chunked")


def error(limit: int = LIMIT) -> dict[str, object]:
    return {"code": "BODY_TOO_LARGE", "message": f"the body is over the limit of {limit} bytes", "errors": None}


async def test_a_body_at_the_limit(receiver: Receiver) -> None:
    """A body of exactly the limit must be taken, however its length is told."""
    for headers in ([], [CHUNKED]):
        key, body = callback()
        body = body.ljust(LIMIT)
        sent = chunked(body[:1000], body[1000:]) if headers else body
        answer = await receiver.ask("POST", PATH, [signed(body), *headers], sent)
        assert (answer.status, answer.json["evaluation_id"]) == (202, str(key))
    assert {len(row.body) for row in await receiver.rows(events)} == {LIMIT}


async def test_a_declared_length_over_the_limit(on_sqlite: Receiver) -> None:
    """It must be refused before a byte of the body is sent."""
    for more in ([], [("Expect", "100-continue")]):
        async with Wire(on_sqlite.port) as wire:
            head = request("POST", PATH, [("Content-Length", str(LIMIT + 1)), ("Runflow-Signature", "x"), *more])
            answer = guarded(await wire.ask(head))
        assert (answer.status, answer.json) == (413, error())


async def test_the_connection_after_a_refusal(on_sqlite: Receiver) -> None:
    """What was refused by its declared length may still be sent; it is passed over, and the next request is answered."""
    _, body = callback()
    async with Wire(on_sqlite.port) as wire:
        await wire.send(request("POST", PATH, [("Content-Length", str(3 * LIMIT))]))
        assert (await wire.answer()).status == 413
        await wire.send(b"x" * (3 * LIMIT))
        assert (await wire.ask(request("POST", PATH, [signed(body)], body))).status == 202


async def test_chunks_over_the_limit(on_sqlite: Receiver) -> None:
    """A body without a declared length must be refused as soon as it is over the limit; the rest is not waited for."""
    async with Wire(on_sqlite.port) as wire:
        await wire.send(request("POST", PATH, [CHUNKED, ("Runflow-Signature", "x")]))
        for _ in range(5):
            await wire.send(b"%x\r\n%s\r\n" % (LIMIT // 4, b"x" * (LIMIT // 4)))
        answer = guarded(await wire.answer())
    assert (answer.status, answer.json) == (413, error())
    assert await on_sqlite.count(events, set_aside) == 0


async def test_chunks_of_one_byte(on_sqlite: Receiver) -> None:
    """How a body is cut up makes no difference to its bytes."""
    _, body = callback()
    pieces = [body[at : at + 1] for at in range(len(body))]
    assert (await on_sqlite.ask("POST", PATH, [signed(body), CHUNKED], chunked(*pieces))).status == 202
    assert [row.body for row in await on_sqlite.rows(events)] == [body]


async def test_another_limit(sqlite: str, tmp_path: Path, lines: Lines) -> None:
    """The limit is `limits.body_bytes`."""
    async with serving(settings_for(sqlite, tmp_path, "[limits]\nbody_bytes = 1024\n")) as receiver:
        _, body = callback()
        assert (await receiver.post(body.ljust(1024))).status == 202
        refused = await receiver.post(body.ljust(1025))
        assert (refused.status, refused.json) == (413, error(1024))
        assert receiver.service._hook.turned_away == {"BodyTooLarge": 1}
        assert lines.of("callback.turned_away")[0]["reason"] == error(1024)["message"]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_no_body_at_all(on_sqlite: Receiver, version: str) -> None:
    """A request without a length has an empty body; one that is signed is genuine all the same."""
    async with Wire(on_sqlite.port) as wire:
        answer = await wire.ask(request("POST", PATH, [signed(b"")], version=version))
        assert (answer.status, answer.json) == (202, {"result": "quarantined"})
        if version == "1.0":
            assert await wire.ended() == b""
