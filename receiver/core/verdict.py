"""`verdict.v1`: the one normalised result, for completed and failed, for every sink, for the API and the export.

A field that Runflow also has keeps Runflow's name and meaning. Lists are lists, never null. Times are RFC 3339 in UTC with
`Z`. `cost` stays a decimal string. Unknown values of enumerations pass through as they are.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from receiver.core import evaluation as runflow
from receiver.core.callback import Callback

Tree = Literal["pending", "complete", "unavailable"]
"""`pending`: stored, not fetched yet. `complete`: the GET was answered and terminal. `unavailable`: the callback alone."""
Origin = Literal["callback", "reconciled", "sample"]

SCHEMA_ID = "urn:runflow-receiver:verdict.v1"


def written(moment: datetime) -> str:
    """A time as this service writes it: RFC 3339, UTC, `Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


Moment = Annotated[
    AwareDatetime,
    PlainSerializer(written, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


class Judge(_Part):
    """One judge's opinion, with its reasons."""

    id: str | None = None
    name: str | None = None
    description: str | None = None
    category: str | None = None
    passed: bool | None = None
    confidence: float | None = None
    weight: float | None = None
    reasoning: str | None = None
    evidence: list[str] = []
    sub_point_results: dict[str, Any] | None = None


class Issue(_Part):
    """One thing found wrong; `judge` is the name of the judge that found it."""

    judge: str | None = None
    category: str | None = None
    subcategory: str | None = None
    detail: str | None = None


class GateFailure(_Part):
    """A check that stopped the image whatever the judges said."""

    output_key: str | None = None
    module: str | None = None
    reason: str | None = None


class Action(_Part):
    """What Runflow suggests to do."""

    primary_action: str | None = None
    failure_summary: str | None = None
    improved_prompt: str | None = None


class Verdict(_Part):
    """What Runflow found about one image, in one flat shape."""

    model_config = ConfigDict(title="verdict.v1")

    schema_version: Literal[1] = 1
    evaluation_id: UUID
    event: str
    status: str | None = Field(default=None, description="The callback's word: completed or failed.")
    overall_passed: bool | None = None
    weighted_pass_rate: float | None = Field(default=None, description="0.0 to 1.0")
    top_issues: list[str] = []
    top_strengths: list[str] = []
    primary_action_code: str | None = None
    failure_code: str | None = None
    client_ref: str | None = None
    run_id: str | None = None
    target_type_code: str | None = None
    model_id: str | None = None
    flow_id: str | None = None
    comfyui_workflow_id: str | None = None
    task_type: str | None = None
    job_class_code: str | None = None
    source_code: str | None = None
    generation_prompt: str | None = None
    generated_image_url: str | None = Field(
        default=None,
        description="As last read; it expires. Null when it is a data: URI, which stays in storage.",
    )
    cost: str | None = Field(default=None, description="Credits, a decimal string.")
    eval_duration_ms: int | None = None
    attempt_number: int | None = None
    parent_evaluation_id: str | None = None
    superseded_at: Moment | None = None
    override_reason: str | None = None
    submitted_at: Moment | None = None
    completed_at: Moment | None = None
    received_at: Moment
    check_summary: dict[str, Any] | None = None
    judges: list[Judge] = []
    issues: list[Issue] = Field(default=[], description="The issues of all judges, flat.")
    gate_failures: list[GateFailure] = []
    action: Action | None = None
    tree: Tree
    tree_reason: str | None = Field(default=None, description="Why the tree is unavailable; null otherwise.")
    origin: Origin = "callback"
    revision: int = Field(
        default=0, description="0 while pending; 1 for the first forwarded result; more for later ones."
    )

    @property
    def message_id(self) -> str:
        """The id of this revision's message, the same for every retry and in every process."""
        return message_id(self.evaluation_id, self.event, self.revision)


def message_id(evaluation_id: UUID | str, event: str, revision: int) -> str:
    """The id of a revision's message, the same for every retry and in every process."""
    return f"{evaluation_id}:{event}:{revision}"


NOT_IN_LISTS = frozenset({"judges", "issues", "gate_failures", "action", "check_summary"})
"""What the API's list leaves out of each item."""

_NOT_COMPARED = frozenset({"generated_image_url", "received_at", "origin", "revision"})


def from_callback(
    callback: Callback, *, evaluation_id: UUID, event: str, received_at: datetime, origin: Origin
) -> Verdict:
    """What the callback alone says: `tree` is pending."""
    return Verdict(
        evaluation_id=evaluation_id,
        event=event,
        status=event.removeprefix("evaluation."),
        overall_passed=callback.overall_passed,
        weighted_pass_rate=callback.weighted_pass_rate,
        top_issues=callback.top_issues or [],
        top_strengths=callback.top_strengths or [],
        primary_action_code=callback.primary_action_code,
        failure_code=callback.failure_code,
        client_ref=callback.client_ref,
        run_id=callback.run_id,
        completed_at=callback.completed_at,
        received_at=received_at,
        origin=origin,
        tree="pending",
    )


def without_tree(pending: Verdict, reason: str) -> Verdict:
    """The callback's verdict alone, to be forwarded because the tree cannot be had for `reason`."""
    return pending.model_copy(update={"tree": "unavailable", "tree_reason": reason})


def from_tree(tree: runflow.Evaluation, pending: Verdict) -> Verdict:
    """What the tree says. `pending` is what was known before it: identity, arrival, and the callback's label.

    The tree decides even where it contradicts the callback: it was read later, and from the source.
    """
    judges = tree.judges or []
    return Verdict(
        evaluation_id=pending.evaluation_id,
        event=f"evaluation.{tree.status_code}",
        status=tree.status_code,
        overall_passed=tree.overall_passed,
        weighted_pass_rate=tree.weighted_pass_rate,
        top_issues=tree.top_issues or [],
        top_strengths=tree.top_strengths or [],
        primary_action_code=tree.primary_action_code,
        failure_code=tree.failure_code,
        client_ref=tree.client_ref if tree.client_ref is not None else pending.client_ref,
        run_id=tree.run_id if tree.run_id is not None else pending.run_id,
        target_type_code=tree.target_type_code,
        model_id=tree.model_id,
        flow_id=tree.flow_id,
        comfyui_workflow_id=tree.comfyui_workflow_id,
        task_type=tree.task_type,
        job_class_code=tree.job_class_code,
        source_code=tree.source_code,
        generation_prompt=tree.generation_prompt,
        generated_image_url=_fetchable(tree.generated_image_url),
        cost=tree.cost,
        eval_duration_ms=tree.eval_duration_ms,
        attempt_number=tree.attempt_number,
        parent_evaluation_id=tree.parent_evaluation_id,
        superseded_at=tree.superseded_at,
        override_reason=tree.override_reason,
        submitted_at=tree.submitted_at,
        completed_at=tree.completed_at or pending.completed_at,
        received_at=pending.received_at,
        check_summary=tree.check_summary,
        judges=[_judge(judge) for judge in judges],
        issues=[
            Issue(judge=judge.name, category=issue.category, subcategory=issue.subcategory, detail=issue.detail)
            for judge in judges
            for issue in judge.issues or []
        ],
        gate_failures=[GateFailure(**failure.__dict__) for failure in tree.gate_failures or []],
        action=None if tree.action is None else Action(**tree.action.__dict__),
        tree="complete",
        origin=pending.origin,
    )


def says_the_same(one: Verdict, other: Verdict) -> bool:
    """Whether two results differ in nothing that makes a new revision."""
    return one.model_dump(exclude=set(_NOT_COMPARED)) == other.model_dump(exclude=set(_NOT_COMPARED))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a message's `data`, made from the model."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **Verdict.model_json_schema(mode="serialization"),
    }


def _judge(judge: runflow.Judge) -> Judge:
    fields = {**judge.__dict__, "evidence": judge.evidence or []}
    del fields["issues"]
    return Judge(**fields)


def _fetchable(url: str | None) -> str | None:
    return None if url is not None and url[:5].lower() == "data:" else url


def revise(stored: Verdict | None, found: Verdict) -> Verdict:
    """`found` under its number: 1 for the first forwarded result, one more if it differs from what was `stored` as the last."""
    number = 1 if stored is None else stored.revision + (not says_the_same(stored, found))
    return found.model_copy(update={"revision": number})
