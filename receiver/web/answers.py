"""Errors as answers, in Runflow's own shape: `{"code": …, "message": …, "errors": …}`. The one table from error to status."""

import math
from collections.abc import Mapping

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from receiver import errors

RETRY_AFTER_SECONDS = 5

STATUS: Mapping[type[errors.ReceiverError], int] = {
    errors.Unauthorized: 401,
    errors.PermissionDenied: 403,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.Conflict: 409,
    errors.BodyTooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.Invalid: 422,
    errors.RateLimited: 429,
    errors.RunflowRefusesKey: 502,
    errors.StoreUnavailable: 503,
    errors.RunflowAway: 504,
}

log = structlog.get_logger()


def json_answer(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def error_answer(error: errors.ReceiverError) -> Response:
    """The answer to an error of ours. What went wrong inside is for the log, not for the caller."""
    status = STATUS[type(error)]
    if isinstance(error, errors.StoreUnavailable):
        content = {"code": "UNAVAILABLE", "message": "cannot store or read just now, try again later", "errors": None}
        return json_answer(content, status, {"Retry-After": str(RETRY_AFTER_SECONDS)})
    problems = [problem._asdict() for problem in error.problems] if isinstance(error, errors.Invalid) else None
    code = error.code if isinstance(error, errors.RequestError) else "INTERNAL_ERROR"
    return json_answer({"code": code, "message": str(error), "errors": problems}, status, _headers(error))


def _headers(error: errors.ReceiverError) -> dict[str, str]:
    if isinstance(error, errors.Unauthorized):
        return {"WWW-Authenticate": error.scheme}
    if isinstance(error, errors.MethodNotAllowed):
        return {"Allow": error.allowed}
    if isinstance(error, errors.RunflowNotNow):
        return {"Retry-After": str(math.ceil(error.after or RETRY_AFTER_SECONDS))}
    return {}


async def _ours(_request: Request, error: Exception) -> Response:
    if not isinstance(error, errors.ReceiverError):
        raise error
    return error_answer(error)


async def _of_starlette(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:
        return error_answer(errors.NotFound("there is nothing at this address"))
    headers = dict(getattr(error, "headers", None) or {})
    if status == 405:
        # Starlette keeps the methods of a route as a set, whose order is another in each process.
        return error_answer(errors.MethodNotAllowed(", ".join(sorted(headers["Allow"].split(", ")))))
    return json_answer(
        {"code": "BAD_REQUEST", "message": "the request is not understood", "errors": None}, status, headers
    )


DEFECT_ANSWER = json_answer(
    {"code": "INTERNAL_ERROR", "message": "this is a defect of the receiver", "errors": None}, 500
)
"""The caller learns nothing of the inside."""


async def _unforeseen(_request: Request, _error: Exception) -> Response:
    """Starlette logs it with its traceback by raising it on."""
    return DEFECT_ANSWER


HANDLERS: Mapping[type[Exception] | int, ExceptionHandler] = {
    errors.ReceiverError: _ours,
    HTTPException: _of_starlette,
    Exception: _unforeseen,
}
