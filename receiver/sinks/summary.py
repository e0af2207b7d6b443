"""A verdict in words for people, to be laid out as the one or the other service wants it. Pure: a verdict in, texts out.

Text from Runflow can be anything, and in a message it must be nothing but text: cleaned, and cut to a length that
somebody reads.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from receiver.core.verdict import Action, GateFailure, Judge, Verdict

MOST_OF_EACH = 5
"""How many issues, judges and gate failures are shown: somebody is to read this in a channel."""

_TITLE = 150
_SHORT = 200
_LONG = 700
_PROMPT = 2000
_MORE = "…"
_NOT_SHOWN = [*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF]
"""Controls, but for tab and newline, and what turns the direction of writing: text must not look like other text."""
_CLEANED = dict.fromkeys(_NOT_SHOWN) | {0x2028: "\n", 0x2029: "\n"}

Plain = Callable[[str | None, int], str]
"""Makes text of at most so many characters of any text, or of none: empty if nothing is to be seen."""


@dataclass(frozen=True)
class Summary:
    """What is told of a verdict. Each of `sections` is some lines, the first of them its heading or the whole."""

    title: str
    name: str
    fields: Mapping[str, str]
    sections: Sequence[str]
    notes: Sequence[str]


def plain(text: str | None, limit: int, escapes: Mapping[str, str] | None = None) -> str:
    """The text cleaned, with some characters escaped, and cut to at most `limit` characters.

    A cut ends with `…`, and is never inside an escape. Services do not say what a character is, so one beyond U+FFFF
    counts as two, the larger way.
    """
    pieces: list[str] = []
    ends = [0]  # how long the text is after each piece
    for character in (text or "").translate(_CLEANED).strip():
        piece = (escapes or {}).get(character, character)
        ends.append(ends[-1] + len(piece) + (character > "\uffff"))
        if ends[-1] > limit:
            return _cut(pieces, ends, limit)
        pieces.append(piece)
    return "".join(pieces)


def _cut(pieces: list[str], ends: list[int], limit: int) -> str:
    while pieces and ends[len(pieces)] > limit - len(_MORE):
        pieces.pop()
    return "".join(pieces).rstrip() + _MORE


def lines(*texts: str) -> str:
    """The texts that are not empty, each on a line of its own."""
    return "\n".join(text for text in texts if text)


def percent(share: float | None) -> str:
    """A share from 0 to 1 as people read it, to a tenth: `70%`. Empty if there is none."""
    return "" if share is None else f"{round(share * 100, 1):g}%"


def summarise(verdict: Verdict, made_plain: Plain) -> Summary:
    """What there is to tell of it; all that comes from Runflow went through `made_plain`."""
    return _Writer(verdict, made_plain).summary()


class _Writer:
    def __init__(self, verdict: Verdict, made_plain: Plain) -> None:
        self._verdict = verdict
        self._plain = made_plain

    def summary(self) -> Summary:
        verdict = self._verdict
        return Summary(
            title=self._title(),
            name=self._plain(verdict.client_ref, _SHORT) or str(verdict.evaluation_id),
            fields={label: value for label, value in self._fields() if value},
            sections=[
                *self._list("Top issues", [self._plain(issue, _SHORT) for issue in verdict.top_issues]),
                *self._judges([judge for judge in verdict.judges if judge.passed is False]),
                *self._list("Gate failures", [self._gate_failure(failure) for failure in verdict.gate_failures]),
                *self._action(verdict.action or Action(), verdict.primary_action_code),
            ],
            notes=list(self._notes()),
        )

    def _title(self) -> str:
        verdict = self._verdict
        what = "Evaluation failed" if verdict.event == "evaluation.failed" else _verdict(verdict.overall_passed)
        score = percent(verdict.weighted_pass_rate)
        revised = "Revised: " if verdict.revision > 1 else ""
        test = "Test: " if verdict.origin == "sample" else ""
        return self._plain(f"{test}{revised}{what}" + (f", {score}" if score else ""), _TITLE)

    def _fields(self) -> Iterable[tuple[str, str]]:
        """At most ten."""
        verdict = self._verdict
        yield "Verdict", _verdict(verdict.overall_passed)
        yield "Score", percent(verdict.weighted_pass_rate)
        yield "Client reference", self._plain(verdict.client_ref, _SHORT)
        yield "Task type", self._plain(verdict.task_type, _SHORT)
        yield "Failure", self._plain(verdict.failure_code, _SHORT)
        yield "Evaluation", str(verdict.evaluation_id)
        yield "Run", self._plain(verdict.run_id, _SHORT)

    def _list(self, label: str, items: list[str]) -> Iterable[str]:
        seen = [item for item in items if item]
        if seen:
            yield lines(label, *(f"• {item}" for item in seen[:MOST_OF_EACH]), _others(len(seen)))

    def _judges(self, failing: list[Judge]) -> Iterable[str]:
        for judge in failing[:MOST_OF_EACH]:
            yield lines(self._judge(judge), self._plain(judge.reasoning, _LONG))
        if others := _others(len(failing)):
            yield f"{others} failing judges"

    def _judge(self, judge: Judge) -> str:
        name = self._plain(judge.name, _SHORT) or "A judge without a name"
        sure = percent(judge.confidence)
        return f"Failing judge: {name}" + (f" ({sure} sure)" if sure else "")

    def _gate_failure(self, failure: GateFailure) -> str:
        parts = [self._plain(part, _SHORT) for part in (failure.module, failure.output_key, failure.reason)]
        return ": ".join(part for part in parts if part)

    def _action(self, action: Action, code: str | None) -> Iterable[str]:
        suggested = self._plain(action.primary_action, _SHORT) or self._plain(code, _SHORT)
        summary = self._plain(action.failure_summary, _LONG)
        if suggested or summary:
            yield lines(f"Suggested action: {suggested or 'none'}", summary)
        if prompt := self._plain(action.improved_prompt, _PROMPT):
            yield lines("Improved prompt", prompt)

    def _notes(self) -> Iterable[str]:
        """Where this comes from, and what is missing."""
        verdict = self._verdict
        origins = {
            "callback": "From a callback",
            "reconciled": "No callback came: found by looking for it",
            "sample": "A test message: no image was evaluated",
        }
        yield origins[verdict.origin]
        if verdict.revision > 1:
            yield f"Revision {verdict.revision}: it takes the place of what was sent before"
        if verdict.tree == "unavailable":
            reason = self._plain(verdict.tree_reason, _SHORT)
            yield "Details are not available" + (f": {reason}" if reason else "")
        elif verdict.superseded_at is not None:
            yield "A later evaluation has superseded this one"


def _verdict(passed: bool | None) -> str:
    if passed is None:
        return "No verdict"
    return "Passed" if passed else "Not passed"


def _others(count: int) -> str:
    return f"and {count - MOST_OF_EACH} more" if count > MOST_OF_EACH else ""


def address_of(verdict: Verdict, public_url: str) -> str:
    """Where the whole verdict is to be read."""
    return f"{public_url.rstrip('/')}/v1/verdicts/{verdict.evaluation_id}"
