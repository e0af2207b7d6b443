"""The evaluation as Runflow's `GET /v1/evaluations/{id}?embed=…` answers it: the tree.

Every field may be null or absent, enumerations are open, unknown fields stay in the raw JSON that is kept in storage.
(docs.runflow.io/api-reference/evaluations/get-evaluation)
"""

from typing import Annotated, Any

from pydantic import Field

from receiver.core.lenient import Good, Lenient, Number, Opaque, Text, Texts, Timestamp, Whole, storable

TERMINAL = frozenset({"completed", "failed"})

WIDE_EMBEDS = (
    "action", "comfyui_workflow", "flow", "gate_failures", "judges", "model", "parent_evaluation", "run",
)  # fmt: skip
"""All that Runflow has. Some may need a scope that the key lacks (403, 422); then the narrow ones serve."""
NARROW_EMBEDS = ("judges", "action", "gate_failures")
"""What the verdict needs, and what Runflow's own pages ask for."""

COST = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)"
"""What Runflow's own pattern takes."""
CostText = Annotated[str, Field(pattern=f"^{COST}$")]
"""Credits as a decimal string; never a float."""


class JudgeIssue(Lenient):
    """One thing that a judge found wrong."""

    category: Text | None = None
    subcategory: Text | None = None
    detail: Text | None = None


class Judge(Lenient):
    """One judge's opinion, with its reasons."""

    id: Text | None = None
    name: Text | None = None
    description: Text | None = None
    category: Text | None = None
    passed: bool | None = None
    confidence: Number | None = None
    weight: Number | None = None
    reasoning: Text | None = None
    evidence: Texts | None = None
    sub_point_results: Opaque | None = None
    issues: Annotated[list[JudgeIssue], Good] | None = None


class GateFailure(Lenient):
    """A check that stops an image before any judge's weight counts."""

    output_key: Text | None = None
    module: Text | None = None
    reason: Text | None = None


class Action(Lenient):
    """What Runflow suggests to do about it."""

    primary_action: Text | None = None
    failure_summary: Text | None = None
    improved_prompt: Text | None = None


class Evaluation(Lenient):
    """The fields of the tree that the verdict is made of."""

    id: Text | None = None
    status_code: Text | None = None
    run_id: Text | None = None
    target_type_code: Text | None = None
    model_id: Text | None = None
    flow_id: Text | None = None
    comfyui_workflow_id: Text | None = None
    parent_evaluation_id: Text | None = None
    task_type: Text | None = None
    job_class_code: Text | None = None
    source_code: Text | None = None
    generation_prompt: Text | None = None
    generated_image_url: Text | None = None
    overall_passed: bool | None = None
    weighted_pass_rate: Number | None = None
    override_reason: Text | None = None
    top_issues: Texts | None = None
    top_strengths: Texts | None = None
    check_summary: Opaque | None = None
    primary_action_code: Text | None = None
    failure_code: Text | None = None
    attempt_number: Whole | None = None
    superseded_at: Timestamp | None = None
    eval_duration_ms: Whole | None = None
    client_ref: Text | None = None
    cost: CostText | None = None
    submitted_at: Timestamp | None = None
    completed_at: Timestamp | None = None
    updated_at: Timestamp | None = None
    judges: Annotated[list[Judge], Good] | None = None
    gate_failures: Annotated[list[GateFailure], Good] | None = None
    action: Action | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether Runflow has decided: its status will not change by itself any more."""
        return self.status_code in TERMINAL


EMBEDDED = ("run", "model", "flow", "comfyui_workflow", "parent_evaluation")
"""The embedded objects that are kept and shown, but are no part of messages."""


def embedded(tree: dict[str, Any]) -> dict[str, Any]:
    """Those of a tree, as they came; null where they are not there."""
    return {name: storable(tree.get(name)) for name in EMBEDDED}
