"""Why a rule holds for a verdict, or does not, for people."""

from collections.abc import Mapping
from typing import Any, Final

from receiver.core.matching import NULL, WORDS, Comparison, Filter, as_text, holds
from receiver.core.routing import Route
from receiver.core.verdict import Verdict, written

_LONGEST = 60
_WANTED: Final[Mapping[Comparison, str]] = {
    Comparison.IS: "",
    Comparison.STARTS: "beginning with ",
    Comparison.AT_LEAST: "at least ",
    Comparison.AT_MOST: "at most ",
    Comparison.ISSUE: "",
}


def why(route: Route, verdict: Verdict) -> str:
    """What decided: the words of the first filter that holds, or of each filter the first word that does not."""
    if verdict.origin == "sample" and not route.takes_samples:
        return "it is a sample"
    if not route.match:
        return "it takes everything"
    for filter_ in route.match:
        if filter_.matches(verdict):
            return " and ".join(_is(name, verdict) for name in filter_.given()) or "an empty match takes everything"
    return "; ".join(_is_not(filter_, verdict) for filter_ in route.match)


def _is(name: str, verdict: Verdict) -> str:
    word = WORDS[name]
    subject = name if word.comparison is Comparison.ISSUE else word.field
    return f"{subject} is {_found(name, verdict)}"


def _is_not(filter_: Filter, verdict: Verdict) -> str:
    name, values = next(pair for pair in filter_.given().items() if not holds(*pair, verdict))
    wanted = " or ".join(map(_shown, values))
    return f"{_is(name, verdict)}, not {_WANTED[WORDS[name].comparison]}{_cut(wanted)}"


def _found(name: str, verdict: Verdict) -> str:
    value = getattr(verdict, WORDS[name].field)
    if WORDS[name].comparison is Comparison.ISSUE:
        return _cut(", ".join(dict.fromkeys(_shown(issue.category) for issue in value)) or NULL)
    return _cut(_shown(value))


def _shown(value: Any) -> str:
    return written(value) if hasattr(value, "tzinfo") else as_text(value)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
