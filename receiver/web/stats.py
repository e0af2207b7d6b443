"""`GET /v1/stats`: what many verdicts say together."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, cast, get_args

from pydantic import Field
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from receiver.core.lenient import in_utc
from receiver.core.statistics import Statistics, statistics
from receiver.core.verdict import Moment
from receiver.errors import FieldProblem, Invalid
from receiver.store import stats
from receiver.store.database import Database
from receiver.store.days import Days
from receiver.store.hours import HOUR, hour_of
from receiver.store.stats import Bucket, Question
from receiver.store.tallying import Dimension
from receiver.web.caching import IF_NONE_MATCH, TAG, UNCHANGED, kept_answer
from receiver.web.operations import Answer, Operation, Parameter
from receiver.web.parameters import MOST_VALUES, too_many_values, wrong_names
from receiver.web.shapes import Shape

DEFAULT_DAYS: Final = 7
MOST_BUCKETS: Final = 1_000
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
AT_ONCE: Final = 2
"""Questions that are answered at the same time: a dashboard in many windows must not take all readers. Of these one is added
up at a time, for two threads that only compute make each callback wait for the interpreter twice as long."""
FILTERS: tuple[Dimension, ...] = ("task_type", "model_id")

_TIME = {"type": "string", "format": "date-time"}
PARAMETERS = (
    Parameter(
        "since", f"Verdicts that arrived from then on; {DEFAULT_DAYS} days before `until` if it is not given.", _TIME
    ),
    Parameter("until", "Verdicts that arrived before; the end of the present hour if it is not given.", _TIME),
    Parameter(
        "bucket", "Figures for each hour or day of UTC; for the whole time if it is not given.",
        {"type": "string", "enum": list(get_args(Bucket))},
    ),
    Parameter(
        "group", "Figures for each value of this field; for all together if it is not given.",
        {"type": "string", "enum": list(get_args(Dimension))},
    ),
    *(
        Parameter(
            name, f"Only verdicts whose {name} is this; `null` is none. Given twice: any of.",
            {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST_VALUES},
        )
        for name in FILTERS
    ),
)  # fmt: skip
_SINGLE = tuple(each.name for each in PARAMETERS if each.name not in FILTERS)


class StatsItem(Statistics):
    """The figures of one bucket and one group."""

    start: Moment
    end: Moment
    group: str | None = Field(
        default=None, description="The field's value; null for none, and where nothing is grouped."
    )


class LeftOut(Shape):
    """Groups beyond the largest ones that are shown."""

    groups: int
    verdicts: int


class StatsAnswer(Shape):
    """By time, and in each bucket the largest groups first. Without `group`, empty buckets are there too."""

    since: Moment
    until: Moment
    bucket: Literal["hour", "day"] | None
    group: Literal["task_type", "model_id", "client_ref"] | None
    items: list[StatsItem]
    left_out: LeftOut


class Stats:
    """The endpoint."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._days = Days()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._adding_up = asyncio.Lock()

    def operations(self) -> Sequence[Operation]:
        """Its part of the route table."""
        return (
            Operation(
                "stats", "GET", "/v1/stats", self.stats, "What many verdicts say together",
                description=(
                    "Counts, pass rate, quantiles of scores, what fails most, cost and lag of the verdicts that arrived in a"
                    f" time, without samples. Of at most {MOST_BUCKETS:,} buckets; the {stats.MOST_GROUPS} largest groups, and"
                    f" no more than {stats.MOST_CELLS:,} items."
                ),
                right="read",
                parameters=(*PARAMETERS, IF_NONE_MATCH),
                answers=(Answer(200, "The figures.", StatsAnswer, _example(), headers=TAG), UNCHANGED),
            ),
        )  # fmt: skip

    async def stats(self, request: Request) -> Response:
        """`GET /v1/stats`."""
        question = read_question(request.query_params, self._database.now())
        async with self._room:
            gathered = await self._database.read(stats.gather, question, self._days)
            async with self._adding_up:
                content = await asyncio.to_thread(_answer, question, gathered, self._days)
        return kept_answer(request, content)


def _answer(question: Question, gathered: stats.Gathered, days: Days) -> bytes:
    answer = stats.add_up(question, gathered, days)
    whole = StatsAnswer(
        since=question.since,
        until=question.until,
        bucket=question.bucket,
        group=question.group,
        items=[
            StatsItem(start=cell.start, end=cell.end, group=cell.group, **dict(statistics(cell.tallies)))
            for cell in answer.cells
        ],
        left_out=LeftOut(groups=answer.groups_left_out, verdicts=answer.verdicts_left_out),
    )
    return whole.model_dump_json().encode()


def read_question(query: QueryParams, now: datetime) -> Question:
    """Raises `Invalid`, which names every unknown parameter and every wrong value."""
    problems = wrong_names(query, _SINGLE, FILTERS)
    until = _time(query, "until", problems) or hour_of(now) + HOUR
    since = _time(query, "since", problems) or max(until - timedelta(days=DEFAULT_DAYS), EARLIEST)
    bucket = cast("Bucket | None", _one_of(query, "bucket", get_args(Bucket), problems))
    group = cast("Dimension | None", _one_of(query, "group", get_args(Dimension), problems))
    wanted = {name: tuple(query.getlist(name)) for name in FILTERS if name in query}
    problems += too_many_values(wanted)
    if problems:
        raise Invalid(problems)
    if since >= until:
        problems.append(FieldProblem("since", "must be before until"))
    elif bucket is not None and (until - since) / stats.step_of(bucket) > MOST_BUCKETS:
        problems.append(FieldProblem("bucket", f"would be more than {MOST_BUCKETS:,}; ask for days, or a shorter time"))
    if problems:
        raise Invalid(problems)
    return Question(since, until, bucket, group, wanted)


def _time(query: QueryParams, name: str, problems: list[FieldProblem]) -> datetime | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        moment = in_utc(datetime.fromisoformat(text))
    except ValueError:
        problems.append(
            FieldProblem(name, "must be a time such as 2026-11-18T14:00:00Z (a + in an address is written %2B)")
        )
        return None
    if not EARLIEST <= moment <= LATEST:
        problems.append(FieldProblem(name, f"must be from {EARLIEST.year} to {LATEST.year}"))
        return None
    return moment


def _one_of(query: QueryParams, name: str, words: Sequence[str], problems: list[FieldProblem]) -> str | None:
    word = query.get(name)
    if word is not None and word not in words:
        problems.append(FieldProblem(name, f"must be one of {', '.join(words)}"))
        return None
    return word


def _example() -> dict[str, Any]:
    start = datetime(2026, 11, 18, tzinfo=UTC)
    tallies: dict[str, dict[Any, int]] = {
        "overall_passed": {True: 700, False: 250, None: 50},
        "status": {"completed": 960, "failed": 40},
        "event": {"evaluation.completed": 960, "evaluation.failed": 40},
        "tree": {"complete": 1000},
        "score": {0.55: 250, 0.85: 300, 1.0: 400, None: 50},
        "category": {"identity": 180, "lighting": 70},
        "subcategory": {("identity", "face_shape_drift"): 120, ("lighting", None): 70},
        "judge": {("identity", True): 770, ("identity", False): 180},
        "failure_code": {None: 960, "timed_out": 40},
        "cost": {"0.050000": 960, None: 40},
        "fetch_ms": {120: 600, 340: 395, 9000: 5},
        "delivery_ms": {("verdicts", 15): 900, ("verdicts", 80): 100},
    }
    cell = stats.Cell(start, start + timedelta(days=1), "headshot", tallies)
    item = StatsItem(start=cell.start, end=cell.end, group=cell.group, **dict(statistics(tallies)))
    whole = StatsAnswer(
        since=cell.start,
        until=cell.end,
        bucket="day",
        group="task_type",
        items=[item],
        left_out=LeftOut(groups=0, verdicts=0),
    )
    return whole.model_dump(mode="json")
