"""Column types that mean the same on both databases."""

import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import LargeBinary, Text, TypeDecorator
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine


class EvaluationId(TypeDecorator[uuid.UUID]):
    """A UUID: PostgreSQL's own type, and the 16 bytes on SQLite, where text is 20 more in each place that has it."""

    impl = LargeBinary(16)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return postgresql.UUID(as_uuid=True) if dialect.name == "postgresql" else LargeBinary(16)

    def process_bind_param(self, value: uuid.UUID | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else value.bytes

    def process_result_value(self, value: Any, dialect: Dialect) -> uuid.UUID | None:
        return value if value is None or dialect.name == "postgresql" else uuid.UUID(bytes=value)


class Moment(TypeDecorator[datetime]):
    """A time in UTC: `timestamptz` on PostgreSQL; text that sorts on SQLite, whose drivers would lose the zone."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return postgresql.TIMESTAMP(timezone=True) if dialect.name == "postgresql" else Text()

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else moment_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return value if value is None or dialect.name == "postgresql" else datetime.fromisoformat(value)


MILLISECONDS_BETWEEN = {
    "postgresql": "CAST(round(extract(epoch FROM {later} - {earlier}) * 1000) AS bigint)",
    "sqlite": "CAST(round((julianday({later}) - julianday({earlier})) * 86400000) AS INTEGER)",
}
"""Of two moments, as each dialect computes it; views and figures agree by it."""


_as_json = msgspec.json.Encoder().encode
"""A time as JSON, in its quotes, in a fifth of the time of `isoformat`."""


def moment_text(moment: datetime) -> str:
    """A time as SQLite's columns hold it: always six digits and `Z`, so that text sorts as time does."""
    in_utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    if in_utc.microsecond:
        return _as_json(in_utc)[1:-1].decode()
    return in_utc.isoformat(timespec="microseconds")[:-6] + "Z"
