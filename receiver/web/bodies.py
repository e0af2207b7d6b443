"""Bodies of the API's requests: JSON of one closed shape, with an error that names each wrong field."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from receiver.errors import BodyTooLarge, FieldProblem, Invalid, UnsupportedMediaType
from receiver.web.operations import JSON

MOST_BYTES = 64 * 1024
"""No request of the API has more to say."""
Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: Request, model: type[Model]) -> Model:
    """The body as this model. Raises `UnsupportedMediaType`, `BodyTooLarge` and `Invalid`."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != JSON:
        raise UnsupportedMediaType(f"the body must be JSON: Content-Type: {JSON}")
    body = await read_bytes(request)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise Invalid([_problem(each) for each in error.errors(include_url=False, include_input=False)]) from None


async def read_bytes(request: Request, most: int = MOST_BYTES) -> bytes:
    """The body as it came. Raises `BodyTooLarge`."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise BodyTooLarge(f"the body is over the limit of {most} bytes")
    return body


def _problem(error: Mapping[str, Any]) -> FieldProblem:
    place = ".".join(map(str, error["loc"])) or "body"
    return FieldProblem(place, plain(error))


def plain(error: Mapping[str, Any]) -> str:
    """What pydantic says is wrong, to stand behind the name of what is wrong."""
    return str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
