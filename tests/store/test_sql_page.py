"""docs/sql.md: its columns are those that are there, and its queries run as they stand, on both databases."""

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, inspect, text

from receiver.store.database import Database
from receiver.store.migrations.views import VIEWS
from receiver.store.tables import metadata
from tests.store.building import released
from tests.store.history import mixed

PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


def first_column(title: str) -> list[str]:
    """The first column of the table below a heading."""
    [section] = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE)


def test_every_view_has_its_section() -> None:
    """The page describes exactly the views that there are."""
    assert re.findall(r"^## (v_\w+)$", PAGE, re.MULTILINE) == list(VIEWS)


@pytest.mark.parametrize("view", VIEWS)
async def test_columns(database: Database, view: str) -> None:
    """The page lists the columns that the view has, in their order."""

    def columns(conn: Connection) -> list[str]:
        return [column["name"] for column in inspect(conn).get_columns(view)]

    assert first_column(view) == await database.read(columns)


def test_tables() -> None:
    """The page lists the tables that there are."""
    assert sorted(first_column("The tables behind the views")) == sorted(metadata.tables)


def lines(conn: Connection, query: str) -> list[Any]:
    return list(conn.execute(text(query)))


async def test_queries(database: Database) -> None:
    """Each query runs as it stands and finds something in a history of everything."""
    await mixed(database)
    await released(database, 100, client_ref="order-88213/headshot-03")
    assert len(QUERIES) >= 8
    for query in QUERIES:
        assert await database.read(lines, query), query


async def test_what_it_says_of_truth(database: Database) -> None:
    """A condition on true, false or null finds what the page says it finds."""
    for number, passed in enumerate((True, True, False, None)):
        await released(database, number, overall_passed=passed)

    def count(conn: Connection, condition: str) -> int:
        found: int = conn.execute(text(f"SELECT count(*) FROM v_verdicts WHERE {condition}")).scalar_one()
        return found

    conditions = ("overall_passed", "NOT overall_passed", "overall_passed IS NULL", "completed_at >= '2026-11-01'")
    assert [await database.read(count, each) for each in conditions] == [2, 1, 1, 4]
