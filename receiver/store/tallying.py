"""Tallies of the verdicts that arrived within a time, made from the rows themselves. Samples are left out."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import BigInteger, Column, ColumnElement, Connection, Select, and_, distinct, func, literal, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from receiver.core.tallies import Tallies, count, four_decimals, two_digits
from receiver.store.tables import deliveries, issues, judges, verdicts
from receiver.store.types import MILLISECONDS_BETWEEN

Dimension = Literal["task_type", "model_id", "client_ref"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
Key = tuple[str | None, ...]
"""The values of some dimensions, in their order."""

_LONGEST_NAME = 255
_FIELDS = ("overall_passed", "status", "event", "tree", "failure_code", "cost")


class MillisecondsBetween(GenericFunction[int]):
    """From the first time to the second."""

    type = BigInteger()
    inherit_cache = True


@compiles(MillisecondsBetween)
def _milliseconds_between(element: MillisecondsBetween, compiler: SQLCompiler, **how: Any) -> str:
    earlier, later = (compiler.process(each, **how) for each in element.clauses)
    return MILLISECONDS_BETWEEN[compiler.dialect.name].format(earlier=earlier, later=later)


def arrived(since: datetime, until: datetime) -> ColumnElement[bool]:
    """Which verdicts: those that arrived from `since` on and before `until`."""
    at = verdicts.c.received_at
    return and_(at >= literal(since, at.type), at < literal(until, at.type), verdicts.c.origin != "sample")


def tally(conn: Connection, since: datetime, until: datetime, dimensions: Sequence[Dimension]) -> dict[Key, Tallies]:
    """By the values of these dimensions."""
    by = [verdicts.c[name] for name in dimensions]
    which = arrived(since, until)
    found: dict[Key, Tallies] = {}
    for question, see in _QUESTIONS:
        for row in conn.execute(question(by, which)):
            key, values, times = tuple(row[: len(by)]), row[len(by) : -1], row[-1]
            see(found.setdefault(key, {}), values, times)
    return found


_Question = Callable[[Sequence[Column[Any]], ColumnElement[bool]], Select[Any]]
_See = Callable[[Tallies, Sequence[Any], int], None]


def _verdicts(by: Sequence[Column[Any]], which: ColumnElement[bool]) -> Select[Any]:
    columns = [*by, *(verdicts.c[name] for name in _FIELDS), verdicts.c.weighted_pass_rate]
    return select(*columns, func.count()).where(which).group_by(*columns)


def _see_verdicts(tallies: Tallies, values: Sequence[Any], times: int) -> None:
    for name, value in zip(_FIELDS, values, strict=False):
        count(tallies, name, value, times)
    score = values[-1]
    count(tallies, "score", None if score is None else four_decimals(score), times)


def _fetches(by: Sequence[Column[Any]], which: ColumnElement[bool]) -> Select[Any]:
    lag = MillisecondsBetween(verdicts.c.received_at, verdicts.c.fetched_at)
    return select(*by, lag, func.count()).where(which, verdicts.c.fetched_at.is_not(None)).group_by(*by, lag)


def _see_fetches(tallies: Tallies, values: Sequence[Any], times: int) -> None:
    count(tallies, "fetch_ms", two_digits(values[0]), times)


def _judges(by: Sequence[Column[Any]], which: ColumnElement[bool]) -> Select[Any]:
    name = func.substr(judges.c.name, 1, _LONGEST_NAME)
    joined = verdicts.join(judges, judges.c.evaluation_id == verdicts.c.evaluation_id)
    columns = (*by, name, judges.c.passed)
    return select(*columns, func.count()).select_from(joined).where(which).group_by(*columns)


def _see_judges(tallies: Tallies, values: Sequence[Any], times: int) -> None:
    count(tallies, "judge", tuple(values), times)


def _categories(by: Sequence[Column[Any]], which: ColumnElement[bool]) -> Select[Any]:
    return _of_issues((*by, issues.c.category), which)


def _see_categories(tallies: Tallies, values: Sequence[Any], times: int) -> None:
    count(tallies, "category", values[0], times)


def _subcategories(by: Sequence[Column[Any]], which: ColumnElement[bool]) -> Select[Any]:
    return _of_issues((*by, issues.c.category, func.substr(issues.c.subcategory, 1, _LONGEST_NAME)), which)


def _see_subcategories(tallies: Tallies, values: Sequence[Any], times: int) -> None:
    count(tallies, "subcategory", tuple(values), times)


def _of_issues(columns: Sequence[ColumnElement[Any]], which: ColumnElement[bool]) -> Select[Any]:
    joined = verdicts.join(issues, issues.c.evaluation_id == verdicts.c.evaluation_id)
    evaluations = func.count(distinct(issues.c.evaluation_id))
    return select(*columns, evaluations).select_from(joined).where(which).group_by(*columns)


def _deliveries(by: Sequence[Column[Any]], which: ColumnElement[bool]) -> Select[Any]:
    lag = MillisecondsBetween(deliveries.c.created_at, deliveries.c.ended_at)
    joined = verdicts.join(deliveries, deliveries.c.evaluation_id == verdicts.c.evaluation_id)
    columns = (*by, deliveries.c.sink, lag)
    delivered = (deliveries.c.state == "delivered", deliveries.c.replay_id == "")
    return select(*columns, func.count()).select_from(joined).where(which, *delivered).group_by(*columns)


def _see_deliveries(tallies: Tallies, values: Sequence[Any], times: int) -> None:
    sink, lag = values
    count(tallies, "delivery_ms", (sink, two_digits(lag)), times)


_QUESTIONS: Sequence[tuple[_Question, _See]] = (
    (_verdicts, _see_verdicts),
    (_fetches, _see_fetches),
    (_judges, _see_judges),
    (_categories, _see_categories),
    (_subcategories, _see_subcategories),
    (_deliveries, _see_deliveries),
)
