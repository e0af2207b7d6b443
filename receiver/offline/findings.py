"""What the judges and gates of an evaluation found, and the verdict that follows. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from receiver.core.verdict import written
from receiver.offline.catalogue import Flaw, JudgeSheet, Task, task_of
from receiver.offline.evaluations import Evaluation
from receiver.offline.kinds import FAILURES
from receiver.offline.luck import Luck

_NO_VERDICT: Final[dict[str, Any]] = {
    "overall_passed": None,
    "weighted_pass_rate": None,
    "override_reason": None,
    "top_issues": None,
    "top_strengths": None,
    "check_summary": None,
    "analysis_modules_executed": None,
    "primary_action_code": None,
}


@dataclass(frozen=True)
class Findings:
    """`verdict` holds fields of the evaluation itself; the rest can be embedded."""

    verdict: dict[str, Any]
    judges: list[dict[str, Any]]
    gate_failures: list[dict[str, Any]]
    action: dict[str, Any] | None


class _Parts:
    """Gives each embedded object its id, its evaluation and its time."""

    def __init__(self, evaluation: Evaluation, decided: datetime) -> None:
        self._ids = Luck(evaluation.id.int)
        self._evaluation_id = str(evaluation.id)
        self._decided = decided

    def part(self, **fields: Any) -> dict[str, Any]:
        return {
            "id": str(self._ids.uuid7(self._decided)),
            "evaluation_id": self._evaluation_id,
            **fields,
            "created_at": written(self._decided),
        }


def find(evaluation: Evaluation) -> Findings:
    """What was found. Nothing before it is decided, nor if the evaluation failed or came to no verdict."""
    if evaluation.completed_at is None or evaluation.kind in FAILURES or evaluation.kind == "no_verdict":
        return Findings(_NO_VERDICT, [], [], None)
    luck = evaluation.luck(f"findings/{evaluation.source_code}")
    task = task_of(evaluation.submission.task_type)
    parts = _Parts(evaluation, evaluation.completed_at)
    flaws = _draw_flaws(task, evaluation, luck)
    judges = [_judge(sheet, flaws.get(sheet.name), parts, luck) for sheet in task.judges]
    gates = _gate_failures(task, evaluation, parts, luck)
    passed, override = _overall(evaluation)
    return Findings(
        verdict=_verdict(task, judges, gates, passed, override),
        judges=judges,
        gate_failures=gates,
        action=None if passed else _action(evaluation, flaws, gates, parts),
    )


def _draw_flaws(task: Task, evaluation: Evaluation, luck: Luck) -> dict[str, Flaw]:
    """What is wrong, by the judge that fails for it."""
    if evaluation.kind != "not_passed":
        return {}
    failing = luck.sample(task.judges, luck.randint(1, 2))
    return {sheet.name: luck.choice(sheet.flaws) for sheet in failing}


def _judge(sheet: JudgeSheet, flaw: Flaw | None, parts: _Parts, luck: Luck) -> dict[str, Any]:
    points = dict.fromkeys(sheet.points, True)
    if flaw is not None:
        points[luck.choice(sheet.points)] = False
    judge = parts.part(
        name=sheet.name,
        description=sheet.description,
        category=sheet.category,
        passed=flaw is None,
        confidence=round(luck.uniform(0.7, 0.99), 2),
        weight=sheet.weight,
        reasoning=sheet.praise if flaw is None else flaw.reasoning,
        evidence=[sheet.strength if flaw is None else flaw.detail],
        sub_point_results=points,
        sub_points_evaluated=len(points),
    )
    # A judge that passes may still note something small.
    noted = flaw or (luck.choice(sheet.flaws) if luck.happens(0.08) else None)
    issues = [] if noted is None else [_issue(sheet, noted, judge["id"], parts)]
    return {**judge, "issues": issues}


def _issue(sheet: JudgeSheet, flaw: Flaw, judge_id: str, parts: _Parts) -> dict[str, Any]:
    return parts.part(
        evaluation_judge_id=judge_id, category=sheet.category, subcategory=flaw.subcategory, detail=flaw.detail
    )


def _gate_failures(task: Task, evaluation: Evaluation, parts: _Parts, luck: Luck) -> list[dict[str, Any]]:
    stopped = evaluation.kind == "overridden" or (evaluation.kind == "not_passed" and luck.happens(0.5))
    if not stopped:
        return []
    gate = luck.choice(task.gates)
    return [parts.part(output_key="generated_image", module=gate.module, reason=gate.reason)]


def _overall(evaluation: Evaluation) -> tuple[bool, str | None]:
    """Whether it passes, and why that departs from the rate, if it does. Every later change turns it round."""
    passed = evaluation.kind == "passed"
    if evaluation.changes:
        return passed ^ (evaluation.changes % 2 == 1), f"Set by a reviewer, change {evaluation.changes}."
    return passed, "A gate failed." if evaluation.kind == "overridden" else None


def _verdict(
    task: Task, judges: list[dict[str, Any]], gates: list[dict[str, Any]], passed: bool, override: str | None
) -> dict[str, Any]:
    good = [judge for judge in judges if judge["passed"]]
    bad = [judge for judge in judges if not judge["passed"]]
    rate = round(sum(judge["weight"] for judge in good) / sum(judge["weight"] for judge in judges), 4)
    return {
        "overall_passed": passed,
        "weighted_pass_rate": int(rate) if rate in (0, 1) else rate,
        "override_reason": override,
        "top_issues": [issue["detail"] for judge in bad for issue in judge["issues"]]
        + [failure["reason"] for failure in gates],
        "top_strengths": [sheet.strength for sheet, judge in zip(task.judges, judges, strict=True) if judge["passed"]][
            :2
        ],
        "check_summary": {
            "judges_total": len(judges),
            "judges_passed": len(good),
            "judges_failed": len(bad),
            "gate_failures": len(gates),
        },
        "analysis_modules_executed": len(judges),
        "primary_action_code": None if passed else "regenerate",
    }


def _action(
    evaluation: Evaluation, flaws: dict[str, Flaw], gates: list[dict[str, Any]], parts: _Parts
) -> dict[str, Any]:
    reasons = [flaw.detail for flaw in flaws.values()] + [failure["reason"] for failure in gates]
    prompt = [evaluation.submission.generation_prompt or "", *(flaw.remedy for flaw in flaws.values())]
    return parts.part(
        primary_action="regenerate",
        failure_summary=" ".join(reasons) or "A reviewer did not accept the image.",
        improved_prompt=", ".join(piece for piece in prompt if piece),
    )
