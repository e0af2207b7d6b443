"""Months of verdicts as if they had been taken in, fetched and delivered: with judges, issues and deliveries.

They are copies of some hundred evaluations of the offline Runflow under ids, labels and times of their own, so that what is
read has the size and the variety of the real thing. Bodies and trees, which nothing of this reads, are left out.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

from bench import stores
from bench.backlog import KINDS, Kind, kinds
from bench.stores import execute, file_of, migrate
from receiver.store.results import row_of
from receiver.store.types import moment_text

DAYS = 100
RARE = 10
"""How many verdicts have the rare value of each filter, however many verdicts there are."""
RARE_TASK = "rare"
RETIRED_TASK = "retired"
"""What a tenth of all verdicts have, and only the oldest."""
RARE_REF = "seldom-"
COMMON_REF = "order-"

_KIND = (
    "status", "event", "overall_passed", "weighted_pass_rate", "primary_action_code", "failure_code", "model_id", "task_type",
    "document", "cost", "eval_duration_ms",
)  # fmt: skip
_JUDGE = ("position", "id", "name", "description", "category", "passed", "confidence", "weight", "reasoning")
_ISSUE = ("position", "judge", "category", "subcategory", "detail")

Rows = list[tuple[Any, ...]]


def fill(url: str, rows: int, *, until: datetime) -> float:
    """Makes the tables and so many verdicts, spread evenly over `DAYS` days. Returns how many seconds it took."""
    began = time.monotonic()
    migrate(url)
    of = kinds()
    tables = {
        f"bench_kinds (number, text_id, {', '.join(_KIND)})": [_kind(number, each) for number, each in enumerate(of)],
        f"bench_judges (number, {', '.join(_JUDGE)})": list(_parts(of, "judges", _JUDGE)),
        f"bench_issues (number, {', '.join(_ISSUE)})": list(_parts(of, "issues", _ISSUE)),
    }
    if url.startswith("sqlite:"):
        _fill_sqlite(url, rows, tables, until)
    else:
        _fill_postgres(url, rows, tables, until)
    return time.monotonic() - began


def _kind(number: int, of: Kind) -> tuple[Any, ...]:
    row = row_of(of.complete)
    return (number, str(of.evaluation_id), *(row[name] for name in _KIND))


def _parts(of: Sequence[Kind], what: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    for number, kind in enumerate(of):
        for position, part in enumerate(getattr(kind.complete, what)):
            yield (number, position, *(getattr(part, name) for name in columns[1:]))


# Of each database: {id} the new key, {text} the same as text, {at} the arrival, {later} a function from milliseconds to a time.
_STATEMENTS = """
INSERT INTO verdicts (evaluation_id, client_ref, run_id, received_at, completed_at, submitted_at, fetched_at, tree_updated_at,
  tree, origin, revision, due_to, status, event, overall_passed, weighted_pass_rate, primary_action_code, failure_code,
  model_id, task_type, document, cost, eval_duration_ms)
SELECT n.id, CASE WHEN i % {every} = 3 THEN '{rare_ref}' ELSE '{common_ref}' END || (i / 7) || '/image-' || (i % 7),
  'run-' || (i / 3), at, {back_5}, {back_90}, {fetched}, {back_5}, 'complete', 'callback', 1, '["all"]',
  status, event, overall_passed, weighted_pass_rate, primary_action_code, failure_code, model_id,
  CASE WHEN i % {every} = 3 THEN '{rare_task}' WHEN i < {retired} THEN '{retired_task}' ELSE task_type END,
  replace(document, text_id, n.text), cost, eval_duration_ms
FROM bench_ids AS n JOIN bench_kinds AS k ON k.number = n.i % {kinds};
INSERT INTO judges (evaluation_id, position, id, name, description, category, passed, confidence, weight, reasoning, evidence)
SELECT n.id, position, j.id, name, description, category, passed, confidence, weight, reasoning, '[]'
FROM bench_ids AS n JOIN bench_judges AS j ON j.number = n.i % {kinds};
INSERT INTO issues (evaluation_id, position, judge, category, subcategory, detail)
SELECT n.id, position, judge, category, subcategory, detail
FROM bench_ids AS n JOIN bench_issues AS j ON j.number = n.i % {kinds};
INSERT INTO deliveries (evaluation_id, sink, revision, replay_id, state, claim, attempts, created_at, started_at, ended_at)
SELECT n.id, 'all', 1, '', 'delivered', 1, 1, {fetched}, {fetched}, {ended} FROM bench_ids AS n
"""


def _statements(rows: int, moments: dict[str, str]) -> list[str]:
    text = _STATEMENTS.format(
        every=max(rows // RARE, 1),
        rare_ref=RARE_REF,
        common_ref=COMMON_REF,
        rare_task=RARE_TASK,
        retired_task=RETIRED_TASK,
        retired=rows // 10,
        kinds=KINDS,
        **moments,
    )
    return text.split(";\n")


def _fill_sqlite(url: str, rows: int, tables: dict[str, Rows], until: datetime) -> None:
    began = until - timedelta(days=DAYS)
    step = timedelta(days=DAYS) / rows

    def later(ms: str) -> str:
        return f"strftime('%Y-%m-%dT%H:%M:%f000Z', at, ({ms}) || ' seconds')"

    moments = {
        "back_5": later("-0.5"),
        "back_90": later("-90"),
        "fetched": later("0.04 + (i % 997) / 500.0"),
        "ended": later("0.05 + (i % 997) / 400.0"),
    }
    with closing(sqlite3.connect(file_of(url), isolation_level=None)) as conn:
        conn.create_function("at_of", 1, lambda i: moment_text(began + i * step))
        conn.create_function("id_of", 1, lambda i: _key(began + i * step, i))
        conn.create_function("uuid_of", 1, lambda key: f"{key[:8]}-{key[8:12]}-{key[12:16]}-{key[16:20]}-{key[20:]}")
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-400000", "temp_store=MEMORY"):
            conn.execute(f"PRAGMA {pragma}")
        conn.execute("BEGIN")
        dropped = conn.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
            " AND tbl_name IN ('verdicts', 'issues', 'deliveries')"
        ).fetchall()
        for name, _ in dropped:
            conn.execute(f"DROP INDEX {name}")
        for head, content in tables.items():
            conn.execute(f"CREATE TEMP TABLE {head}")
            conn.executemany(f"INSERT INTO {head} VALUES ({', '.join('?' * len(content[0]))})", content)
        for name in ("judges", "issues"):
            conn.execute(f"CREATE INDEX temp.bench_{name}_number ON bench_{name} (number)")
        conn.execute("CREATE INDEX temp.bench_kinds_number ON bench_kinds (number)")
        conn.execute("CREATE TEMP TABLE bench_ids (i INTEGER PRIMARY KEY, id, text, at)")
        conn.execute(
            f"WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {rows - 1})"
            " INSERT INTO bench_ids SELECT i, id_of(i), uuid_of(lower(hex(id_of(i)))), at_of(i) FROM n"
        )
        for statement in (*_statements(rows, moments), *(made for _, made in dropped)):
            conn.execute(statement)
        conn.execute("COMMIT")
        conn.execute("PRAGMA journal_mode=WAL")


def _key(at: datetime, number: int) -> bytes:
    """An id of version 7, in the order of the arrivals."""
    return int(at.timestamp() * 1000).to_bytes(6) + b"\x70\x00\x80\x00" + number.to_bytes(6)


def _fill_postgres(url: str, rows: int, tables: dict[str, Rows], until: datetime) -> None:
    began = until - timedelta(days=DAYS)
    step = timedelta(days=DAYS) / rows

    def later(seconds: str) -> str:
        return f"at + ({seconds}) * interval '1 second'"

    moments = {
        "back_5": later("-0.5"),
        "back_90": later("-90"),
        "fetched": later("0.04 + (i % 997) / 500.0"),
        "ended": later("0.05 + (i % 997) / 400.0"),
    }
    text = "lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(i), 12, '0')"
    at = f"timestamptz '{began.isoformat()}' + i * interval '{step.total_seconds():f} seconds'"
    stores.load(url, tables)
    execute(
        url,
        "SET synchronous_commit = off",
        f"CREATE UNLOGGED TABLE bench_ids AS SELECT i, ({text})::uuid AS id, ({text})::uuid::text AS text, at"
        f" FROM (SELECT i, {at} AS at FROM generate_series(0, {rows - 1}) AS i) AS n",
        *_statements(rows, moments),
        "DROP TABLE bench_ids, bench_kinds, bench_judges, bench_issues",
        "VACUUM (FREEZE, ANALYZE) verdicts, judges, issues, deliveries",
        "CHECKPOINT",
    )
