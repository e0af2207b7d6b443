"""How long do the queries of docs/sql.md take, among a million verdicts of a hundred days?

Each asks about the ten newest days, which have a tenth of them, or about what is rare. One connection, with nothing beside it.
"""

import re
import time
from datetime import UTC, datetime, timedelta
from statistics import median

from pydantic import BaseModel

from bench import history
from bench.measure import TITLES, How, fresh
from bench.processes import ROOT
from bench.stores import Kind, query
from bench.tables import table

TITLE = "SQL"

MANY = 1_000_000
ASKED = 3
DAYS = 10
_BLOCK = re.compile(r"^([^\n.;:]+)[^\n]*\n(?:[^\n]+\n)*\n```sql\n(.*?)```", re.DOTALL | re.MULTILINE)
_SINCE = re.compile(r"received_at >= '([0-9-]+)'")
_REF = "order-88213/headshot-03"


class Asked(BaseModel):
    """One query: rows that it found, and milliseconds of each time."""

    rows: int
    ms: list[float]


class Queries(BaseModel):
    """By database, and by what the page says of each query."""

    verdicts: int
    stores: dict[Kind, dict[str, Asked]]


def run(how: How) -> Queries:
    """Fills each database and asks. `rows` may make it smaller."""
    verdicts = min(how.rows, MANY)
    return Queries(verdicts=verdicts, stores={kind: _store(kind, verdicts, how) for kind in how.databases})


def _store(kind: Kind, verdicts: int, how: How) -> dict[str, Asked]:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with fresh(kind, how) as (_, url):
        history.fill(url, verdicts, until=midnight)
        return {title: _ask(url, text) for title, text in queries(midnight - timedelta(days=DAYS)).items()}


def queries(since: datetime) -> dict[str, str]:
    """The page's queries by their titles, about what arrived since then, and about a label that is there."""
    page = (ROOT / "docs" / "sql.md").read_text()
    there = f"{history.COMMON_REF}7/image-4"
    return {
        title: _SINCE.sub(f"received_at >= '{since:%Y-%m-%d}'", text).replace(_REF, there)
        for title, text in _BLOCK.findall(page)
    }


def _ask(url: str, text: str) -> Asked:
    rows, times = 0, []
    for _ in range(ASKED):
        began = time.perf_counter()
        rows = len(query(url, text))
        times.append((time.perf_counter() - began) * 1000)
    return Asked(rows=rows, ms=times)


def markdown(found: Queries) -> str:
    """Medians, with how many rows each query found."""
    head = [f"ms, of {found.verdicts:,} verdicts"]
    head += [cell for kind in found.stores for cell in (TITLES[kind], "rows")]
    titles = next(iter(found.stores.values()))
    rows = [[title, *(cell for asked in found.stores.values() for cell in _cells(asked[title]))] for title in titles]
    return table(head, rows)


def _cells(asked: Asked) -> list[str]:
    return [f"{median(asked.ms):,.1f}", f"{asked.rows:,}"]
