"""Many verdicts as one Slack message: how many, why, the worst of them, what to do. Pure: verdicts in, a payload out.

All that comes from Runflow stands in `plain_text` objects, as in a message about one verdict.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from slack_sdk.models.blocks import Block, ContextBlock, DividerBlock, HeaderBlock, SectionBlock

from receiver.core.verdict import Verdict
from receiver.sinks.slack_blocks import links, message, text_object
from receiver.sinks.slack_text import plain
from receiver.sinks.summary import lines, percent

MOST_CAUSES = 8
"""How many causes are named with their count; the rest is counted together."""
MOST_SHOWN = 5
"""Of how many causes the worst verdict is shown."""
MOST_OF_FIRST = 2
"""How many verdicts are shown of the most frequent cause."""
MOST_NAMED = 20
"""How many of the others are named."""

_SHORT = 60
_WORDS = 240
_LINKS = 600

Groups = Mapping[str, Sequence[Verdict]]


def digest(verdicts: Sequence[Verdict], *, public_url: str | None) -> dict[str, Any]:
    """What is posted for several verdicts at once. `public_url` is where links to whole verdicts lead, if anywhere."""
    groups = _groups(verdicts)
    title = _title(verdicts)
    return message(lines(title, _causes(groups)), _blocks(verdicts, groups, title, public_url))


def bare(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The same without anything that could be refused: the count alone."""
    title = _title(verdicts)
    return message(title, [SectionBlock(text=text_object(title))])


def _blocks(verdicts: Sequence[Verdict], groups: Groups, title: str, public_url: str | None) -> Iterator[Block]:
    yield HeaderBlock(text=text_object(title))
    yield ContextBlock(elements=[text_object(_overall(verdicts))])
    yield SectionBlock(text=text_object(_causes(groups)))
    if actions := _counted(verdict.primary_action_code for verdict in verdicts):
        yield SectionBlock(text=text_object(f"Suggested action: {actions}"))
    yield DividerBlock()
    shown = list(_worst(groups))
    for cause, verdict in shown:
        yield SectionBlock(text=text_object(_example(cause, verdict)))
        if elements := list(links(verdict, public_url, _LINKS)):
            yield ContextBlock(elements=elements)
    if others := _others(verdicts, [verdict for _, verdict in shown]):
        yield ContextBlock(elements=[text_object(others)])


def _title(verdicts: Sequence[Verdict]) -> str:
    kinds = Counter(_kind(verdict) for verdict in verdicts)
    if len(kinds) == 1:
        return f"{len(verdicts)} more {next(iter(kinds))}"
    return f"{len(verdicts)} more: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


def _kind(verdict: Verdict) -> str:
    if verdict.event == "evaluation.failed":
        return "could not be evaluated"
    if verdict.overall_passed is None:
        return "without a verdict"
    return "passed" if verdict.overall_passed else "not passed"


def _overall(verdicts: Sequence[Verdict]) -> str:
    scores = [each.weighted_pass_rate for each in verdicts if each.weighted_pass_rate is not None]
    mean = f"Mean score {percent(sum(scores) / len(scores))}" if scores else ""
    revised = sum(each.revision > 1 for each in verdicts)
    parts = [
        _span([each.received_at for each in verdicts]),
        mean,
        _counted(each.task_type for each in verdicts),
        f"{revised} revised" if revised else "",
    ]
    return "  •  ".join(part for part in parts if part)


def _span(times: Sequence[datetime]) -> str:
    first, last = min(times), max(times)
    is_one_day = first.date() == last.date()
    until = f"{last:%H:%M:%S}" if is_one_day else f"{last:%Y-%m-%d %H:%M:%S}"
    return f"Arrived {first:%Y-%m-%d %H:%M:%S} to {until} UTC"


def _groups(verdicts: Sequence[Verdict]) -> Groups:
    """By cause, the most frequent first; of each the worst first."""
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(_cause(verdict), []).append(verdict)
    for each in groups.values():
        each.sort(key=_badness)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def _badness(verdict: Verdict) -> float:
    return -1.0 if verdict.weighted_pass_rate is None else verdict.weighted_pass_rate


def _cause(verdict: Verdict) -> str:
    """The first that is known of: failure, issue, gate, judge, and what the callback says by itself."""
    judges = [judge for judge in verdict.judges if judge.passed is False]
    failing = {judge.name for judge in judges}
    issues = [issue for issue in verdict.issues if issue.judge in failing] or verdict.issues
    candidates = [
        *([verdict.failure_code] if verdict.event == "evaluation.failed" else []),
        *(issue.category for issue in issues),
        *(failure.module for failure in verdict.gate_failures),
        *(judge.name for judge in judges),
        *verdict.top_issues,
    ]
    return next((named for each in candidates if (named := _one_line(each, _SHORT))), "no cause given")


def _causes(groups: Groups) -> str:
    counts = [(cause, len(verdicts)) for cause, verdicts in groups.items()]
    named = [f"{count} × {cause}" for cause, count in counts[:MOST_CAUSES]]
    rest = sum(count for _, count in counts[MOST_CAUSES:])
    return lines(*named, f"{rest} × another of {len(counts) - MOST_CAUSES} causes" if rest else "")


def _worst(groups: Groups) -> Iterable[tuple[str, Verdict]]:
    for position, (cause, verdicts) in enumerate(list(groups.items())[:MOST_SHOWN]):
        for verdict in verdicts[: MOST_OF_FIRST if position == 0 else 1]:
            yield cause, verdict


def _example(cause: str, verdict: Verdict) -> str:
    judge = next((judge for judge in verdict.judges if judge.passed is False and judge.reasoning), None)
    said = f"{_one_line(judge.name, _SHORT) or 'A judge'}: {_one_line(judge.reasoning, _WORDS)}" if judge else ""
    head = "  •  ".join(part for part in (percent(verdict.weighted_pass_rate), _name(verdict), cause) if part)
    issue = next((shown for each in verdict.top_issues if (shown := _one_line(each, _WORDS))), "")
    return lines(head, issue, said)


def _others(verdicts: Sequence[Verdict], shown: Sequence[Verdict]) -> str:
    seen = {(each.evaluation_id, each.revision) for each in shown}
    others = [each for each in verdicts if (each.evaluation_id, each.revision) not in seen]
    if not others:
        return ""
    named = ", ".join(_name(each) for each in sorted(others, key=_badness)[:MOST_NAMED])
    rest = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
    return f"The others: {named}{rest}"


def _name(verdict: Verdict) -> str:
    return _one_line(verdict.client_ref, _SHORT) or str(verdict.evaluation_id)


def _counted(values: Iterable[str | None]) -> str:
    counts = Counter(named for value in values if (named := _one_line(value, _SHORT)))
    return ", ".join(f"{value} ({count})" for value, count in counts.most_common(MOST_CAUSES))


def _one_line(text: str | None, limit: int) -> str:
    return plain(" ".join((text or "").split()), limit)
