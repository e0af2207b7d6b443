"""From a query string to a filter and a page: closed and typed, with an error that names each wrong parameter."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Final, Literal, NamedTuple, TypeVar, cast, get_args
from uuid import UUID

from pydantic import AfterValidator, TypeAdapter, ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import Request

from receiver.core.evaluation import EMBEDDED
from receiver.core.lenient import in_utc
from receiver.core.matching import WORDS, Filter
from receiver.errors import FieldProblem, Invalid, NotFound
from receiver.store.reading import Position, Sort
from receiver.web.bodies import plain
from receiver.web.cursors import read_cursor
from receiver.web.examples import EVALUATION
from receiver.web.operations import Parameter

MOST_ITEMS = 500
DEFAULT_ITEMS = 50
MOST_VALUES = 100
"""Of one word. SQLite takes no condition that is nested more than 1000 deep."""

_SHAPES = Filter.model_json_schema()["properties"]
FILTER_PARAMETERS = tuple(
    Parameter(
        name,
        f"{word.meaning}. Given twice: any of.",
        _SHAPES[name]["anyOf"][0] | {"minItems": 1, "maxItems": MOST_VALUES},
    )
    for name, word in WORDS.items()
)
"""The words of the API's filters, for every operation that takes them."""
LIMIT = Parameter(
    "limit", "How many at most.",
    {"type": "integer", "minimum": 1, "maximum": MOST_ITEMS, "default": DEFAULT_ITEMS}, example=10,
)  # fmt: skip
_PAGING_PARAMETERS = (
    LIMIT,
    Parameter("cursor", "The `next` of the page before, with the same filters and `sort`.", {"type": "string"}),
    Parameter(
        "sort", "The time that the newest are the first by. Verdicts without that time are left out.",
        {"type": "string", "enum": list(get_args(Sort)), "default": get_args(Sort)[0]},
    ),
)  # fmt: skip
BEGINNING: Final = "beginning"
SINCE = Parameter(
    "since", f"Where it begins: a time, with all that was released then or later, or `{BEGINNING}`. Without it: now.",
    {"anyOf": [{"const": BEGINNING}, {"type": "string", "format": "date-time"}]},
)  # fmt: skip
LAST_EVENT_ID = Parameter(
    "Last-Event-ID", "The `id` of the last event that was seen: it goes on behind that, whatever `since` says.",
    {"type": "string", "pattern": "^[0-9]{1,18}$"}, "header",
)  # fmt: skip
STREAM_PARAMETERS = (*FILTER_PARAMETERS, SINCE, LAST_EVENT_ID)
LIST_PARAMETERS = (*FILTER_PARAMETERS, *_PAGING_PARAMETERS)
EVALUATION_ID = Parameter(
    "evaluation_id", "The evaluation's id.", {"type": "string", "format": "uuid"}, "path", example=EVALUATION
)
EMBED = Parameter(
    "embed", "What Runflow embedded, several with commas between; an empty one is passed over.",
    {"type": "array", "items": {"type": "string", "enum": [*EMBEDDED, ""]}}, explode=False,
)  # fmt: skip
_PAGING = tuple(each.name for each in _PAGING_PARAMETERS)


def evaluation_id_of(request: Request) -> UUID:
    """The evaluation that the path names. Raises `NotFound`."""
    key = read_uuid(request.path_params["evaluation_id"])
    if key is None:
        raise NotFound("an evaluation's id is a UUID")
    return key


def refuse_parameters(request: Request) -> None:
    """For an operation whose query has none. Raises `Invalid`, which names each."""
    if request.query_params:
        raise Invalid([FieldProblem(name, "unknown; there are none") for name in request.query_params])


Word = TypeVar("Word", bound=str)


def wrong_names(query: QueryParams, single: Sequence[str], many: Collection[str] = ()) -> list[FieldProblem]:
    """What is unknown among a query's names, and what is given twice of those (`single`) that may be given once."""
    known = (*many, *single)
    unknown = [name for name in dict.fromkeys(query) if name not in known]
    return [
        *(FieldProblem(name, f"unknown; there are {', '.join(known)}") for name in unknown),
        *(FieldProblem(name, "given more than once") for name in single if len(query.getlist(name)) > 1),
    ]


def too_many_values(words: Mapping[Word, Sequence[str]]) -> list[FieldProblem]:
    """The words that are given more often than may be."""
    return [
        FieldProblem(name, f"may be given {MOST_VALUES} times")
        for name, values in words.items()
        if len(values) > MOST_VALUES
    ]


def read_uuid(text: str) -> UUID | None:
    """None for what is none."""
    try:
        return UUID(text)
    except ValueError:
        return None


class ListQuery(NamedTuple):
    """What `GET /v1/verdicts` was asked for."""

    filter: Filter
    limit: int
    sort: Sort
    after: Position | None


def read_list_query(query: QueryParams) -> ListQuery:
    """Raises `Invalid`, which names every unknown parameter and every wrong value."""
    problems = wrong_names(query, _PAGING, WORDS)
    filter_ = _filter({name: query.getlist(name) for name in WORDS if name in query}, problems)
    limit = read_limit(query.get("limit"), problems)
    sort = _sort(query.get("sort"), problems)
    after = _cursor(query.get("cursor"), sort, filter_, problems)
    if problems or filter_ is None:
        raise Invalid(problems)
    return ListQuery(filter_, limit, sort, after)


class StreamQuery(NamedTuple):
    """What `GET /v1/verdicts/stream` was asked for. `after`: the cursor to go on from."""

    filter: Filter
    since: datetime | Literal["beginning"] | None
    after: int | None


def read_stream_query(query: QueryParams, last_event_id: str | None) -> StreamQuery:
    """Raises `Invalid`, which names every unknown parameter and every wrong value."""
    problems = wrong_names(query, [SINCE.name], WORDS)
    filter_ = _filter({name: query.getlist(name) for name in WORDS if name in query}, problems)
    since = _since(query.get(SINCE.name), problems)
    after = _position(last_event_id or None, problems)
    if problems or filter_ is None:
        raise Invalid(problems)
    return StreamQuery(filter_, since, after)


def read_filter(words: Mapping[str, Sequence[str]]) -> Filter:
    """A filter from words as people write them. Raises `Invalid`."""
    problems: list[FieldProblem] = []
    filter_ = _filter(words, problems)
    if filter_ is None:
        raise Invalid(problems)
    return filter_


def after_cursor(text: str, sort: Sort, filter_: Filter) -> Position:
    """Where the page before ended. Raises `Invalid`."""
    problems: list[FieldProblem] = []
    position = _cursor(text, sort, filter_, problems)
    if position is None:
        raise Invalid(problems)
    return position


def _filter(words: Mapping[str, Sequence[str]], problems: list[FieldProblem]) -> Filter | None:
    if many := too_many_values(words):
        problems += many
        return None
    try:
        return Filter.model_validate({name: list(values) for name, values in words.items()})
    except ValidationError as error:
        problems += [FieldProblem(str(each["loc"][0]), plain(each)) for each in error.errors()]
        return None


_TIME: TypeAdapter[datetime] = TypeAdapter(Annotated[datetime, AfterValidator(in_utc)])


def _since(text: str | None, problems: list[FieldProblem]) -> datetime | Literal["beginning"] | None:
    if text is None:
        return None
    if text == BEGINNING:
        return BEGINNING
    try:
        return _TIME.validate_python(text)
    except ValidationError as error:
        problems.append(FieldProblem(SINCE.name, f"{plain(error.errors()[0])}; or {BEGINNING}"))
        return None


def _position(text: str | None, problems: list[FieldProblem]) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        problems.append(FieldProblem(LAST_EVENT_ID.name, "is not one that this service made; begin without it"))
        return None
    return int(text)


def read_limit(text: str | None, problems: list[FieldProblem]) -> int:
    """How many items a page may have; what is wrong is added to the problems."""
    if text is None:
        return DEFAULT_ITEMS
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MOST_ITEMS):
        problems.append(FieldProblem("limit", f"must be a whole number from 1 to {MOST_ITEMS}"))
        return DEFAULT_ITEMS
    return int(text)


def _sort(text: str | None, problems: list[FieldProblem]) -> Sort:
    if text is not None and text not in get_args(Sort):
        problems.append(FieldProblem("sort", f"must be one of {', '.join(get_args(Sort))}"))
        return "received_at"
    return cast("Sort", text or "received_at")


def _cursor(text: str | None, sort: Sort, filter_: Filter | None, problems: list[FieldProblem]) -> Position | None:
    if text is None:
        return None
    try:
        return read_cursor(text, sort, filter_)
    except ValueError as error:
        problems.append(FieldProblem("cursor", str(error)))
        return None
