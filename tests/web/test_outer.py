"""Around the answers: headers that make browsers careful, gzip for what is long, and no other origin unless it is let in."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import ASGIApp, Message

from receiver.web.hook import PATH
from receiver.web.outer import HEADERS, Outer
from tests.web.logged import Lines
from tests.web.receivers import READER, Receiver, callback, serving, settings_for
from tests.web.seeds import key, store, verdict
from tests.web.wire import Answer, Header

TOKEN = ("Authorization", f"Bearer {READER}")
SHOP = "https://shop.example.com"
ANSWERS = [
    "/healthz",
    "/readyz",
    "/v1/verdicts",
    f"/v1/verdicts/{key(1)}",
    "/v1/verdicts?x=1",
    "/nothing",
    "/openapi.json",
]


@pytest.mark.parametrize("target", ANSWERS)
async def test_careful_headers(on_sqlite: Receiver, target: str) -> None:
    """Every answer, an error too, says each of them once."""
    await store(on_sqlite, verdict(1))
    for headers in ([TOKEN], []):
        answer = await on_sqlite.ask("GET", target, headers)
        said = {name: answer.all(name.lower()) for name in HEADERS}
        cached = said.pop("Cache-Control")
        assert said == {name: [value] for name, value in HEADERS.items() if name != "Cache-Control"}
        assert len(cached) == 1
        assert answer.all("strict-transport-security") == []


async def test_a_defect_has_them_too(on_sqlite: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does an answer to what nobody foresaw go out without."""

    async def fails(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(on_sqlite.service.database, "read", fails)
    answer = await on_sqlite.get("/v1/verdicts")
    assert (answer.status, answer.all("x-content-type-options")) == (500, ["nosniff"])


async def test_the_hook_is_as_it_was(on_sqlite: Receiver) -> None:
    """An answer to a callback costs no header more than it must."""
    answer = await on_sqlite.post(callback()[1])
    assert {name for name, _ in answer.headers} == {"date", "content-type", "content-length"}


async def test_behind_https(sqlite: str, tmp_path: Path, lines: Lines) -> None:
    """Where a proxy that is believed says that it is https, browsers are told to stay with it."""
    async with serving(settings_for(sqlite, tmp_path, RECEIVER_TRUSTED_PROXIES="127.0.0.1")) as receiver:
        for scheme, expected in (("https", ["max-age=31536000"]), ("http", [])):
            answer = await receiver.ask("GET", "/healthz", [("X-Forwarded-Proto", scheme)])
            assert answer.all("strict-transport-security") == expected


async def test_gzip(receiver: Receiver) -> None:
    """A long answer is zipped for whoever takes that, says the same, and has the same tag; a short one is not."""
    await store(receiver, *(verdict(n, client_ref=f"order-{n}") for n in range(1, 60)))
    plain = await receiver.ask("GET", "/v1/verdicts", [TOKEN])
    zipped = await receiver.ask("GET", "/v1/verdicts", [TOKEN, ("Accept-Encoding", "br, gzip")])
    assert (plain.all("content-encoding"), zipped.all("content-encoding")) == ([], ["gzip"])
    assert plain.all("vary") == zipped.all("vary") == ["Accept-Encoding"]
    assert gzip.decompress(zipped.body) == plain.body
    assert len(zipped.body) < len(plain.body) / 5
    short = await receiver.ask("GET", "/healthz", [("Accept-Encoding", "gzip")])
    assert (short.all("content-encoding"), short.json) == ([], {"status": "ok"})


async def sent(app: ASGIApp) -> list[Message]:
    """What is sent by an application that is asked by someone who takes gzip."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        await asyncio.Event().wait()  # the caller stays
        raise AssertionError

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"accept-encoding", b"gzip")]}
    await Outer(app)(scope, receive, send)
    return messages


@pytest.mark.parametrize("media", ["text/event-stream", "text/html"])
async def test_what_is_never_zipped(media: str) -> None:
    """Events must go out as they come; a page may hold a token beside words of the caller's, which its length would tell of."""
    start, body = await sent(PlainTextResponse("x" * 9000, media_type=media))
    assert "content-encoding" not in Headers(raw=start["headers"])
    assert body["body"] == b"x" * 9000


async def test_streams_are_zipped_as_they_flow() -> None:
    """Each piece of an export can be read when it has come: nothing waits for the end, and nothing is gathered."""
    pieces = [f"{number}\n".encode() * 1000 for number in range(3)]

    async def flow() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    start, *bodies = await sent(StreamingResponse(flow(), media_type="application/x-ndjson"))
    assert Headers(raw=start["headers"])["content-encoding"] == "gzip"
    unzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert [unzip.decompress(each["body"]) for each in bodies] == [*pieces, b""]


async def test_no_other_origin(on_sqlite: Receiver) -> None:
    """Unless it is let in, a script of another origin is told nothing that a browser would let it read."""
    headers: list[Header] = [TOKEN, ("Origin", SHOP)]
    assert _cross_origin(await on_sqlite.ask("GET", "/v1/verdicts", headers)) == {}
    preflight = await on_sqlite.ask("OPTIONS", "/v1/verdicts", [*headers, ("Access-Control-Request-Method", "GET")])
    assert (preflight.status, _cross_origin(preflight)) == (405, {})


def _cross_origin(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers if name.startswith("access-control-")}


async def test_an_origin_that_is_let_in(sqlite: str, tmp_path: Path, lines: Lines) -> None:
    """It may ask and read, errors too, and never with a cookie; another may not. New settings change that while it runs."""
    toml = f'[api]\ncors_origins = ["{SHOP}"]\n'
    async with serving(settings_for(sqlite, tmp_path, toml)) as receiver:
        asked: list[Header] = [
            ("Origin", SHOP), ("Access-Control-Request-Method", "PATCH"),
            ("Access-Control-Request-Headers", "authorization, content-type, if-none-match, last-event-id"),
        ]  # fmt: skip
        preflight = await receiver.ask("OPTIONS", "/v1/verdicts", asked)
        assert (preflight.status, _cross_origin(preflight)["access-control-allow-origin"]) == (200, SHOP)
        assert "access-control-allow-credentials" not in _cross_origin(preflight)
        for target, status in (("/v1/verdicts", 200), ("/v1/verdicts?x=1", 422), ("/nothing", 404)):
            answer = await receiver.ask("GET", target, [TOKEN, ("Origin", SHOP)])
            assert (answer.status, _cross_origin(answer)["access-control-allow-origin"]) == (status, SHOP)
        other = await receiver.ask("GET", "/v1/verdicts", [TOKEN, ("Origin", "https://other.example")])
        assert "access-control-allow-origin" not in _cross_origin(other)
        hooked = await receiver.ask("POST", PATH, [("Origin", SHOP)], b"{}")
        assert (hooked.status, _cross_origin(hooked)) == (401, {})
        await receiver.service.reload(settings_for(sqlite, tmp_path))
        assert _cross_origin(await receiver.ask("GET", "/v1/verdicts", [TOKEN, ("Origin", SHOP)])) == {}


async def test_tags(receiver: Receiver) -> None:
    """One verdict has a tag; who has it is told in no bytes that it is still so, until there is another result."""
    await store(receiver, verdict(1, tree="pending"))
    target = f"/v1/verdicts/{key(1)}"
    first = await receiver.get(target)
    [tag] = first.all("etag")
    assert first.all("cache-control") == ["private, no-cache"]
    for given in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
        answer = await receiver.ask("GET", target, [TOKEN, ("If-None-Match", given)])
        assert (answer.status, answer.body, answer.all("etag")) == (304, b"", [tag]), given
        assert answer.all("cache-control") == ["private, no-cache"]
    for given in ("", '""', '"x"', tag[:-2], tag.upper()):
        answer = await receiver.ask("GET", target, [TOKEN, ("If-None-Match", given)])
        assert (answer.status, answer.body) == (200, first.body), given
    assert (await receiver.ask("GET", target, [("If-None-Match", tag)])).status == 401
    other = await receiver.ask("GET", f"{target}?embed=run", [TOKEN, ("If-None-Match", tag)])
    assert (other.status, other.all("etag") != [tag]) == (200, True)


async def test_figures_have_a_tag(receiver: Receiver) -> None:
    """So do the figures about many, until there is one more to count."""
    await store(receiver, verdict(1))
    target = "/v1/stats?since=2026-11-25&until=2026-11-26"
    [tag] = (await receiver.get(target)).all("etag")
    asked: list[Header] = [TOKEN, ("If-None-Match", tag)]
    assert (await receiver.ask("GET", target, asked)).status == 304
    await store(receiver, verdict(2))
    assert (await receiver.ask("GET", target, asked)).status == 200


async def test_what_anybody_may_keep(on_sqlite: Receiver) -> None:
    """The schema and the document change with the program alone, so they may be kept for a while, and have tags."""
    for target in ("/schemas/verdict.v1.json", "/openapi.json"):
        answer = await on_sqlite.get(target, token=None)
        assert answer.all("cache-control") == ["public, max-age=300"]
        again = await on_sqlite.ask("GET", target, [("If-None-Match", answer.all("etag")[0])])
        assert again.status == 304
    assert json.loads(answer.body)["openapi"]


async def test_nothing_else_is_kept(on_sqlite: Receiver) -> None:
    """Lists, errors and health are of the moment."""
    for target in ("/v1/verdicts", "/v1/verdicts?x=1", "/nothing", "/healthz", "/readyz"):
        assert (await on_sqlite.get(target)).all("cache-control") == ["no-store"]
