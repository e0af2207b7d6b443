"""One set of words for a sink's `match` and for the API's filters, so that one set of code decides both.

Inside a filter all words must hold; several values of one word mean any of them; `"null"` stands for no value; bounds
include themselves and never match a missing value. Texts are compared by their first 255 characters, which is Runflow's limit
for labels and what the store's columns keep. The store turns the same table of words into SQL.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Final, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from receiver.core.lenient import Number, Text, in_utc
from receiver.core.verdict import Verdict

NULL: Final = "null"
_DATE: Final = re.compile(r"[0-9]{4}-")
LONGEST_COMPARED: Final = 255
"""Characters. PostgreSQL's indexes take no text longer than about 2,700 bytes."""


class Comparison(Enum):
    """How a word looks at its field."""

    IS = "equal, or both without a value"
    STARTS = "starts with"
    AT_LEAST = "not less"
    AT_MOST = "not more"
    ISSUE = "an issue of that category"


class Word(NamedTuple):
    """A word of a filter: the verdict's field it looks at, how, and what that means to people."""

    field: str
    comparison: Comparison
    meaning: str


WORDS: Final[Mapping[str, Word]] = {
    "overall_passed": Word("overall_passed", Comparison.IS, "The verdict: true, false, or null for none"),
    "status": Word("status", Comparison.IS, "The callback's status: completed, failed"),
    "event": Word("event", Comparison.IS, "The event: evaluation.completed, evaluation.failed"),
    "failure_code": Word("failure_code", Comparison.IS, "The failure code"),
    "primary_action_code": Word("primary_action_code", Comparison.IS, "The code of the suggested action"),
    "task_type": Word("task_type", Comparison.IS, "The task type"),
    "model_id": Word("model_id", Comparison.IS, "The model"),
    "client_ref": Word("client_ref", Comparison.IS, "Your own reference"),
    "client_ref_prefix": Word("client_ref", Comparison.STARTS, "The beginning of your own reference"),
    "run_id": Word("run_id", Comparison.IS, "The run"),
    "issue_category": Word("issues", Comparison.ISSUE, "The category of at least one issue; null: no issue"),
    "weighted_pass_rate_min": Word("weighted_pass_rate", Comparison.AT_LEAST, "A score of at least this"),
    "weighted_pass_rate_max": Word("weighted_pass_rate", Comparison.AT_MOST, "A score of at most this"),
    "completed_after": Word("completed_at", Comparison.AT_LEAST, "Completed at this time or later"),
    "completed_before": Word("completed_at", Comparison.AT_MOST, "Completed at this time or earlier"),
    "tree": Word("tree", Comparison.IS, "pending, complete, unavailable"),
    "origin": Word("origin", Comparison.IS, "callback, reconciled, sample"),
}


def _several(value: Any) -> Any:
    """One value and a list of one mean the same."""
    return value if isinstance(value, list | tuple) else [value]


def _true_false_null(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value not in ("true", "false", NULL):
        raise ValueError("must be true, false or null")
    return value


def _a_date(value: Any) -> Any:
    """A number, also one in text, would be taken for seconds since 1970."""
    if isinstance(value, datetime) or (isinstance(value, str) and _DATE.match(value)):
        return value
    raise ValueError("must be a date or a time, such as 2026-11-25T12:00:00Z")


_FLAGS = WithJsonSchema({"type": "string", "enum": ["true", "false", NULL]})


def _not_empty(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("must not be an empty list")
    return values


Strings = Annotated[tuple[Text, ...], BeforeValidator(_several), AfterValidator(_not_empty)]
Flags = Annotated[
    tuple[Annotated[str, BeforeValidator(_true_false_null), _FLAGS], ...],
    BeforeValidator(_several),
    AfterValidator(_not_empty),
]
Numbers = Annotated[tuple[Number, ...], BeforeValidator(_several), AfterValidator(_not_empty)]
Times = Annotated[
    tuple[Annotated[datetime, BeforeValidator(_a_date), AfterValidator(in_utc)], ...],
    BeforeValidator(_several),
    AfterValidator(_not_empty),
]


class Filter(BaseModel):
    """Which verdicts: all words that are given must hold. An unknown word is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    overall_passed: Flags | None = None
    status: Strings | None = None
    event: Strings | None = None
    failure_code: Strings | None = None
    primary_action_code: Strings | None = None
    task_type: Strings | None = None
    model_id: Strings | None = None
    client_ref: Strings | None = None
    client_ref_prefix: Strings | None = None
    run_id: Strings | None = None
    issue_category: Strings | None = None
    weighted_pass_rate_min: Numbers | None = None
    weighted_pass_rate_max: Numbers | None = None
    completed_after: Times | None = None
    completed_before: Times | None = None
    tree: Strings | None = None
    origin: Strings | None = None

    def given(self) -> dict[str, tuple[Any, ...]]:
        """The words that are given, with their values."""
        return {name: values for name in WORDS if (values := getattr(self, name)) is not None}

    def matches(self, verdict: Verdict) -> bool:
        """Whether all words hold for this verdict."""
        return all(holds(name, values, verdict) for name, values in self.given().items())


def matches_any(filters: tuple[Filter, ...], verdict: Verdict) -> bool:
    """A sink's `match`: one filter that holds is enough, and no filter at all is everything."""
    return not filters or any(each.matches(verdict) for each in filters)


def as_text(value: Any) -> str:
    """A field's value as filters write it."""
    if value is None:
        return NULL
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def compared(text: str) -> str:
    """As much of a text as comparisons look at."""
    return text[:LONGEST_COMPARED]


def _is(value: Any, wanted: str) -> bool:
    if wanted == NULL:
        return value is None
    return value is not None and compared(as_text(value)) == compared(wanted)


_COMPARISONS: Final[Mapping[Comparison, Callable[[Any, Any], bool]]] = {
    Comparison.IS: _is,
    Comparison.STARTS: lambda value, wanted: value is not None and compared(value).startswith(compared(wanted)),
    Comparison.AT_LEAST: lambda value, wanted: value is not None and value >= wanted,
    Comparison.AT_MOST: lambda value, wanted: value is not None and value <= wanted,
    Comparison.ISSUE: lambda issues, wanted: (
        not issues if wanted == NULL else any(_is(issue.category, wanted) for issue in issues)
    ),
}


def holds(name: str, values: tuple[Any, ...], verdict: Verdict) -> bool:
    """Whether one word, with these values, holds for this verdict."""
    word = WORDS[name]
    value, compare = getattr(verdict, word.field), _COMPARISONS[word.comparison]
    return any(compare(value, wanted) for wanted in values)
