"""OpenAPI 3.1 made from the route table: the shapes are the models' own, and the errors are answered as they are shown."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from receiver import __version__, errors
from receiver.web.answers import DEFECT_ANSWER, STATUS, error_answer
from receiver.web.operations import JSON, Answer, Operation, Parameter, Shape
from receiver.web.shapes import Error

VERSION: Final = "3.1.1"
_REF: Final = "#/components/schemas/{model}"
_CONVERTOR: Final = re.compile(r"\{(\w+):\w+\}")

_EXAMPLES: Final[Mapping[type[errors.ReceiverError], tuple[str, errors.ReceiverError]]] = {
    errors.Unauthorized: (
        "No token, or one that is not good. Which of the two is not told.",
        errors.Unauthorized("a token is needed: Authorization: Bearer TOKEN, one of RECEIVER_API_TOKENS"),
    ),
    errors.PermissionDenied: (
        "A token that may read and not do this.",
        errors.PermissionDenied("this token may read; one made as label:operate=TOKEN may do this"),
    ),
    errors.NotFound: ("There is no such thing here.", errors.NotFound("there is nothing at this address")),
    errors.MethodNotAllowed: ("Another method than those in `Allow`.", errors.MethodNotAllowed("POST")),
    errors.Conflict: ("It is not in a state in which this can be done.", errors.Conflict("it was delivered before")),
    errors.BodyTooLarge: (
        "The body is over the limit.",
        errors.BodyTooLarge("the body is over the limit of 1048576 bytes"),
    ),
    errors.UnsupportedMediaType: (
        "The body is not JSON by its `Content-Type`.",
        errors.UnsupportedMediaType("the body must be JSON: Content-Type: application/json"),
    ),
    errors.Invalid: (
        "A parameter or a field is unknown or wrong; `errors` names each.",
        errors.Invalid([errors.FieldProblem("limit", "must be a whole number from 1 to 500")]),
    ),
    errors.RateLimited: (
        "Runflow takes no more just now. Trying again after `Retry-After` is right.",
        errors.RateLimited("Runflow answered 429 RATE_LIMITED: too many requests; say it again later", 1),
    ),
    errors.RunflowRefusesKey: (
        "Runflow does not take this service's key for this, or there is none. Whoever runs the service has to mend it.",
        errors.RunflowRefusesKey("RUNFLOW_API_KEY is not set, so nothing can be handed on to Runflow"),
    ),
    errors.RunflowAway: (
        "Runflow did not answer, or is in trouble. Trying again after `Retry-After` is right, and does no harm.",
        errors.RunflowAway(
            "Runflow: no answer in time; whether it was taken is not known, and to say it again does no harm"
        ),
    ),
    errors.StoreUnavailable: (
        "The database cannot be used just now. Trying again after `Retry-After` is right.",
        errors.StoreUnavailable("database", ""),
    ),
}
"""What each error means, and one of its kind."""

Mode = Literal["validation", "serialization"]


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The whole document. The same table gives the same document, in the same order."""
    refs, definitions = _schemas(operations)
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for each in operations:
        paths[_CONVERTOR.sub(r"{\1}", each.path)][each.method.lower()] = _operation(each, refs)
    return {
        "openapi": VERSION,
        "info": {
            "title": "runflow-receiver",
            "version": __version__,
            "summary": "Stored verdicts of Runflow's evaluations.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": dict(paths),
        "components": {
            "schemas": definitions,
            "responses": {error.__name__: _error(error) for error in _EXAMPLES} | {"Defect": _defect()},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of RECEIVER_API_TOKENS. One that may operate may read too.",
                },
            },
        },
    }


def _schemas(operations: Sequence[Operation]) -> tuple[Mapping[Any, Any], dict[str, Any]]:
    """For each model in each of its two roles where it is, and all definitions by name."""
    wanted: dict[tuple[type[BaseModel], Mode], None] = {(Error, "serialization"): None}
    for each in operations:
        for answer in each.answers:
            if isinstance(answer.shape, type):
                wanted[answer.shape, "serialization"] = None
        if isinstance(each.body, type):
            wanted[each.body, "validation"] = None
    refs, schema = models_json_schema(list(wanted), ref_template=_REF)
    return refs, dict(sorted(schema["$defs"].items()))


def _operation(operation: Operation, refs: Mapping[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "security": [{"token": [operation.right]}] if operation.right else [],
    }
    if operation.description:
        described["description"] = operation.description
    if operation.parameters:
        described["parameters"] = [_parameter(each) for each in operation.parameters]
    if operation.body is not None:
        content = {"schema": _schema(operation.body, refs, "validation")} | _example(operation.body_example)
        # A body whose shape is not ours is looked at by its handler, which has an answer to none as well.
        described["requestBody"] = {"required": isinstance(operation.body, type), "content": {JSON: content}}
    return described | {"responses": _answers(operation, refs)}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    style = {} if parameter.explode else {"style": "form", "explode": False}
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required or parameter.place == "path",
        "description": parameter.description,
        "schema": parameter.schema,
        **style,
        **_example(parameter.example),
    }


def _example(example: Any) -> dict[str, Any]:
    return {} if example is None else {"example": example}


def _answers(operation: Operation, refs: Mapping[Any, Any]) -> dict[str, Any]:
    by_status: dict[str, Any] = {}
    for answer in operation.answers:
        told = by_status.setdefault(str(answer.status), {"description": answer.description})
        if answer.shape is not None:
            told.setdefault("content", {}).update(_content(answer.shape, answer, refs))
        if answer.headers:
            told["headers"] = _headers(answer.headers)
    for error in operation.all_errors:
        by_status.setdefault(str(STATUS[error]), {"$ref": f"#/components/responses/{error.__name__}"})
    by_status.setdefault("500", {"$ref": "#/components/responses/Defect"})
    return dict(sorted(by_status.items()))


def _content(shape: Shape, answer: Answer, refs: Mapping[Any, Any]) -> dict[str, Any]:
    return {answer.media: {"schema": _schema(shape, refs)} | _example(answer.example)}


def _schema(shape: Shape, refs: Mapping[Any, Any], mode: Mode = "serialization") -> Any:
    return refs[shape, mode] if isinstance(shape, type) else shape


def _headers(headers: Mapping[str, str]) -> dict[str, Any]:
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()}


def _error(error: type[errors.ReceiverError]) -> dict[str, Any]:
    description, one = _EXAMPLES[error]
    answer = error_answer(one)
    named = {
        "retry-after": "Seconds until trying again is worth it.",
        "www-authenticate": "What is wanted.",
        "allow": "The methods.",
    }
    headers = {name.title(): text for name, text in named.items() if name in answer.headers}
    told = {"description": description, "content": _error_content(bytes(answer.body))}
    return told | ({"headers": _headers(headers)} if headers else {})


def _defect() -> dict[str, Any]:
    return {"description": "A defect of the receiver.", "content": _error_content(bytes(DEFECT_ANSWER.body))}


def _error_content(body: bytes) -> dict[str, Any]:
    return {JSON: {"schema": {"$ref": _REF.format(model=Error.__name__)}, "example": json.loads(body)}}
