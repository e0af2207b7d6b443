"""`GET /v1/verdicts/{evaluation_id}` and `GET /schemas/verdict.v1.json`."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jsonschema
import pytest

from receiver.core.callback import read_callback
from receiver.core.evaluation import Evaluation
from receiver.core.verdict import Verdict, from_callback, from_tree, json_schema
from tests.web.receivers import Receiver, callback, until
from tests.web.seeds import NOON, key, store, verdict

EMBEDS = ("run", "model", "flow", "comfyui_workflow", "parent_evaluation")
REFUSED_EMBED = "must be of run, model, flow, comfyui_workflow, parent_evaluation"


@pytest.fixture
def tree(samples: Path) -> dict[str, Any]:
    """What Runflow answers, with all embeds but two."""
    content: dict[str, Any] = json.loads((samples / "evaluation_full.json").read_bytes())
    return content


@pytest.fixture
async def complete(receiver: Receiver, tree: dict[str, Any]) -> Verdict:
    """A stored verdict with its tree."""
    read, _ = Evaluation.read(json.dumps(tree).encode())
    found = from_tree(read, verdict(1, evaluation_id=UUID(tree["id"])))
    await store(receiver, found, tree=tree)
    return found.model_copy(update={"revision": 1})


async def test_pending(receiver: Receiver) -> None:
    """Before its tree is fetched an evaluation is shown as the callback told it, whole and with `tree: pending`."""
    evaluation_id, body = callback(client_ref="order-1", top_strengths=["light"])
    await receiver.post(body)

    async def is_there() -> bool:
        return (await receiver.get(f"/v1/verdicts/{evaluation_id}")).status == 200

    await until(is_there, "the verdict")
    content = (await receiver.get(f"/v1/verdicts/{evaluation_id}")).json
    read, _ = read_callback(body, "evaluation.completed")
    known = from_callback(
        read, evaluation_id=evaluation_id, event="evaluation.completed", received_at=NOON, origin="callback"
    ).model_dump(mode="json")
    assert content == known | {"received_at": content["received_at"], "tree": "pending", "revision": 0}
    assert content["received_at"].endswith("Z")
    assert (content["judges"], content["action"], content["client_ref"]) == ([], None, "order-1")


async def test_complete(receiver: Receiver, complete: Verdict) -> None:
    """The whole normalised result: all judges with their reasons, and nothing that is not `verdict.v1`."""
    answer = await receiver.get(f"/v1/verdicts/{complete.evaluation_id}")
    assert (answer.status, answer.json) == (200, complete.model_dump(mode="json"))
    assert [judge["reasoning"] for judge in answer.json["judges"]] == [judge.reasoning for judge in complete.judges]
    assert complete.judges
    jsonschema.validate(answer.json, json_schema())


async def test_embeds(receiver: Receiver, complete: Verdict, tree: dict[str, Any]) -> None:
    """`embed` adds what Runflow embedded, as it came, null where it did not; several by comma or one by one."""
    plain = complete.model_dump(mode="json")
    for query, names in (
        ("embed=run", ["run"]),
        ("embed=run,model", ["run", "model"]),
        ("embed=model&embed=parent_evaluation,run", ["model", "parent_evaluation", "run"]),
        ("embed=flow", ["flow"]),
        (f"embed={','.join(EMBEDS)}", list(EMBEDS)),
        ("embed=", []),
        ("embed=,run,,run", ["run"]),
    ):
        answer = await receiver.get(f"/v1/verdicts/{complete.evaluation_id}?{query}")
        assert (answer.status, answer.json) == (200, plain | {name: tree.get(name) for name in names}), query
    assert tree["run"]


async def test_embeds_before_the_fetch(receiver: Receiver) -> None:
    """Where no tree is stored, the embeds are null."""
    await store(receiver, verdict(1, tree="pending"))
    answer = await receiver.get(f"/v1/verdicts/{key(1)}?embed=run,model")
    assert (answer.status, answer.json["run"], answer.json["model"]) == (200, None, None)


@pytest.mark.parametrize(
    ("query", "problems"),
    [
        ("embed=judges", [("embed", REFUSED_EMBED)]),
        ("embed=run,runs,%20", [("embed", REFUSED_EMBED)] * 2),
        ("embed=run&fields=id", [("fields", "unknown; there is embed")]),
        ("a=1&embed=x&a=2", [("a", "unknown; there is embed"), ("embed", REFUSED_EMBED)]),
        ("embed=%00%ED%A0%80", [("embed", REFUSED_EMBED)]),
    ],
)
async def test_what_is_refused(on_sqlite: Receiver, query: str, problems: list[tuple[str, str]]) -> None:
    """An unknown embed or parameter must be a 422 that names it."""
    await store(on_sqlite, verdict(1))
    answer = await on_sqlite.get(f"/v1/verdicts/{key(1)}?{query}")
    assert (answer.status, answer.json["code"]) == (422, "VALIDATION_ERROR")
    assert [(problem["field"], problem["message"]) for problem in answer.json["errors"]] == problems


async def test_an_unknown_evaluation(receiver: Receiver) -> None:
    """What is not here is a 404 that says so."""
    unknown = uuid4()
    answer = await receiver.get(f"/v1/verdicts/{unknown}")
    message = f"there is no evaluation {unknown} here"
    assert (answer.status, answer.json) == (404, {"code": "NOT_FOUND", "message": message, "errors": None})


@pytest.mark.parametrize("text", ["1", "none", "%00", "%ED%A0%80", "%2e%2e", "0" * 5000, "null", " ", "%F0%9F%92%A9"])
async def test_what_is_no_id(on_sqlite: Receiver, text: str) -> None:
    """What cannot be an evaluation's id is not found, whatever it is."""
    answer = await on_sqlite.get(f"/v1/verdicts/{text.replace(' ', '%20')}")
    assert (answer.status, answer.json["code"]) == (404, "NOT_FOUND")


async def test_an_id_in_another_case(receiver: Receiver) -> None:
    """An id is a UUID, whose letters have no case."""
    await store(receiver, verdict(1))
    answer = await receiver.get(f"/v1/verdicts/{str(key(1)).upper()}")
    assert (answer.status, answer.json["evaluation_id"]) == (200, str(key(1)))


async def test_the_schema(on_sqlite: Receiver) -> None:
    """The JSON Schema of a verdict is served to everybody, as it is made from the model."""
    answer = await on_sqlite.get("/schemas/verdict.v1.json", token=None)
    assert (answer.status, answer.all("content-type")) == (200, ["application/schema+json"])
    assert json.loads(answer.body) == json_schema()
    jsonschema.Draft202012Validator.check_schema(json_schema())
