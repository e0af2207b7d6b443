"""What an evaluation is tied to: its run, what the run ran (a model, a flow, a ComfyUI workflow), and its parent. Pure."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from receiver.core.verdict import written
from receiver.offline.catalogue import ModelSheet, task_of
from receiver.offline.evaluations import Evaluation
from receiver.offline.luck import Luck

_PUBLISHED: Final = datetime(2026, 3, 11, 9, tzinfo=UTC)
_PRICE: Final = "0.060000"


@dataclass(frozen=True)
class Target:
    """What made the image, as far as is known; all null for an evaluation without a run."""

    type_code: str | None = None
    model_id: str | None = None
    flow_id: str | None = None
    comfyui_workflow_id: str | None = None
    model: dict[str, Any] | None = None
    flow: dict[str, Any] | None = None
    comfyui_workflow: dict[str, Any] | None = None


def attempt_number(evaluation: Evaluation) -> int:
    """2 for the few that follow an evaluation by the platform of the same run."""
    follows = evaluation.source_code == "api" and evaluation.submission.run_id is not None
    return 2 if follows and evaluation.luck("attempt").happens(0.2) else 1


def run_and_target(evaluation: Evaluation, org_id: UUID) -> tuple[dict[str, Any] | None, Target]:
    """The run of the evaluation, if it has one, and what that ran."""
    if evaluation.submission.run_id is None:
        return None, Target()
    luck = evaluation.luck("run")
    target = _target(evaluation, luck)
    return _run(evaluation, target, luck, org_id), target


def parent_of(evaluation: Evaluation) -> Evaluation:
    """The platform's earlier evaluation of the same run, which this one supersedes."""
    begun = evaluation.submitted_at - timedelta(minutes=9)
    return replace(
        evaluation,
        id=Luck(f"{evaluation.id}/parent").uuid7(begun),
        kind="not_passed",
        submission=evaluation.submission.model_copy(update={"client_ref": None, "callback_url": None}),
        submitted_at=begun,
        completed_at=begun + timedelta(seconds=47),
        updated_at=evaluation.submitted_at,
        superseded_at=evaluation.submitted_at,
        changes=0,
        feedback=None,
        source_code="platform",
    )


def _target(evaluation: Evaluation, luck: Luck) -> Target:
    type_code = luck.choices(("model", "flow", "comfyui"), (8, 1, 1))[0]
    if type_code == "model":
        model = _model(task_of(evaluation.submission.task_type).model)
        return Target(type_code, model_id=model["id"], model=model)
    # Nothing is documented about the shape of these two.
    found = {"id": str(luck.uuid7(_PUBLISHED)), "name": f"{evaluation.submission.task_type} {type_code}"}
    if type_code == "flow":
        return Target(type_code, flow_id=found["id"], flow=found)
    return Target(type_code, comfyui_workflow_id=found["id"], comfyui_workflow=found)


def _run(evaluation: Evaluation, target: Target, luck: Luck, org_id: UUID) -> dict[str, Any]:
    sent = evaluation.submission
    duration = timedelta(milliseconds=luck.randint(4_000, 60_000))
    completed = evaluation.submitted_at - timedelta(minutes=10)
    started = completed - duration
    return {
        "id": str(sent.run_id),
        "flow_id": target.flow_id,
        "model_id": target.model_id,
        "comfyui_workflow_id": target.comfyui_workflow_id,
        "target_type": target.type_code,
        "target_version": target.model["version"] if target.model else None,
        "org_id": str(org_id),
        "status_code": "succeeded",
        "source_code": "api",
        "input": {"prompt": sent.generation_prompt},
        "output": {"outputs": [{"type": "image", "url": sent.generated_image_url}]},
        "context": {},
        "duration_ms": duration // timedelta(milliseconds=1),
        "cost": _PRICE,
        "cost_breakdown": {},
        "nodes_total": None,
        "nodes_completed": None,
        "resolved_template_id": None,
        "batch_id": None,
        "client_ref": None,
        "jurisdiction_code": None,
        "flow_version_id": None,
        "request_id": f"req_{luck.getrandbits(48):012x}",
        "created_by": str(luck.uuid7(_PUBLISHED)),
        "created_at": written(started - timedelta(seconds=2)),
        "started_at": written(started),
        "completed_at": written(completed),
        "callback_url": None,
        "metadata": None,
        "has_logs": True,
        "has_node_runs": False,
        "links": {},
        "failure_code": None,
        "failure_stage": None,
        "failure_message": None,
        "feedback_is_positive": evaluation.run_feedback and evaluation.run_feedback.is_positive,
        "feedback_reason": evaluation.run_feedback and evaluation.run_feedback.reason,
        "source_chat_message_id": None,
    }


def _model(sheet: ModelSheet) -> dict[str, Any]:
    luck = Luck(sheet.slug)
    return {
        "id": str(luck.uuid7(_PUBLISHED)),
        "org_id": None,
        "model_creator_id": str(luck.uuid7(_PUBLISHED)),
        "slug": sheet.slug,
        "name": sheet.name,
        "description": sheet.description,
        "version": sheet.version,
        "is_public": True,
        "is_open_source": False,
        "icon_url": None,
        "cover_url": f"https://cdn.runflow.io/models/{sheet.slug}/cover.webp",
        "category_code": sheet.category_code,
        "status_code": "active",
        "family_id": None,
        "family_variant_code": None,
        "param_count": None,
        "architecture": None,
        "license_code": "proprietary",
        "max_resolution": sheet.max_resolution,
        "lora_support": False,
        "fine_tuning": False,
        "supports_streaming": False,
        "paper_url": None,
        "github_url": None,
        "is_official": True,
        "availability_status": "available",
        "seo": {},
        "notable_features": [],
        "content": None,
        "pricing_note": None,
        "created_by": None,
        "created_at": written(_PUBLISHED),
        "updated_at": written(_PUBLISHED),
        "deleted_at": None,
        "deleted_by": None,
    }
