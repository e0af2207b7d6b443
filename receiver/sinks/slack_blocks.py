"""A verdict as a Slack message: Block Kit blocks within Slack's limits. Pure: a verdict in, a payload out.

All that comes from Runflow stands in `plain_text` objects, where Slack makes neither links nor mentions nor markup of it.
(docs.slack.dev/reference/block-kit/blocks)
"""

import re
from collections.abc import Iterable
from typing import Any

from slack_sdk.models.blocks import (
    Block,
    ContextBlock,
    HeaderBlock,
    ImageBlock,
    MarkdownTextObject,
    PlainTextObject,
    SectionBlock,
)

from receiver.core.verdict import Action, GateFailure, Judge, Verdict
from receiver.sinks.slack_text import lines, percent, plain

MOST_OF_EACH = 5
"""How many issues, judges and gate failures are shown: somebody is to read this in a channel."""

_HEADER = 150
_SHORT = 200
_LONG = 700
_PROMPT = 2000
_IMAGE_URL = 3000
_FETCHABLE = re.compile(r"https://[\x21\x23-\x3b\x3d\x3f-\x7e]+")
"""Printable ASCII without quotes and angle brackets: what Slack takes as an image's address."""


def payload(verdict: Verdict, *, public_url: str | None, with_image: bool = True) -> dict[str, Any]:
    """What is posted to an incoming webhook. `public_url` is where the link to the whole verdict leads, if anywhere."""
    title = _title(verdict)
    return {
        "text": lines(title, _name(verdict)),  # for notifications, and for screens that show no blocks
        "blocks": [block.to_dict() for block in _blocks(verdict, title, public_url, with_image)],
        "mrkdwn": False,
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }


def has_image(content: dict[str, Any]) -> bool:
    """Whether the payload makes Slack fetch an image."""
    return any(block["type"] == "image" for block in content["blocks"])


def _blocks(verdict: Verdict, title: str, public_url: str | None, with_image: bool) -> Iterable[Block]:
    yield HeaderBlock(text=PlainTextObject(text=title, emoji=False))
    yield SectionBlock(fields=[_text(field) for field in _fields(verdict)])
    yield from _list("Top issues", [plain(issue, _SHORT) for issue in verdict.top_issues])
    yield from _judges([judge for judge in verdict.judges if judge.passed is False])
    yield from _list("Gate failures", [_gate_failure(failure) for failure in verdict.gate_failures])
    yield from _action(verdict.action or Action(), verdict.primary_action_code)
    if with_image and _can_be_shown(verdict.generated_image_url):
        yield ImageBlock(image_url=verdict.generated_image_url, alt_text="The image that was evaluated")
    yield ContextBlock(elements=[*_notes(verdict), *_link(verdict, public_url)])


def _title(verdict: Verdict) -> str:
    what = "Evaluation failed" if verdict.event == "evaluation.failed" else _verdict(verdict.overall_passed)
    score = percent(verdict.weighted_pass_rate)
    revised = "Revised: " if verdict.revision > 1 else ""
    test = "Test: " if verdict.origin == "sample" else ""
    return plain(f"{test}{revised}{what}" + (f", {score}" if score else ""), _HEADER)


def _verdict(passed: bool | None) -> str:
    if passed is None:
        return "No verdict"
    return "Passed" if passed else "Not passed"


def _name(verdict: Verdict) -> str:
    return plain(verdict.client_ref, _SHORT) or str(verdict.evaluation_id)


def _fields(verdict: Verdict) -> Iterable[str]:
    """At most ten: label and value on two lines."""
    values = {
        "Verdict": _verdict(verdict.overall_passed),
        "Score": percent(verdict.weighted_pass_rate),
        "Client reference": plain(verdict.client_ref, _SHORT),
        "Task type": plain(verdict.task_type, _SHORT),
        "Failure": plain(verdict.failure_code, _SHORT),
        "Evaluation": str(verdict.evaluation_id),
        "Run": plain(verdict.run_id, _SHORT),
    }
    return [f"{label}\n{value}" for label, value in values.items() if value]


def _list(label: str, items: list[str]) -> Iterable[Block]:
    seen = [item for item in items if item]
    if seen:
        yield SectionBlock(text=_text(lines(label, *(f"• {item}" for item in seen[:MOST_OF_EACH]), _others(len(seen)))))


def _others(count: int) -> str:
    return f"and {count - MOST_OF_EACH} more" if count > MOST_OF_EACH else ""


def _judges(failing: list[Judge]) -> Iterable[Block]:
    for judge in failing[:MOST_OF_EACH]:
        yield SectionBlock(text=_text(lines(_judge(judge), plain(judge.reasoning, _LONG))))
    if others := _others(len(failing)):
        yield SectionBlock(text=_text(f"{others} failing judges"))


def _judge(judge: Judge) -> str:
    name = plain(judge.name, _SHORT) or "A judge without a name"
    sure = percent(judge.confidence)
    return f"Failing judge: {name}" + (f" ({sure} sure)" if sure else "")


def _gate_failure(failure: GateFailure) -> str:
    parts = [plain(part, _SHORT) for part in (failure.module, failure.output_key, failure.reason)]
    return ": ".join(part for part in parts if part)


def _action(action: Action, code: str | None) -> Iterable[Block]:
    suggested = plain(action.primary_action, _SHORT) or plain(code, _SHORT)
    summary = plain(action.failure_summary, _LONG)
    if suggested or summary:
        yield SectionBlock(text=_text(lines(f"Suggested action: {suggested or 'none'}", summary)))
    if prompt := plain(action.improved_prompt, _PROMPT):
        yield SectionBlock(text=_text(lines("Improved prompt", prompt)))


def _can_be_shown(url: str | None) -> bool:
    """Any other address would make Slack refuse the whole message."""
    return url is not None and len(url) <= _IMAGE_URL and _FETCHABLE.fullmatch(url) is not None


def _notes(verdict: Verdict) -> Iterable[PlainTextObject]:
    """Where this comes from, and what is missing."""
    origins = {
        "callback": "From a callback",
        "reconciled": "No callback came: found by looking for it",
        "sample": "A test message: no image was evaluated",
    }
    yield _text(origins[verdict.origin])
    if verdict.revision > 1:
        yield _text(f"Revision {verdict.revision}: it takes the place of what was sent before")
    if verdict.tree == "unavailable":
        reason = plain(verdict.tree_reason, _SHORT)
        yield _text("Details are not available" + (f": {reason}" if reason else ""))
    elif verdict.superseded_at is not None:
        yield _text("A later evaluation has superseded this one")


def _link(verdict: Verdict, public_url: str | None) -> Iterable[MarkdownTextObject]:
    if public_url is not None:
        address = plain(f"{public_url.rstrip('/')}/v1/verdicts/{verdict.evaluation_id}", _LONG)
        yield MarkdownTextObject(text=f"<{address}|The whole verdict (asks for a token)>", verbatim=True)


def _text(text: str) -> PlainTextObject:
    """`emoji` off: an emoji would otherwise be written out as its name, and be longer than counted."""
    return PlainTextObject(text=text, emoji=False)
