"""The route table as it is served: rights before handlers, methods, HEAD, and the order of addresses."""

from collections.abc import AsyncIterator

import pytest
from pydantic import BaseModel, ConfigDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.testclient import TestClient

from receiver.errors import Conflict
from receiver.settings.tokens import read_tokens
from receiver.web.access import Access
from receiver.web.answers import HANDLERS
from receiver.web.bodies import read_body
from receiver.web.operations import Operation, routes_of

FLOWED: list[bytes] = []


async def who(request: Request) -> Response:
    """Tells the caller's label."""
    return PlainTextResponse(f"{request.method} {request.state.caller}")


async def which(request: Request) -> Response:
    """Tells the parameter of its address."""
    return PlainTextResponse(f"thing {request.path_params['thing_id']}")


async def flow(_request: Request) -> Response:
    """Streams, and keeps what went out."""

    async def chunks() -> AsyncIterator[bytes]:
        FLOWED.append(b"x")
        yield b"x"

    return StreamingResponse(chunks(), media_type="text/event-stream")


TABLE = [
    Operation("show_thing", "GET", "/things/{thing_id}", which, ""),
    Operation("stream_things", "GET", "/things/stream", flow, ""),
    Operation("show_owner", "GET", "/owner", who, "", right="read"),
    Operation("set_owner", "PUT", "/owner", who, "", right="operate"),
]


@pytest.fixture
def client() -> TestClient:
    """A client of the table."""
    access = Access(read_tokens("reader:read=r,operator:operate=o"))
    return TestClient(Starlette(routes=routes_of(TABLE, access), exception_handlers=dict(HANDLERS)))


@pytest.mark.parametrize(
    ("method", "token", "status", "said"),
    [
        ("GET", "r", 200, "GET reader"),
        ("GET", "o", 200, "GET operator"),
        ("PUT", "o", 200, "PUT operator"),
        ("PUT", "r", 403, "PERMISSION_DENIED"),
        ("PUT", "x", 401, "UNAUTHORIZED"),
        ("GET", "x", 401, "UNAUTHORIZED"),
    ],
)
def test_rights(client: TestClient, method: str, token: str, status: int, said: str) -> None:
    """Each method of an address has its own right, and the handler is told who it is."""
    answer = client.request(method, "/owner", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, said in answer.text) == (status, True)


def test_methods_of_one_address(client: TestClient) -> None:
    """A method that is none of an address's is told all that are, in the same order in each process."""
    answer = client.delete("/owner")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, PUT")


def test_literal_addresses_first(client: TestClient) -> None:
    """An address without a parameter is found, wherever it stands in the table."""
    assert client.get("/things/stream").text == "x"
    assert client.get("/things/7").text == "thing 7"


def test_head_of_a_stream(client: TestClient) -> None:
    """HEAD has the headers of GET, and nothing begins to flow that nobody would read."""
    FLOWED.clear()
    answer = client.head("/things/stream")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert FLOWED == []


class Change(BaseModel):
    """What `PATCH /things/{thing_id}` takes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    is_good: bool
    reason: str | None = None


async def change(request: Request) -> Response:
    """Tells what it was sent."""
    return PlainTextResponse(repr(await read_body(request, Change)))


TABLE.append(Operation("change_thing", "PATCH", "/things/{thing_id}", change, "", body=Change))
TYPE = "application/json"


@pytest.mark.parametrize(
    ("body", "media", "status", "problems"),
    [
        (b'{"is_good": true}', TYPE, 200, None),
        (b'{"is_good": false, "reason": "x"}', "Application/JSON; charset=utf-8", 200, None),
        (b'{"is_good": true}', "text/plain", 415, None),
        (b'{"is_good": true}', "", 415, None),
        (b" " * 70_000, TYPE, 413, None),
        (b"", TYPE, 422, ["body"]),
        (b"{", TYPE, 422, ["body"]),
        (b"[]", TYPE, 422, ["body"]),
        (b"\xff", TYPE, 422, ["body"]),
        (b'{"is_good": "yes", "more": 1}', TYPE, 422, ["is_good", "more"]),
        (b'{"reason": 1}', TYPE, 422, ["is_good", "reason"]),
    ],
    ids=range(11),
)
def test_bodies(client: TestClient, body: bytes, media: str, status: int, problems: list[str] | None) -> None:
    """A body is JSON of its shape, or the answer says what is wrong with it, and shows nothing of it."""
    answer = client.patch("/things/1", content=body, headers={"Content-Type": media})
    assert answer.status_code == status, answer.text
    if status != 200:
        told = answer.json()["errors"]
        assert (told and sorted(each["field"] for each in told)) == problems
        assert "yes" not in answer.text


def test_errors_that_follow() -> None:
    """What a right and a body make possible need not be named."""
    plain = Operation("a", "POST", "/a", who, "", errors=(Conflict,))
    rightful = Operation("a", "POST", "/a", who, "", right="operate", body=Change, errors=(Conflict,))
    assert [error.__name__ for error in plain.all_errors] == ["Conflict"]
    assert {error.__name__ for error in rightful.all_errors} == {
        "Unauthorized", "PermissionDenied", "BodyTooLarge", "UnsupportedMediaType", "Invalid", "StoreUnavailable", "Conflict",
    }  # fmt: skip
