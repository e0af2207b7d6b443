"""The words of `receiver.core.matching` as SQL: the same table of words, the same answers."""

import sys
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Boolean, Column, ColumnElement, and_, exists, not_, or_, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import NullType

from receiver.core.matching import NULL, WORDS, Comparison, Filter, compared
from receiver.store.tables import BY_ARRIVAL, NOT_BY_CALLBACK, UNAVAILABLE, issues, verdicts


def condition(filter_: Filter, *, by: Container[str | None] = WORDS) -> ColumnElement[bool]:
    """What the filter says of a row of `verdicts`. Rows may be found by an index of the words in `by`, and of no others.

    That is for SQLite, which takes any index that it can, though half of all rows may be in it, and sorts what it finds.
    """
    words = (or_(*(_holds(name, value, name in by) for value in values)) for name, values in filter_.given().items())
    return and_(true(), *words)


def in_order(filter_: Filter) -> str | None:
    """The word that has one value, and an index with what that lets through in the order of arrival; None if no word has."""
    given = filter_.given()
    return next((word for word in BY_ARRIVAL if len(given.get(word, ())) == 1 and NULL not in given[word]), None)


def _holds(name: str, wanted: Any, by_index: bool) -> ColumnElement[bool]:
    field, comparison, _ = WORDS[name]
    if comparison is Comparison.ISSUE:
        return _has_issue(wanted)
    column = verdicts.c[field]
    if not by_index and comparison in (Comparison.IS, Comparison.STARTS):
        return _CONDITIONS[comparison](WithoutIndex(column, type_=column.type), wanted)
    return _CONDITIONS[comparison](column, wanted)


def indexed(filter_: Filter) -> list[tuple[Column[Any], ColumnElement[bool]]]:
    """The words of the filter that an index answers: the column to take ids from, and a condition."""
    found: list[tuple[Column[Any], ColumnElement[bool]]] = []
    for name, values in filter_.given().items():
        if NULL in values or name not in _INDEXED:
            continue
        if name == "issue_category":
            categories = issues.c.category.in_([compared(each) for each in values])
            found.append((issues.c.evaluation_id, categories))
        elif (partial := _INDEXED[name](values)) is not None:
            found.append(
                (verdicts.c.evaluation_id, and_(partial, or_(*(_holds(name, value, True) for value in values))))
            )
    return found


def _always(_: Sequence[str]) -> ColumnElement[bool]:
    return true()


_INDEXED: Final[Mapping[str, Callable[[Sequence[str]], Any]]] = {
    **dict.fromkeys(
        ("client_ref", "client_ref_prefix", "run_id", "task_type", "model_id", "failure_code", "issue_category"),
        _always,
    ),
    "tree": lambda values: UNAVAILABLE if set(values) == {"unavailable"} else None,
    "origin": lambda values: NOT_BY_CALLBACK if "callback" not in values else None,
}
"""For each word with an index the condition that the index is made with; None where the values are not in it."""


def _is(column: ColumnElement[Any], wanted: str) -> ColumnElement[bool]:
    if wanted == NULL:
        return column.is_(None)
    if isinstance(column.type, Boolean):
        return column.is_(wanted == "true")
    return column == compared(wanted)


def _has_issue(category: str) -> ColumnElement[bool]:
    of_this = exists().where(issues.c.evaluation_id == verdicts.c.evaluation_id)
    return not_(of_this) if category == NULL else of_this.where(issues.c.category == compared(category))


def _starts(column: ColumnElement[Any], prefix: str) -> ColumnElement[bool]:
    """As a range, which an index can answer. Not LIKE: on SQLite it passes over case, and takes no long pattern."""
    above = after_all(prefix)
    if not prefix:
        return column.is_not(None)
    return NotBefore(column, prefix) if above is None else and_(NotBefore(column, prefix), Before(column, above))


def after_all(prefix: str) -> str | None:
    """The first text after all those that begin with this one, by code points; None where there is none."""
    known = prefix.rstrip(chr(sys.maxunicode))
    if not known:
        return None
    following = ord(known[-1]) + 1
    # What lies between are halves of surrogate pairs, which are no characters.
    return known[:-1] + chr(0xE000 if following == 0xD800 else following)


class WithoutIndex(GenericFunction[Any]):
    """A column, in a way that no index of it is used."""

    inherit_cache = True


@compiles(WithoutIndex)
def _without_index(element: WithoutIndex, compiler: SQLCompiler, **how: Any) -> str:
    [column] = (compiler.process(each, **how) for each in element.clauses)
    return f"+{column}" if compiler.dialect.name == "sqlite" else column


class Before(GenericFunction[Any]):
    """Whether a text is before another by its bytes, which is by its code points; never by a language's order."""

    type = NullType()  # Boolean is written `= 1` on SQLite, and no index answers that
    inherit_cache = True


class NotBefore(Before):
    """Whether it is not."""

    inherit_cache = True


@compiles(Before)
@compiles(NotBefore)
def _in_order_of_bytes(element: Before, compiler: SQLCompiler, **how: Any) -> str:
    operator = ">=" if isinstance(element, NotBefore) else "<"
    if compiler.dialect.name == "postgresql":
        operator = f"~{operator}~"
    column, other = (compiler.process(each, **how) for each in element.clauses)
    return f"({column} {operator} {other})"


_CONDITIONS: Final[Mapping[Comparison, Callable[[ColumnElement[Any], Any], ColumnElement[bool]]]] = {
    Comparison.IS: _is,
    Comparison.STARTS: lambda column, wanted: _starts(column, compared(wanted)),
    Comparison.AT_LEAST: lambda column, wanted: column >= wanted,
    Comparison.AT_MOST: lambda column, wanted: column <= wanted,
}
