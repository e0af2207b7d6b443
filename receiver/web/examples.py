"""One evaluation as it is shown in all examples of the API's description."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from receiver.core.timeline import Delivered, Fetched, FetchFailed, Received, Released, Timeline
from receiver.core.verdict import NOT_IN_LISTS, Action, Issue, Judge, Verdict
from receiver.store.outbox_desk import DeliveryRecord, PausedSink

EVALUATION: Final = "01a1ef00-87be-711d-ab0d-549b6f03675a"
_RECEIVED_AT: Final = datetime(2026, 11, 18, 14, 13, 25, tzinfo=UTC)
_ISSUE: Final = "Jawline is visibly narrower than in the reference photo."

_VERDICT: Final = Verdict(
    evaluation_id=UUID(EVALUATION),
    event="evaluation.completed",
    status="completed",
    overall_passed=False,
    weighted_pass_rate=0.7,
    top_issues=[_ISSUE],
    top_strengths=["Even, flattering studio lighting"],
    primary_action_code="regenerate",
    client_ref="order-88213/headshot-03",
    model_id="019cdc1f-d680-70c6-a6a3-a4506513270e",
    task_type="headshot",
    cost="0.050000",
    submitted_at=datetime(2026, 11, 18, 14, 12, 31, tzinfo=UTC),
    completed_at=datetime(2026, 11, 18, 14, 13, 22, tzinfo=UTC),
    received_at=_RECEIVED_AT,
    judges=[
        Judge(name="identity", passed=False, confidence=0.88, weight=0.3, reasoning="Jawline and eye spacing differ.")
    ],
    issues=[Issue(judge="identity", category="identity", subcategory="face_shape_drift", detail=_ISSUE)],
    action=Action(primary_action="regenerate", failure_summary="The person is not recognisable enough."),
    tree="complete",
    revision=1,
)

VERDICT: Final[dict[str, Any]] = _VERDICT.model_dump(mode="json")
ITEM: Final[dict[str, Any]] = _VERDICT.model_dump(mode="json", exclude=set(NOT_IN_LISTS))

CALLBACK: Final[dict[str, Any]] = {
    "event": "evaluation.completed",
    "evaluation_id": EVALUATION,
    "status": "completed",
    "client_ref": VERDICT["client_ref"],
    "run_id": None,
    "overall_passed": False,
    "weighted_pass_rate": 0.7,
    "top_issues": [_ISSUE],
    "top_strengths": VERDICT["top_strengths"],
    "primary_action_code": "regenerate",
    "failure_code": None,
    "completed_at": VERDICT["completed_at"],
}

TIMELINE: Final[dict[str, Any]] = Timeline(
    items=[
        Received(
            at=_RECEIVED_AT,
            event="evaluation.completed",
            origin="callback",
            secret_label="main",  # noqa: S106 (a label)
            request_id="req_5d2f0c",
            oddities=[],
            waiting=False,
        ),
        FetchFailed(
            at=_RECEIVED_AT + timedelta(milliseconds=140),
            outcome="again",
            attempt=1,
            reason="server_error",
            detail="503 SERVICE_UNAVAILABLE",
            status=503,
            due_at=_RECEIVED_AT + timedelta(milliseconds=900),
        ),
        Fetched(at=_RECEIVED_AT + timedelta(milliseconds=1030)),
        Released(
            at=_RECEIVED_AT + timedelta(milliseconds=1030),
            revision=1,
            tree="complete",
            tree_reason=None,
            status="completed",
            overall_passed=False,
            sinks=["verdicts"],
        ),
        Delivered(
            at=_RECEIVED_AT + timedelta(milliseconds=1042),
            delivery=1207,
            sink="verdicts",
            revision=1,
            replay_id="",
            attempt=1,
            remote_id="1795011206042-0",
        ),
    ],
    complete=True,
).model_dump(mode="json")

DELIVERY: Final[dict[str, Any]] = DeliveryRecord(
    id=1207,
    evaluation_id=UUID(EVALUATION),
    sink="verdicts",
    revision=1,
    replay_id="",
    state="pending",
    attempts=0,
    created_at=_RECEIVED_AT,
    due_at=_RECEIVED_AT,
    ended_at=None,
    remote_id=None,
    last_error="cannot connect",
).model_dump(mode="json")
PAUSED_SINK: Final[dict[str, Any]] = PausedSink(
    sink="verdicts", paused_until=_RECEIVED_AT + timedelta(seconds=8), failures=4, reason="cannot connect"
).model_dump(mode="json")
