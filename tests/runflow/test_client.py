"""Runflow's API as the client reads it: every answer, and every lack of one, has a meaning and raises nothing."""

import asyncio
import gzip
import socket
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import orjson
import pytest

from receiver.core.evaluation import NARROW_EMBEDS, WIDE_EMBEDS
from receiver.core.fetching import LONGEST, Trouble
from receiver.errors import RunflowRefused
from receiver.offline import OfflineRunflow
from receiver.runflow import client as clients
from receiver.runflow.client import EmbedsRefused, FetchAnswer, NoTree, RunflowClient, TreeRead
from tests.runflow.conftest import KEY, PATIENCE, RawServer, http

ID = UUID("01a1ef00-87be-711d-ab0d-549b6f03675a")


async def ask(client: RunflowClient) -> FetchAnswer:
    return await client.evaluation(ID, NARROW_EMBEDS)


async def trouble(client: RunflowClient) -> Trouble:
    answer = await ask(client)
    assert isinstance(answer, NoTree)
    assert KEY not in answer.detail
    return answer.trouble


async def test_the_request_is_as_runflow_wants_it(server: RawServer) -> None:
    """The path, the embeds in one parameter, the key as a bearer token, and the organization where there is one."""
    for organization in (None, "org-7"):
        client = RunflowClient(server.url + "/", KEY, organization_id=organization, timeout=PATIENCE)
        server.answer = http(404)
        await client.evaluation(ID, WIDE_EMBEDS)
        await client.close()
    first, second = server.requests
    assert first.startswith(f"GET /v1/evaluations/{ID}?embed={','.join(WIDE_EMBEDS)} HTTP/1.1\r\n")
    assert f"authorization: bearer {KEY}\r\n" in first.lower()
    assert "x-organization-id" not in first.lower()
    assert "x-organization-id: org-7\r\n" in second.lower()


async def test_a_terminal_evaluation_is_a_tree(server: RawServer, client: RunflowClient, samples: Path) -> None:
    """It is read, and kept byte for byte."""
    body = (samples / "evaluation_full.json").read_bytes()
    server.answer = http(200, body)
    answer = await ask(client)
    assert isinstance(answer, TreeRead)
    assert (answer.body, answer.evaluation.id, answer.oddities) == (body, str(ID), [])


async def test_a_packed_answer_is_unpacked(server: RawServer, client: RunflowClient) -> None:
    """What is kept is the JSON and not its packing; packing that is broken is no answer."""
    body = b'{"status_code":"completed"}'
    server.answer = http(200, gzip.compress(body), Content_Encoding="gzip")
    answer = await ask(client)
    assert isinstance(answer, TreeRead)
    assert answer.body == body
    server.answer = http(200, b"\x1f\x8b" + b"x" * 40, Content_Encoding="gzip")
    assert await trouble(client) is Trouble.UNREACHABLE


async def test_odd_fields_are_told(server: RawServer, client: RunflowClient) -> None:
    """A field that cannot be read costs that field."""
    server.answer = http(200, b'{"status_code":"failed","overall_passed":"yes","judges":7,"new":1}')
    answer = await ask(client)
    assert isinstance(answer, TreeRead)
    assert answer.oddities == ["overall_passed is not readable", "judges is not readable"]


@pytest.mark.parametrize("status_code", ["pending", "running", "queued", None, 7])
async def test_an_undecided_evaluation_is_no_tree(
    server: RawServer, client: RunflowClient, status_code: object
) -> None:
    """Only completed and failed are decided; whatever else it says, it is asked again."""
    server.answer = http(200, orjson.dumps({"status_code": status_code}))
    assert await trouble(client) is Trouble.NOT_TERMINAL


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b'{"status_code":', b"\xff\xfe", b"[" * 100_000, b'"completed"']
)
async def test_a_200_that_is_no_json_object_is_unreadable(
    server: RawServer, client: RunflowClient, body: bytes
) -> None:
    """A proxy's page, half an answer, another shape."""
    server.answer = http(200, body)
    assert await trouble(client) is Trouble.UNREADABLE


def expected(status: int) -> Trouble | None:
    """What a status means; None for the two that may be about the embeds."""
    if status in (403, 422):
        return None
    if status < 200:
        return Trouble.UNREACHABLE  # more is to come, and nothing does
    named = {200: Trouble.UNREADABLE, 401: Trouble.KEY_REFUSED, 404: Trouble.NOT_FOUND, 429: Trouble.RATE_LIMITED}
    otherwise = Trouble.SERVER_ERROR if status >= 500 or status == 408 else Trouble.REFUSED
    return named.get(status, otherwise)


@pytest.mark.parametrize("hundred", range(1, 6))
async def test_every_status_has_a_meaning(server: RawServer, client: RunflowClient, hundred: int) -> None:
    """From 100 to 599, without a body, nothing is raised."""
    for status in range(100 * hundred, 100 * hundred + 100):
        server.answer = http(status)
        answer = await ask(client)
        if isinstance(answer, EmbedsRefused):
            assert (answer.status, expected(status)) == (status, None)
        else:
            assert isinstance(answer, NoTree)
            assert (status, answer.trouble) == (status, expected(status))


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"code":"RATE_LIMITED","message":"slow down","errors":null}', "429 RATE_LIMITED"),
        (b'{"error":{"code":"RATE_LIMITED","message":"slow down"}}', "429 RATE_LIMITED"),
        (b'{"error":"too many","code":"RATE_LIMITED"}', "429 RATE_LIMITED"),
        (b'{"error":"too many"}', "429"),
        (b'{"code":7}', "429"),
        (b'{"code":"line\\nbreak"}', "429"),
        (b'{"code":"' + b"X" * 100 + b'"}', "429 " + "X" * 64),
        (b"[]", "429"),
        (b"<html>", "429"),
        (b"", "429"),
    ],
)
async def test_the_code_of_an_error_is_told(server: RawServer, client: RunflowClient, body: bytes, detail: str) -> None:
    """Runflow's word for it, in each shape that is known, and nothing of a body of another shape."""
    server.answer = http(429, body)
    answer = await ask(client)
    assert isinstance(answer, NoTree)
    assert answer.detail == detail
    server.answer = http(403, body)
    refused = await ask(client)
    assert isinstance(refused, EmbedsRefused)
    assert refused.detail == detail.replace("429", "403")


@pytest.mark.parametrize(
    ("header", "after"),
    [
        ("7", timedelta(seconds=7)),
        ("0", timedelta(0)),
        ("9" * 400, LONGEST),
        ("Wed, 18 Nov 2026 14:00:00 GMT", None),
        ("-1", None),
        ("1.5", None),
        ("", None),
    ],
)
async def test_the_wait_that_it_asks_for_is_told(
    server: RawServer, client: RunflowClient, header: str, after: timedelta | None
) -> None:
    """Seconds, up to an hour; what is no number of seconds is no wait."""
    server.answer = http(503, Retry_After=header)
    answer = await ask(client)
    assert answer == NoTree(Trouble.SERVER_ERROR, "503", after, 503)


async def test_a_redirect_is_not_followed(server: RawServer, client: RunflowClient) -> None:
    """The key goes to Runflow and nowhere else."""
    for status in (301, 302, 303, 307, 308):
        server.answer = http(status, Location=f"{server.url}/elsewhere")
        assert await trouble(client) is Trouble.REFUSED
    assert all("/elsewhere" not in request.partition("\r\n")[0] for request in server.requests)


async def test_an_answer_over_the_limit_is_unreadable(
    server: RawServer, client: RunflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not taken in whole, packed or not; one at the limit is."""
    body = b'{"status_code":"completed","x":"' + b"x" * 1000 + b'"}'
    monkeypatch.setattr(clients, "LARGEST_ANSWER", len(body))
    server.answer = http(200, body)
    assert isinstance(await ask(client), TreeRead)
    monkeypatch.setattr(clients, "LARGEST_ANSWER", len(body) - 1)
    server.answer = http(200, body)
    assert await trouble(client) is Trouble.UNREADABLE
    server.answer = http(200, gzip.compress(body), Content_Encoding="gzip")
    assert await trouble(client) is Trouble.UNREADABLE
    with pytest.raises(RunflowRefused, match="bytes"):
        await client.who_am_i()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00",
        b"HTTP/1.1 two hundred X\r\n\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: minus one\r\n\r\n",
        b"HTTP/1.1 200 X\r\n" + b"X: " + b"x" * 200_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_unreachable(server: RawServer, client: RunflowClient, answer: bytes) -> None:
    """Another protocol, an answer that breaks off, and one that is malformed."""
    server.answer = answer
    assert await trouble(client) is Trouble.UNREACHABLE
    with pytest.raises(RunflowRefused) as refused:
        await client.who_am_i()
    assert refused.value.status is None


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{"])
async def test_an_answer_that_does_not_end_is_cut_off(server: RawServer, begun: bytes) -> None:
    """The whole GET has a time; a server that begins to answer gets no more."""
    client = RunflowClient(server.url, KEY, timeout=0.3)
    server.answer, server.hangs = begun, True
    answer = await ask(client)
    assert isinstance(answer, NoTree)
    # The other words are for a machine so slow that not even the connection was made.
    assert (answer.trouble, answer.detail.removeprefix("no ")) in {
        (Trouble.UNREACHABLE, "answer in time"),
        (Trouble.UNREACHABLE, "connection in time"),
    }
    await client.close()


async def test_nobody_there_is_unreachable() -> None:
    """A port where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        client = RunflowClient(f"http://127.0.0.1:{held.getsockname()[1]}", KEY, timeout=PATIENCE)
        assert await ask(client) == NoTree(Trouble.UNREACHABLE, "cannot connect")
        with pytest.raises(RunflowRefused, match="cannot connect"):
            await client.who_am_i()
        await client.close()


async def test_being_cut_off_is_passed_on(server: RawServer, client: RunflowClient) -> None:
    """A stop is no failure of Runflow's: the cancellation goes through, and the connection is closed."""
    server.hangs = True
    asking = asyncio.create_task(ask(client))
    async with asyncio.timeout(PATIENCE):
        while not server.requests:
            await asyncio.wait([asking], timeout=0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    async with asyncio.timeout(PATIENCE):
        await server.left.wait()


async def test_whether_the_key_is_good() -> None:
    """A good key raises nothing; another is refused with its status, and the message shows no key."""
    async with OfflineRunflow(secret="whsec_client_tests", api_key=KEY) as runflow:
        good, bad = (RunflowClient(runflow.url, key, timeout=PATIENCE) for key in (KEY, KEY + "x"))
        await good.who_am_i()
        with pytest.raises(RunflowRefused) as refused:
            await bad.who_am_i()
        assert (refused.value.status, str(refused.value)) == (401, "answered 401 UNAUTHORIZED")
        await good.close()
        await bad.close()


async def test_more_at_once_than_there_are_connections() -> None:
    """Requests wait for a connection, and all are answered."""
    async with OfflineRunflow(secret="whsec_client_tests") as runflow:
        client = RunflowClient(runflow.url, KEY, connections=2, timeout=PATIENCE)
        ids = [runflow.add(kind="passed") for _ in range(30)]
        answers = await asyncio.gather(*(client.evaluation(each, WIDE_EMBEDS) for each in ids))
        assert [answer.evaluation.id for answer in answers if isinstance(answer, TreeRead)] == [
            str(each) for each in ids
        ]
        await client.close()
