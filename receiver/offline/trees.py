"""What an evaluation says: the body of its callback, and the tree that `GET /v1/evaluations/{id}` answers. Pure.

A tree is made anew for each read from the evaluation's seed and kind, so the same evaluation always says the same.
(docs.runflow.io/api-reference/evaluations/get-evaluation, docs.runflow.io/concepts/evaluations)
"""

import json
from collections.abc import Iterable
from datetime import UTC
from typing import Any, Final
from uuid import UUID

from receiver.core.verdict import written
from receiver.offline.evaluations import Evaluation
from receiver.offline.findings import Findings, find
from receiver.offline.kinds import FAILURES, is_billed
from receiver.offline.related import Target, attempt_number, parent_of, run_and_target

ORGANIZATION_ID: Final = UUID("019d4d42-8ba0-726b-b2a7-4de452e6b438")
PRICE: Final = "0.050000"

_SAME_IN_CALLBACK = (
    "client_ref",
    "run_id",
    "overall_passed",
    "weighted_pass_rate",
    "top_issues",
    "top_strengths",
    "primary_action_code",
    "failure_code",
)


def tree(evaluation: Evaluation, embeds: Iterable[str] = ()) -> dict[str, Any]:
    """The evaluation as the API answers it; of what can be embedded only what is asked for is there."""
    wanted = set(embeds)
    run, target = run_and_target(evaluation, ORGANIZATION_ID)
    findings = find(evaluation)
    parent = parent_of(evaluation) if attempt_number(evaluation) > 1 else None
    embedded: dict[str, Any] = {
        "judges": findings.judges,
        "gate_failures": findings.gate_failures,
        "action": findings.action,
        "run": run,
        "model": target.model,
        "flow": target.flow,
        "comfyui_workflow": target.comfyui_workflow,
        "parent_evaluation": tree(parent) if parent is not None and "parent_evaluation" in wanted else None,
    }
    own = _own_fields(evaluation, findings, target, parent)
    return own | {name: embedded[name] for name in embedded if name in wanted}


def callback(evaluation: Evaluation) -> dict[str, Any]:
    """The body of the callback of a decided evaluation. Raises ValueError for one that is not decided."""
    if evaluation.completed_at is None:
        raise ValueError("not decided yet: there is no callback")
    known = tree(evaluation)
    start = {
        "event": f"evaluation.{evaluation.status}",
        "evaluation_id": known["id"],
        "status": evaluation.status,
    }
    # Runflow writes the offset here on purpose, and `Z` in its API.
    end = {"completed_at": evaluation.completed_at.astimezone(UTC).isoformat()}
    return start | {name: known[name] for name in _SAME_IN_CALLBACK} | end


def callback_bytes(evaluation: Evaluation) -> bytes:
    """The exact bytes that are signed and sent."""
    return json.dumps(callback(evaluation), ensure_ascii=False, separators=(",", ":")).encode()


def _own_fields(
    evaluation: Evaluation, findings: Findings, target: Target, parent: Evaluation | None
) -> dict[str, Any]:
    sent = evaluation.submission
    decided = evaluation.completed_at
    return {
        "id": str(evaluation.id),
        "org_id": str(ORGANIZATION_ID),
        "run_id": None if sent.run_id is None else str(sent.run_id),
        "target_type_code": target.type_code,
        "model_id": target.model_id,
        "flow_id": target.flow_id,
        "comfyui_workflow_id": target.comfyui_workflow_id,
        "status_code": evaluation.status,
        "task_type": sent.task_type,
        "task_description": sent.task_description,
        "generation_prompt": sent.generation_prompt,
        "generated_image_url": sent.generated_image_url,
        "input_attributes": sent.input_attributes,
        "evaluation_instructions": sent.evaluation_instructions,
        "reference_images": [image.model_dump() for image in sent.reference_images or []],
        **findings.verdict,
        "parent_evaluation_id": None if parent is None else str(parent.id),
        "attempt_number": attempt_number(evaluation),
        "superseded_at": None if evaluation.superseded_at is None else written(evaluation.superseded_at),
        "eval_duration_ms": None
        if decided is None
        else round((decided - evaluation.submitted_at).total_seconds() * 1000),
        "feedback_is_positive": evaluation.feedback.is_positive if evaluation.feedback else None,
        "feedback_reason": evaluation.feedback.reason if evaluation.feedback else None,
        "created_at": written(evaluation.submitted_at),
        "updated_at": written(evaluation.updated_at),
        "source_code": evaluation.source_code,
        "client_ref": sent.client_ref,
        "submitted_at": written(evaluation.submitted_at),
        "completed_at": None if decided is None else written(decided),
        "callback_url": sent.callback_url,
        "cost": _cost(evaluation),
        "failure_code": evaluation.kind if decided is not None and evaluation.kind in FAILURES else None,
        "job_class_code": sent.job_class,
        "links": {},
    }


def _cost(evaluation: Evaluation) -> str | None:
    billed = evaluation.completed_at is not None and evaluation.source_code == "api" and is_billed(evaluation.kind)
    return PRICE if billed else None
