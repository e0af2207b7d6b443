"""Column types that mean the same on both databases."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from receiver.store.database import Database
from receiver.store.tables import metadata
from receiver.store.types import EvaluationId, Moment, moment_text
from tests.store.building import NOW, accepted, arrival, key
from tests.store.history import mixed
from tests.store.places import scalar

FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# A day away from both ends: there the same time in UTC may be no time at all.
aware = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=zones)  # noqa: DTZ001 (hypothesis adds the zones)


@given(aware, aware)
def test_text_sorts_as_time_does(one: datetime, other: datetime) -> None:
    """SQLite's text of a time is of one form, in UTC, exact, and sorts as times do."""
    texts = moment_text(one), moment_text(other)
    assert all(FORM.fullmatch(each) for each in texts)
    assert (texts[0] < texts[1]) is (one < other)
    assert datetime.fromisoformat(texts[0]) == one


async def test_every_time_and_id_in_one_form(on_sqlite: Database) -> None:
    """Whichever function wrote it, each time on SQLite is text of that form, and each evaluation's id its 16 bytes."""
    await mixed(on_sqlite)

    def odd(conn: Connection) -> list[tuple[Any, ...]]:
        found = []
        for table in metadata.tables.values():
            for column in table.columns:
                values = set(conn.scalars(text(f"SELECT {column.name} FROM {table.name}"))) - {None}
                if isinstance(column.type, Moment):
                    found += [(table.name, column.name, each) for each in values if not FORM.fullmatch(str(each))]
                if isinstance(column.type, EvaluationId):
                    found += [(table.name, column.name, each) for each in values if len(each) != 16]
        return found

    assert await on_sqlite.read(odd) == []


@pytest.mark.parametrize("view", ["v_verdicts", "v_deliveries"])
async def test_ids_for_people(database: Database, view: str) -> None:
    """The views write an evaluation's id as everybody does."""
    await mixed(database)
    ids = await database.read(lambda conn: set(conn.scalars(text(f"SELECT evaluation_id FROM {view}"))))
    assert {str(key(n)) for n in range(6)} <= ids
    assert all(str(UUID(each)) == each for each in ids)


async def test_zones(database: Database) -> None:
    """A time that came with another zone is the same moment, and comes back in UTC."""
    moved = NOW.astimezone(timezone(timedelta(hours=-7)))
    await accepted(database, arrival(1, at=moved))
    found = await database.read(scalar, "SELECT received_at FROM events")
    as_time = datetime.fromisoformat(found) if isinstance(found, str) else found
    assert as_time == NOW
    assert as_time.tzinfo == UTC or as_time.utcoffset() == timedelta(0)
