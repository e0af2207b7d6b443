"""`GET /openapi.json`: valid, the same each time, and with examples that are what it says they are."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import schemathesis
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from receiver.core.matching import WORDS
from tests.web.receivers import Receiver

PROMISED = {
    "POST /webhook/runflow",
    "GET /v1/verdicts",
    "GET /v1/verdicts/{evaluation_id}",
    "GET /v1/verdicts/{evaluation_id}/timeline",
    "GET /v1/verdicts/stream",
    "GET /v1/verdicts/export",
    "PATCH /v1/verdicts/{evaluation_id}/feedback",
    "GET /v1/stats",
    "GET /v1/deliveries",
    "POST /v1/deliveries/{delivery_id}/retry",
    "GET /healthz",
    "GET /readyz",
    "GET /schemas/verdict.v1.json",
    "GET /openapi.json",
    "GET /docs",
}
METHODS = ("get", "post", "put", "patch", "delete")


@pytest.fixture
async def document(on_sqlite: Receiver) -> dict[str, Any]:
    """The document as it is served, without a token."""
    answer = await on_sqlite.get("/openapi.json", token=None)
    assert answer.status == 200
    content: dict[str, Any] = answer.json
    return content


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each operation under `METHOD path`."""
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                yield f"{method.upper()} {path}", methods[method]


async def test_it_is_openapi(document: dict[str, Any]) -> None:
    """The document must be one that the specification's own schema takes."""
    assert document["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(document).validate()


async def test_what_is_described(document: dict[str, Any]) -> None:
    """Every address that is promised is in it, and its name is given once."""
    assert set(dict(operations(document))) >= PROMISED
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(names) == len(set(names))


async def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    """Every `$ref` is to something in the document, and no schema is there for nothing."""
    refs = set(_refs(document))
    for ref in refs:
        place: Any = document
        for step in ref.removeprefix("#/").split("/"):
            place = place[step]
    named = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert {ref for ref in refs if "/schemas/" in ref} == named


def _refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(ref := value.get("$ref"), str):
            yield ref
        for each in value.values():
            yield from _refs(each)
    elif isinstance(value, list):
        for each in value:
            yield from _refs(each)


def _examples(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each example with its schema."""
    if isinstance(value, dict):
        if "example" in value and "schema" in value:
            yield value["example"], value["schema"]
        for each in value.values():
            yield from _examples(each)
    elif isinstance(value, list):
        for each in value:
            yield from _examples(each)


async def test_examples_fit(document: dict[str, Any]) -> None:
    """Every example must be an instance of the schema it stands beside, formats and all."""
    document = json.loads(json.dumps(document).replace('"#/', '"urn:document#/'))
    registry: Registry[Any] = Registry().with_resource("urn:document", DRAFT202012.create_resource(document))
    checker = jsonschema.FormatChecker()
    examples = list(_examples(document))
    assert len(examples) > 10
    for example, schema in examples:
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.Draft202012Validator(schema, registry=registry, format_checker=checker).validate(example)


async def test_json_is_shown_by_example(document: dict[str, Any]) -> None:
    """Each answer and each body in JSON has an example, unless its shape is not ours."""
    without = [
        f"{name} {status}"
        for name, operation in operations(document)
        for status, answer in operation["responses"].items()
        for media, content in answer.get("content", {}).items()
        if media == "application/json" and "example" not in content
    ]
    assert without == ["GET /openapi.json 200"]


async def test_errors_have_one_shape(document: dict[str, Any]) -> None:
    """Every status from 400 on is answered with the one shape of errors, but for readiness, whose 503 says more."""
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            if status < "400" or (name, status) == ("GET /readyz", "503"):
                continue
            told = (
                document["components"]["responses"][answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
            )
            assert told["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}, (
                name,
                status,
            )


async def test_errors_that_follow(document: dict[str, Any]) -> None:
    """What needs a token tells of 401 and of a database that is away; what needs a right tells of 403."""
    for name, operation in operations(document):
        statuses = set(operation["responses"])
        rights = [right for each in operation["security"] for right in each["token"]]
        assert ("401" in statuses, "503" in statuses) >= (bool(rights), bool(rights)), name
        assert ("403" in statuses) == (rights == ["operate"]), name
        assert "500" in statuses


async def test_the_words_of_the_filter(document: dict[str, Any]) -> None:
    """The list's parameters are the filter's words and the three of paging, each with a description."""
    parameters = document["paths"]["/v1/verdicts"]["get"]["parameters"]
    assert [each["name"] for each in parameters] == [*WORDS, "limit", "cursor", "sort"]
    assert all(each["description"] and each["in"] == "query" and not each["required"] for each in parameters)


DESCRIBE = """
import sys
from receiver.app import create_app
from receiver.web.access import Access
from receiver.web.api import Api
from receiver.web.callbacks import Callbacks
from receiver.web.description import Description
from receiver.web.health import Health
from receiver.web.operations import table_of
description = Description()
endpoints = [Callbacks(), Api(None), Health(None, None), description]
description.table = table_of(endpoints)
sys.stdout.buffer.write(description._document)
"""


def test_the_same_in_each_process() -> None:
    """The document is the same bytes whatever the hash seed of the process is."""
    said = {
        subprocess.run(
            [sys.executable, "-c", DESCRIBE], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    [text] = said
    assert json.loads(text)["openapi"]
