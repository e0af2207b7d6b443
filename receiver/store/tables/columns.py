"""Columns and indexes as all tables declare them."""

from typing import Any, cast

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, Table, Text, TextClause, text
from sqlmodel import Field, SQLModel

from receiver.store.types import EvaluationId, Moment

# Partial indexes serve a query that has their condition to the letter, so queries take it from here too.
WAITING = text("waiting")
CLAIMABLE = text("state IN ('pending', 'leased')")
DEAD = text("state = 'dead'")
UNAVAILABLE = text("tree = 'unavailable'")
NOT_BY_CALLBACK = text("origin <> 'callback'")
DUE = text("due_at IS NOT NULL")

SERIAL = BigInteger().with_variant(Integer(), "sqlite")


def id_column(**options: Any) -> Any:
    """An evaluation's id."""
    return Field(sa_type=EvaluationId, **options)


def moment_column(**options: Any) -> Any:
    """A time."""
    return Field(sa_type=Moment, **options)


def text_column(**options: Any) -> Any:
    """Text of any length."""
    return Field(sa_type=Text, **options)


def bytes_column(**options: Any) -> Any:
    """Bytes of any number."""
    return Field(sa_type=LargeBinary, **options)


def where(name: str, *columns: str, condition: TextClause) -> Index:
    """An index of the rows for which this holds."""
    return Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


def table_of(model: type[SQLModel]) -> Table:
    """The model's table."""
    return cast("Table", model.__dict__["__table__"])
