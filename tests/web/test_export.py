"""`GET /v1/verdicts/export`, over a real socket: whole, filtered, slow readers, readers that go, databases that die."""

import asyncio
import csv
import io
import random
import socket
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import orjson
import pytest

from receiver.core.flat import COLUMNS
from receiver.store import export
from tests.store.places import execute, sql
from tests.web.logged import Lines
from tests.web.receivers import READER, Receiver, serving, settings_for, until
from tests.web.seeds import key, store, verdict
from tests.web.test_list import FILTERS, STORED
from tests.web.wire import LONG, request

ADDRESS = "/v1/verdicts/export"
LONG_TEXT = "x" * 400_000
MANY = 60
BUFFERED = 14_000_000
"""Bytes that may be between the store and a reader that reads little: chunks, and what the two kernels hold (4 + 6 MB)."""


class Download:
    """An answer that is read bit by bit, as it comes in chunks."""

    def __init__(self, port: int, query: str = "", *headers: tuple[str, str], method: str = "GET") -> None:
        self._port = port
        self._request = request(method, f"{ADDRESS}?{query}", [("Authorization", f"Bearer {READER}"), *headers])
        self.head: dict[str, str] = {}
        self.is_whole = False

    async def __aenter__(self) -> Self:
        async with asyncio.timeout(LONG):
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._writer.write(self._request)
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        assert lines[0] == "HTTP/1.1 200 OK", lines
        self.head = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    async def chunk(self) -> bytes:
        """The next one; nothing at the end, or where the transfer breaks off."""
        try:
            async with asyncio.timeout(LONG):
                size = int((await self._reader.readuntil(b"\r\n")).strip(), 16)
                content = (await self._reader.readexactly(size + 2))[:-2]
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        self.is_whole = not size
        return content

    async def chunks(self) -> AsyncIterator[bytes]:
        """All that there are."""
        while content := await self.chunk():
            yield content

    async def rest(self) -> bytes:
        """All that still comes."""
        return b"".join([content async for content in self.chunks()])


async def exported(receiver: Receiver, query: str = "", *headers: tuple[str, str]) -> bytes:
    async with Download(receiver.port, query, *headers) as download:
        body = await download.rest()
        assert download.is_whole
    return body


async def test_ndjson(receiver: Receiver) -> None:
    """Whole verdicts, one a line, the oldest first, as the endpoint for one shows them."""
    await store(receiver, *STORED)
    lines = (await exported(receiver)).splitlines()
    assert [orjson.loads(line)["evaluation_id"] for line in lines] == [str(key(n)) for n in range(1, 8)]
    for line in lines:
        answer = await receiver.get(f"/v1/verdicts/{orjson.loads(line)['evaluation_id']}")
        assert orjson.loads(line) == answer.json


async def test_csv(receiver: Receiver) -> None:
    """The list's items as rows, behind a byte order mark and a head."""
    await store(receiver, *STORED)
    text = (await exported(receiver, "format=csv")).decode("utf-8-sig")
    head, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert tuple(head) == COLUMNS
    assert [row[1] for row in rows] == [str(key(n)) for n in range(1, 8)]
    assert [row[COLUMNS.index("client_ref")] for row in rows][-1] == "a,b&c=d é\u2028"


async def test_empty(receiver: Receiver) -> None:
    """Where nothing is stored: no line, or the head alone."""
    assert await exported(receiver) == b""
    assert (await exported(receiver, "format=csv")).count(b"\r\n") == 1


async def test_filters(receiver: Receiver) -> None:
    """Every word does what it does for the list."""
    await store(receiver, *STORED)
    wrong = {}
    for query, expected in FILTERS:
        found = [orjson.loads(line)["evaluation_id"] for line in (await exported(receiver, query)).splitlines()]
        if found != [str(key(number)) for number in sorted(expected)]:
            wrong[query] = found
    assert wrong == {}


async def test_goes_on(receiver: Receiver) -> None:
    """`after` is the last verdict that was had: what follows it comes."""
    await store(receiver, *STORED)
    for n in range(1, 8):
        lines = (await exported(receiver, f"after={key(n)}")).splitlines()
        assert [orjson.loads(line)["evaluation_id"] for line in lines] == [str(key(m)) for m in range(n + 1, 8)]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("format=xml", {"format"}),
        ("format=csv&format=csv", {"format"}),
        ("limit=5&sort=received_at&cursor=x", {"limit", "sort", "cursor"}),
        ("after=1", {"after"}),
        ("overall_passed=maybe&format=", {"overall_passed", "format"}),
        ("completed_after=yesterday&nothing=1", {"completed_after", "nothing"}),
    ],
)
async def test_refused(on_sqlite: Receiver, query: str, fields: set[str]) -> None:
    """What is unknown, wrong or given twice is named."""
    answer = await on_sqlite.get(f"{ADDRESS}?{query}")
    assert answer.status == 422
    assert {each["field"] for each in answer.json["errors"]} == fields


async def test_after_what_is_not_there(on_sqlite: Receiver) -> None:
    """An id that is none of a verdict here is told."""
    answer = await on_sqlite.get(f"{ADDRESS}?after={key(99)}")
    assert (answer.status, answer.json["code"]) == (404, "NOT_FOUND")


async def test_needs_a_token(on_sqlite: Receiver) -> None:
    """As all reading does."""
    assert (await on_sqlite.get(ADDRESS, token=None)).status == 401


@pytest.mark.parametrize(("format_", "media"), [("ndjson", "application/x-ndjson"), ("csv", "text/csv; charset=utf-8")])
async def test_headers(on_sqlite: Receiver, format_: str, media: str) -> None:
    """A file's name with its time; kept nowhere on the way. HEAD tells the same and reads nothing."""
    for method in ("GET", "HEAD"):
        async with Download(on_sqlite.port, f"format={format_}", method=method) as download:
            assert download.head["content-type"] == media
            assert download.head["cache-control"] == "no-store"
            name = download.head["content-disposition"].removeprefix('attachment; filename="verdicts-')
            assert name[8] == "T"
            assert name.endswith(f'Z.{format_}"')


async def test_zipped(on_sqlite: Receiver) -> None:
    """Whoever takes gzip gets it, as a stream too: the first verdicts are there before the last are read."""
    luck = random.Random(1)
    await store(on_sqlite, *(verdict(n, generation_prompt=luck.randbytes(200_000).hex()) for n in range(1, 9)))
    plain = await exported(on_sqlite)
    async with Download(on_sqlite.port, "", ("Accept-Encoding", "br, gzip")) as download:
        assert download.head["content-encoding"] == "gzip"
        unzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
        unzipped = [unzip.decompress(chunk) async for chunk in download.chunks()]
        assert (download.is_whole, unzip.eof) == (True, True)
    assert b"".join(unzipped) == plain
    assert len([each for each in unzipped if each]) > 1


@pytest.fixture
def read(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The characters of each chunk that was read so far."""
    sizes: list[int] = []
    chunk = export._chunk

    def counted(*args: Any) -> export.Chunk | None:
        found = chunk(*args)
        sizes.append(0 if found is None else sum(map(len, found.documents)))
        return found

    monkeypatch.setattr(export, "_chunk", counted)
    return sizes


async def fill(receiver: Receiver) -> None:
    """More than the kernel's buffers take."""
    await store(receiver, *(verdict(n, generation_prompt=LONG_TEXT) for n in range(MANY)))


async def test_a_slow_reader(receiver: Receiver, read: list[int]) -> None:
    """No more is read than what is on its way to it."""
    await fill(receiver)
    received, ahead = 0, []
    async with Download(receiver.port) as download:
        async for content in download.chunks():
            received += len(content)
            ahead.append(sum(read) - received)
    assert received > MANY * len(LONG_TEXT)
    assert max(ahead) < BUFFERED


async def test_a_reader_that_goes(receiver: Receiver, read: list[int]) -> None:
    """The reading ends with it, long before the end, and nothing stays behind."""
    await fill(receiver)
    async with Download(receiver.port) as download:
        await download.chunk()

    async def is_over() -> bool:
        return not receiver.server.server_state.tasks

    await until(is_over, "the end of the request")
    assert sum(read) < MANY * len(LONG_TEXT)
    assert (await receiver.get("/v1/verdicts?limit=1")).status == 200


async def test_a_database_that_cannot_be_read_any_more(receiver: Receiver, lines: Lines) -> None:
    """The transfer breaks off: no client takes it for whole. One line tells it. What came is good, and `after` goes on."""
    await fill(receiver)
    write = receiver.service.database.write
    async with Download(receiver.port) as download:
        first = await download.chunk()
        await write(sql, "ALTER TABLE verdicts RENAME TO gone")
        try:
            body = first + await download.rest()
        finally:
            await write(sql, "ALTER TABLE gone RENAME TO verdicts")
        assert not download.is_whole
    *whole, torn = body.split(b"\n")
    assert torn == b""
    assert 0 < len(whole) < MANY
    assert [line["reason"] for line in lines.of("export.broken")] == ["schema"]
    last = orjson.loads(whole[-1])["evaluation_id"]
    whole += (await exported(receiver, f"after={last}")).splitlines()
    assert [orjson.loads(line)["evaluation_id"] for line in whole] == [str(key(n)) for n in range(MANY)]


@pytest.mark.postgres
async def test_a_server_that_is_gone(postgres: str, postgres_url: str, tmp_path: Path) -> None:
    """PostgreSQL ends all connections and takes no new one: broken, in both formats."""
    name = urlsplit(postgres).path.strip("/")
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    async with serving(settings_for(postgres, tmp_path)) as receiver:
        await fill(receiver)
        for query in ("format=csv", "format=ndjson"):
            async with Download(receiver.port, query) as download:
                await execute(postgres_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false", end)
                assert await download.rest()
                assert not download.is_whole
            refused = await receiver.get(ADDRESS)
            assert (refused.status, refused.json["code"]) == (503, "UNAVAILABLE")
            await execute(postgres_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


async def test_stopped(sqlite: str, tmp_path: Path) -> None:
    """A reader that does not read holds up no stop."""
    async with serving(settings_for(sqlite, tmp_path)) as receiver:
        await fill(receiver)
        receiver.server.config.timeout_graceful_shutdown = 1
        reader = socket.create_connection(("127.0.0.1", receiver.port))
        reader.sendall(request("GET", ADDRESS, [("Authorization", f"Bearer {READER}")]))

        async def is_asked() -> bool:
            return bool(receiver.server.server_state.tasks)

        await until(is_asked, "the request")
    reader.close()
