"""The route table: each operation of the HTTP side once, as data. It is what is served, and what `/openapi.json` says.

To add an endpoint, write its handler as a method of the class whose subject it is, and describe it in what the class's
`operations()` returns:

    Operation(
        "show_thing", "GET", "/v1/things/{thing_id}", self.show_thing, "One thing",
        right="read",                              # None: open to all; "operate": 403 for a token that may only read
        parameters=(THING_ID, Parameter("colour", "Only of this colour.", {"type": "string"})),
        body=ThingChange,                          # a pydantic model, read with `receiver.web.bodies.read_body`
        answers=(Answer(200, "The thing.", Thing, example={"id": 1}),),
        errors=(NotFound,),                        # beside those that follow from all of the above
    )

`Thing` is a pydantic model; an example must fit it, which a test checks. A class that is new is named in `receiver.wiring`,
where the application is made of all of them. The token is checked before the handler is called (`request.state.caller` is its
label), so that no handler can forget it; HEAD, 405 and the order of addresses need no thought either.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from receiver.errors import (
    BodyTooLarge,
    Invalid,
    PermissionDenied,
    ReceiverError,
    StoreUnavailable,
    Unauthorized,
    UnsupportedMediaType,
)
from receiver.web.access import Access, Right

JSON = "application/json"

Handler = Callable[[Request], Awaitable[Response]]
Shape = type[BaseModel] | Mapping[str, Any]
"""A model, or a JSON Schema where there is none."""


@dataclass(frozen=True)
class Parameter:
    """One parameter: of the query, unless `place` says otherwise. One that may be given several times is an array."""

    name: str
    description: str
    schema: Mapping[str, Any]
    place: Literal["query", "path", "header"] = "query"
    required: bool = False
    example: Any = None
    explode: bool = True
    """Of an array: whether it is given once for each value; if not, once with commas between."""


@dataclass(frozen=True)
class Answer:
    """What is answered when all is well. Several with one status and different media types are one of them."""

    status: int
    description: str
    shape: Shape | None = None
    example: Any = None
    media: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names of headers worth telling, with their descriptions."""


@dataclass(frozen=True)
class Operation:
    """One method of one address. `name` is its `operationId`, which clients are generated from."""

    name: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    handler: Handler | None
    """None for the hook, which is served before any routing."""
    summary: str
    description: str = ""
    tag: str = "verdicts"
    right: Right | None = None
    parameters: Sequence[Parameter] = ()
    body: Shape | None = None
    body_example: Any = None
    answers: Sequence[Answer] = ()
    errors: Sequence[type[ReceiverError]] = ()

    @property
    def all_errors(self) -> list[type[ReceiverError]]:
        """Those that are named and those that follow from the rest, each once."""
        takes = isinstance(self.body, type) or any(each.place == "query" for each in self.parameters)
        implied = (
            (Unauthorized, self.right is not None),
            (PermissionDenied, self.right == "operate"),
            (BodyTooLarge, isinstance(self.body, type)),
            (UnsupportedMediaType, isinstance(self.body, type)),
            (Invalid, takes),
            (StoreUnavailable, self.right is not None),
        )
        return list(dict.fromkeys([*(error for error, is_so in implied if is_so), *self.errors]))


class Endpoints(Protocol):
    """Handlers of one subject, and their part of the table."""

    def operations(self) -> Sequence[Operation]:
        """What is served."""
        ...


def table_of(endpoints: Iterable[Endpoints]) -> list[Operation]:
    """All operations of all subjects, in their order."""
    return [operation for each in endpoints for operation in each.operations()]


def routes_of(operations: Iterable[Operation], access: Access) -> list[BaseRoute]:
    """The table as Starlette serves it: one route for each address, those without parameters before those with."""
    by_path: dict[str, dict[str, Handler]] = {}
    for each in operations:
        if each.handler is not None:
            by_path.setdefault(each.path, {})[each.method] = _guarded(each.handler, each.right, access)
    paths = sorted(by_path, key=lambda path: path.count("{"))
    return [Route(path, _by_method(by_path[path]), methods=list(by_path[path])) for path in paths]


def _guarded(handler: Handler, right: Right | None, access: Access) -> Handler:
    async def answered(request: Request) -> Response:
        if right is not None:
            request.state.caller = access.require(request, right)
        response = await handler(request)
        if request.method == "HEAD" and isinstance(response, StreamingResponse):  # nothing begins to flow
            response = Response(status_code=response.status_code, headers=dict(response.headers))
            del response.headers["Content-Length"]
        return response

    return answered


def _by_method(handlers: Mapping[str, Handler]) -> Handler:
    async def answered(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await handlers[method](request)

    return answered
