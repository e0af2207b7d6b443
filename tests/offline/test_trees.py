"""That callbacks and trees are believable: readable by the rules, and of the samples' shape."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from receiver.core.callback import Callback, EvaluationEvent, read_callback, understand
from receiver.core.evaluation import WIDE_EMBEDS, Evaluation
from receiver.core.verdict import Verdict, from_callback, from_tree, says_the_same
from receiver.offline import KINDS, Kind, OfflineRunflow
from receiver.offline.catalogue import TASKS

FAILURES = {"invalid_media", "dispatch_failed", "processing_failed", "timed_out"}
BODY_OF = {"completed": "callback_completed.json", "failed": "callback_failed.json"}


async def read(api: httpx.AsyncClient, evaluation_id: UUID, *embeds: str) -> Any:
    answer = await api.get(f"/v1/evaluations/{evaluation_id}", params={"embed": ",".join(embeds)})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def updated_at(api: httpx.AsyncClient, evaluation_id: UUID) -> datetime:
    return datetime.fromisoformat((await read(api, evaluation_id))["updated_at"])


def from_body(body: bytes, evaluation_id: UUID) -> Verdict:
    """What the rules make of a callback, in which they must find nothing odd."""
    event = understand(body)
    assert isinstance(event, EvaluationEvent)
    assert event.evaluation_id == evaluation_id
    callback, oddities = read_callback(body, event.event)
    assert oddities == []
    assert callback.completed_at is not None
    received_at = callback.completed_at
    return from_callback(
        callback, evaluation_id=evaluation_id, event=event.event, received_at=received_at, origin="callback"
    )


async def from_api(api: httpx.AsyncClient, pending: Verdict) -> Verdict:
    """What the rules make of the tree, in which they must find nothing odd."""
    answer = await api.get(f"/v1/evaluations/{pending.evaluation_id}", params={"embed": ",".join(WIDE_EMBEDS)})
    tree, oddities = Evaluation.read(answer.content)
    assert oddities == []
    assert tree.is_terminal
    return from_tree(tree, pending)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_rules_find_nothing_odd(runflow: OfflineRunflow, api: httpx.AsyncClient, kind: Kind) -> None:
    """Callback and tree of every kind, of every task, are read without an oddity, and agree."""
    for task in TASKS:
        evaluation_id = runflow.add(kind=kind, task_type=task.task_type)
        pending = from_body(runflow.callback_body(evaluation_id), evaluation_id)
        verdict = await from_api(api, pending)
        for name in ("event", *Callback.model_fields):
            assert getattr(verdict, name) == getattr(pending, name), name
        assert verdict.event == ("evaluation.failed" if kind in FAILURES else "evaluation.completed")
        assert verdict.failure_code == (kind if kind in FAILURES else None)
        assert verdict.task_type == task.task_type


async def test_kinds_differ_in_the_verdict(runflow: OfflineRunflow, api: httpx.AsyncClient) -> None:
    """Each kind has the verdict, the findings and the price that its name promises."""
    trees = {kind: await read(api, runflow.add(kind=kind), "judges", "gate_failures", "action") for kind in KINDS}

    assert {kind: tree["overall_passed"] for kind, tree in trees.items()} == {
        "passed": True,
        "not_passed": False,
        "overridden": False,
        "no_verdict": None,
        **dict.fromkeys(FAILURES),
    }
    assert {kind for kind, tree in trees.items() if tree["action"]} == {"not_passed", "overridden"}
    assert {kind for kind, tree in trees.items() if tree["judges"]} == {"passed", "not_passed", "overridden"}
    assert trees["overridden"]["weighted_pass_rate"] == 1
    assert trees["overridden"]["override_reason"]
    assert trees["overridden"]["gate_failures"]
    assert {kind for kind, tree in trees.items() if tree["cost"] is None} == FAILURES - {"processing_failed"}
    failing = [judge for judge in trees["not_passed"]["judges"] if not judge["passed"]]
    assert failing
    assert all(judge["issues"] for judge in failing)


@pytest.mark.parametrize("kind", ["not_passed", "timed_out"])
async def test_callbacks_have_the_keys_of_the_samples(runflow: OfflineRunflow, samples: Path, kind: Kind) -> None:
    """A callback has the sample's keys in the sample's order, and an offset in place of `Z`."""
    body = json.loads(runflow.callback_body(runflow.add(kind=kind)))
    sample = json.loads((samples / BODY_OF[body["status"]]).read_bytes())
    assert list(body) == list(sample)
    assert body["completed_at"].endswith("+00:00")


async def test_trees_have_the_keys_of_the_sample(
    runflow: OfflineRunflow, api: httpx.AsyncClient, samples: Path
) -> None:
    """A full tree has the sample's keys at every level; what only some evaluations have is found among many."""
    sample = json.loads((samples / "evaluation_full.json").read_bytes())
    embeds = ("judges", "action", "gate_failures", "run", "model", "parent_evaluation")
    found: dict[str, Any] = {}
    for _ in range(60):
        tree = await read(api, runflow.add(kind="not_passed", task_type="headshot"), *embeds)
        assert list(tree)[: len(sample) - len(embeds)] == list(sample)[: len(sample) - len(embeds)]
        assert set(tree) == set(sample)
        found |= {name: tree[name] for name in embeds if tree[name]}
    issues = [issue for judge in found["judges"] for issue in judge["issues"]]

    assert set(found) == set(embeds)
    assert set(found["action"]) == set(sample["action"])
    assert set(found["gate_failures"][0]) == set(sample["gate_failures"][0])
    assert set(found["judges"][0]) == set(sample["judges"][0])
    assert set(issues[0]) == set(sample["judges"][1]["issues"][0])
    assert set(found["run"]) == set(sample["run"])
    assert set(found["run"]["output"]["outputs"][0]) == set(sample["run"]["output"]["outputs"][0])
    assert set(found["model"]) == set(sample["model"])
    assert set(found["parent_evaluation"]) == set(sample["parent_evaluation"])
    assert found["parent_evaluation"]["source_code"] == "platform"
    assert found["parent_evaluation"]["superseded_at"]


async def test_parents_belong_to_the_same_run(runflow: OfflineRunflow, api: httpx.AsyncClient) -> None:
    """A second attempt names its parent, which is of the same run and target."""
    trees = [await read(api, runflow.add(), "parent_evaluation", "run") for _ in range(60)]
    seconds = [tree for tree in trees if tree["attempt_number"] == 2]
    assert seconds
    for tree in seconds:
        parent = tree["parent_evaluation"]
        assert parent["id"] == tree["parent_evaluation_id"]
        for name in ("run_id", "model_id", "flow_id", "comfyui_workflow_id", "target_type_code"):
            assert parent[name] == tree[name]
    assert all(tree["run"] is None for tree in trees if tree["run_id"] is None)
    assert {tree["target_type_code"] for tree in trees} == {"model", "flow", "comfyui", None}


async def test_only_what_is_asked_for_is_embedded(runflow: OfflineRunflow, api: httpx.AsyncClient) -> None:
    """Without an embed its key is absent, and asking for more changes nothing else."""
    evaluation_id = runflow.add(kind="not_passed")
    bare = await read(api, evaluation_id)
    assert not set(bare) & set(WIDE_EMBEDS)
    for embed in WIDE_EMBEDS:
        tree = await read(api, evaluation_id, embed)
        assert tree == bare | {embed: tree[embed]}
    assert await read(api, evaluation_id, *WIDE_EMBEDS) == await read(api, evaluation_id, *WIDE_EMBEDS)


async def test_the_seed_decides() -> None:
    """Two Runflows with one seed say the same of their first evaluations, but for ids and times; another seed differs."""

    def said(runflow: OfflineRunflow) -> list[Any]:
        bodies = [json.loads(runflow.callback_body(runflow.add())) for _ in range(10)]
        return [{**body, "evaluation_id": None, "run_id": None, "completed_at": None} for body in bodies]

    first, second, other = (OfflineRunflow(secret="whsec_x", seed=seed) for seed in (1, 1, 2))
    assert said(first) == said(second) != said(other)
    for one in (first, second, other):
        await one.close()


async def test_all_kinds_are_drawn_in_time(runflow: OfflineRunflow) -> None:
    """Left to chance, every kind comes up, and about half of them pass."""
    drawn = [runflow.evaluations.get(runflow.add()).kind for _ in range(300)]
    assert set(drawn) == set(KINDS)
    assert 100 < drawn.count("passed") < 200


async def test_a_change_shows_in_later_reads(runflow: OfflineRunflow, api: httpx.AsyncClient) -> None:
    """A changed evaluation is newer and makes another verdict, of whatever kind it is, each time."""
    for kind in KINDS:
        evaluation_id = runflow.add(kind=kind)
        pending = from_body(runflow.callback_body(evaluation_id), evaluation_id)
        verdicts = [await from_api(api, pending)]
        updates = [await updated_at(api, evaluation_id)]
        for _ in range(2):
            runflow.change(evaluation_id)
            verdicts.append(await from_api(api, pending))
            updates.append(await updated_at(api, evaluation_id))
            assert not says_the_same(*verdicts[-2:])
            assert updates[-2] < updates[-1]


async def test_ids_are_of_version_7(runflow: OfflineRunflow) -> None:
    """Ids say when they were made, sort by it, and are of the right version and variant."""
    ids = [runflow.add() for _ in range(3)]
    evaluation = runflow.evaluations.get(ids[0])
    assert all(one.version == 7 and one.variant == "specified in RFC 4122" for one in ids)
    assert ids[0].int >> 80 == int(evaluation.submitted_at.timestamp() * 1000)
