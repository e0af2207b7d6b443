"""The words of `receiver.core.matching` as SQL: the same table of words, the same answers."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import Boolean, ColumnElement, and_, exists, func, not_, or_, true

from receiver.core.matching import NULL, WORDS, Comparison, Filter, compared
from receiver.store.tables import issues, verdicts


def condition(filter_: Filter) -> ColumnElement[bool]:
    """What the filter says of a row of `verdicts`."""
    words = (or_(*(_holds(name, value) for value in values)) for name, values in filter_.given().items())
    return and_(true(), *words)


def _holds(name: str, wanted: Any) -> ColumnElement[bool]:
    field, comparison, _ = WORDS[name]
    if comparison is Comparison.ISSUE:
        return _has_issue(wanted)
    return _CONDITIONS[comparison](verdicts.c[field], wanted)


def _is(column: ColumnElement[Any], wanted: str) -> ColumnElement[bool]:
    if wanted == NULL:
        return column.is_(None)
    if isinstance(column.type, Boolean):
        return column.is_(wanted == "true")
    return column == compared(wanted)


def _has_issue(category: str) -> ColumnElement[bool]:
    of_this = exists().where(issues.c.evaluation_id == verdicts.c.evaluation_id)
    return not_(of_this) if category == NULL else of_this.where(issues.c.category == compared(category))


_CONDITIONS: Final[Mapping[Comparison, Callable[[ColumnElement[Any], Any], ColumnElement[bool]]]] = {
    Comparison.IS: _is,
    # Not LIKE: on SQLite it passes over case, and takes no long pattern.
    Comparison.STARTS: lambda column, wanted: func.substr(column, 1, len(compared(wanted))) == compared(wanted),
    Comparison.AT_LEAST: lambda column, wanted: column >= wanted,
    Comparison.AT_MOST: lambda column, wanted: column <= wanted,
}
