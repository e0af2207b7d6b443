"""How answers look: Runflow's envelope for errors, and none at all."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive

from receiver.errors import (
    Conflict,
    FieldProblem,
    Invalid,
    MethodNotAllowed,
    NotFound,
    PermissionDenied,
    RequestError,
    Unauthorized,
)


class RunNotFound(NotFound):
    """There is no such run."""

    code = "RUN_NOT_FOUND"


_STATUSES: Final[Mapping[type[RequestError], int]] = {
    Unauthorized: 401,
    PermissionDenied: 403,
    NotFound: 404,
    RunNotFound: 404,
    MethodNotAllowed: 405,
    Conflict: 409,
    Invalid: 422,
}
_CODES: Final = {404: NotFound.code, 405: MethodNotAllowed.code}


def refusal(
    status: int,
    code: str,
    message: str,
    problems: Sequence[FieldProblem] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error in Runflow's envelope. (docs.runflow.io/concepts/errors)"""
    errors = None if problems is None else [problem._asdict() for problem in problems]
    return JSONResponse({"code": code, "message": message, "errors": errors}, status, headers)


def refusal_of(error: RequestError) -> Response:
    """The answer to what a caller did wrong."""
    problems = error.problems if isinstance(error, Invalid) else None
    return refusal(_STATUSES.get(type(error), 400), error.code, str(error), problems)


async def on_request_error(_: Request, error: Exception) -> Response:
    """Starlette's hook for our own errors."""
    if not isinstance(error, RequestError):
        raise error
    return refusal_of(error)


async def on_http_exception(_: Request, error: Exception) -> Response:
    """Starlette's hook for what it refuses itself: no such address, another method."""
    if not isinstance(error, HTTPException):
        raise error
    return refusal(error.status_code, _CODES.get(error.status_code, RequestError.code), error.detail)


async def gone(receive: Receive, within: float | None = None) -> None:
    """Waits until the client has left, or for so many seconds. The request's body must have been read."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            while (await receive())["type"] != "http.disconnect":
                pass


class NoAnswer(Response):
    """Stands for no answer: the client has left already, so this goes nowhere."""
