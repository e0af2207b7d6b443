"""Errors have one shape everywhere, and nothing of the inside is in them."""

from typing import cast

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import HTTPExceptionHandler

from receiver import errors
from receiver.web.answers import HANDLERS, STATUS, error_answer
from tests.web.logged import Lines
from tests.web.receivers import Receiver, callback
from tests.web.seeds import key
from tests.web.wire import Answer

NOT_FOUND = {"code": "NOT_FOUND", "message": "there is nothing at this address", "errors": None}
INTERNAL = {"code": "INTERNAL_ERROR", "message": "this is a defect of the receiver", "errors": None}
SERVED = [
    "/healthz",
    "/readyz",
    "/v1/verdicts",
    f"/v1/verdicts/{key(1)}",
    "/schemas/verdict.v1.json",
    "/openapi.json",
    "/docs",
]


@pytest.mark.parametrize(
    "target",
    [
        "/", "/webhook", "/webhook/runflow/", "/webhook/runflow/x", "//webhook/runflow", "/WEBHOOK/RUNFLOW", "/healthz/",
        "/v1", "/v1/verdicts/", f"/v1/verdicts/{key(1)}/", f"/v1/verdicts/{key(1)}/judges", "/v1/verdicts%2F1%2F2",
        "/schemas", "/%00", "/%ff%fe", "/..%2f..%2fetc/passwd", "/" + "x" * 20_000, "/favicon.ico",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_unknown_addresses(on_sqlite: Receiver, method: str, target: str) -> None:
    """An address that is not served is a 404 of the usual shape; none redirects, for that would be to whatever Host said."""
    answer = await on_sqlite.ask(method, target, [("Authorization", "Bearer x")])
    assert (answer.status, answer.json) == (404, NOT_FOUND)


@pytest.mark.parametrize("target", SERVED)
async def test_wrong_methods(on_sqlite: Receiver, target: str) -> None:
    """A method that an address does not take is a 405 that names those it does; HEAD goes with GET."""
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = await on_sqlite.ask(method, target, [], b"{}")
        error = {"code": "METHOD_NOT_ALLOWED", "message": "only GET, HEAD is served here", "errors": None}
        assert (answer.status, answer.json, answer.all("allow")) == (405, error, ["GET, HEAD"])


async def test_head(on_sqlite: Receiver) -> None:
    """HEAD is answered as GET is, without the body."""
    answer = await on_sqlite.ask("HEAD", "/healthz")
    assert (answer.status, answer.body, answer.all("content-length")) == (200, b"", ["15"])


class Broken(Exception):
    """What nobody foresaw, with words that must not get out."""


async def _break(*_: object, **__: object) -> None:
    raise Broken("at line 17 with password hunter2")


def _break_at_once(*_: object) -> None:
    raise Broken("at line 17 with password hunter2")


def is_internal(answer: Answer) -> bool:
    return (answer.status, answer.json, b"hunter2" in answer.body) == (500, INTERNAL, False)


async def test_a_defect_of_ours(on_sqlite: Receiver, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw must be answered 500 without a word of it, be logged with its traceback, and harm nobody else."""
    monkeypatch.setattr(on_sqlite.service.database, "read", _break)
    monkeypatch.setattr(on_sqlite.service.intake, "accept", _break_at_once)
    assert is_internal(await on_sqlite.get("/v1/verdicts"))
    assert is_internal(await on_sqlite.get(f"/v1/verdicts/{key(1)}"))
    assert is_internal(await on_sqlite.post(callback()[1]))
    assert is_internal(await on_sqlite.post(b"{}"))
    monkeypatch.undo()
    told = [line for line in lines if line["level"] == "error" and "exception" in line]
    assert ["Broken: at line 17 with password hunter2" in line["exception"] for line in told] == [True] * 4
    assert (await on_sqlite.post(callback()[1])).status == 202


@pytest.mark.parametrize(
    ("error", "status", "code", "headers"),
    [
        (errors.Unauthorized("who?"), 401, "UNAUTHORIZED", {"www-authenticate": "Bearer"}),
        (errors.PermissionDenied("no"), 403, "PERMISSION_DENIED", {}),
        (errors.NotFound("where?"), 404, "NOT_FOUND", {}),
        (errors.MethodNotAllowed("PUT"), 405, "METHOD_NOT_ALLOWED", {"allow": "PUT"}),
        (errors.Conflict("again?"), 409, "CONFLICT", {}),
        (errors.BodyTooLarge("so much"), 413, "BODY_TOO_LARGE", {}),
        (errors.UnsupportedMediaType("XML"), 415, "UNSUPPORTED_MEDIA_TYPE", {}),
        (errors.Invalid([errors.FieldProblem("a", "is b")]), 422, "VALIDATION_ERROR", {}),
        (errors.RateLimited("slowly", 6.2), 429, "RATE_LIMITED", {"retry-after": "7"}),
        (errors.RunflowRefusesKey("401"), 502, "RUNFLOW_REFUSED", {}),
        (errors.RunflowAway("gone"), 504, "RUNFLOW_UNAVAILABLE", {"retry-after": "5"}),
        (errors.StoreUnavailable("disk", "hunter2"), 503, "UNAVAILABLE", {"retry-after": "5"}),
    ],
)
def test_the_table_of_statuses(error: errors.ReceiverError, status: int, code: str, headers: dict[str, str]) -> None:
    """Each error has one status, one code and one shape; `errors` is there for fields alone."""
    answer = Answer(*_read(error_answer(error)))
    assert (answer.status, answer.json["code"]) == (status, code)
    assert set(answer.json) == {"code", "message", "errors"}
    assert answer.json["errors"] == ([{"field": "a", "message": "is b"}] if code == "VALIDATION_ERROR" else None)
    assert {name: value for name, value in answer.headers if not name.startswith("content-")} == headers
    assert "hunter2" not in answer.body.decode()


def test_every_error_of_a_request_has_a_status() -> None:
    """No error that a request can end in is left out of the table."""
    kinds = {*errors.RequestError.__subclasses__(), *errors.RunflowNotNow.__subclasses__()} - {errors.RunflowNotNow}
    assert set(STATUS) == {*kinds, errors.StoreUnavailable}


def _read(response: Response) -> tuple[int, list[tuple[str, str]], bytes]:
    return response.status_code, response.headers.items(), bytes(response.body)


async def test_errors_of_the_framework() -> None:
    """What Starlette itself refuses has the same shape, with the headers that Starlette gave it and none of its words."""
    error = HTTPException(400, "the words of the framework", {"x-reason": "parse"})
    handler = cast("HTTPExceptionHandler", HANDLERS[HTTPException])
    response = handler(Request({"type": "http"}), error)
    answer = Answer(*_read(response if isinstance(response, Response) else await response))
    assert (answer.status, answer.all("x-reason")) == (400, ["parse"])
    assert answer.json == {"code": "BAD_REQUEST", "message": "the request is not understood", "errors": None}
