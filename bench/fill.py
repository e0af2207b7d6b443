"""Millions of callbacks as if they had come before: straight into the receiver's tables, each with its verdict and its fetch.

The rows are slim. What is measured on top of them is the cost of finding a key among many, and of the pages that it dirties.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bench.callbacks import NEW_ID, IdKind
from bench.stores import execute, file_of, migrate

_MOMENT = "'2026-11-01T00:00:00.000000Z'"
_INTO_EVENTS = (
    "INSERT INTO events (evaluation_id, event, body, origin, secret_label, request_id, received_at, repeats, waiting)"
)
_EVENT = f"'evaluation.completed', {{body}}, 'callback', 'bench', 'req_0123456789abcdef', {_MOMENT}, 0, {{no}}"
_VERDICTS = f"""
    INSERT INTO verdicts (evaluation_id, client_ref, run_id, received_at, completed_at,
                          event, status, tree, origin, revision, due_to, document)
    SELECT evaluation_id, {{ref}}, {{ref}}, {_MOMENT}, {_MOMENT},
           event, 'completed', 'complete', 'callback', 1, '[]', '{{{{}}}}'
    FROM events
"""
_FETCHES = f"""
    INSERT INTO fetches (evaluation_id, started_at, leased, claim, asked, attempts)
    SELECT evaluation_id, {_MOMENT}, {{no}}, 1, 1, 1 FROM events
"""

_SQLITE_FAST = ("journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000", "temp_store=MEMORY")
_V7 = "lpad(to_hex(1761955200000 + i / 10), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15)"
"""Ten a millisecond from the first of November on, in the order of `i`."""


def fill(url: str, rows: int, ids: IdKind) -> float:
    """Makes the tables and so many rows in each of three. Returns how many seconds it took."""
    began = time.monotonic()
    migrate(url)
    if url.startswith("sqlite:"):
        _fill_sqlite(url, rows, ids)
    else:
        _fill_postgres(url, rows, ids)
    return time.monotonic() - began


def fill_events(connection: sqlite3.Connection, rows: int, new_id: Callable[[], bytes | str]) -> None:
    """So many events in SQLite's table, under these ids."""
    connection.create_function("new_id", 0, new_id)
    numbers = f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
    event = _EVENT.format(body="x'7b7d'", no=0)
    connection.execute(f"{_INTO_EVENTS} {numbers} SELECT new_id(), {event} FROM n")


@contextmanager
def hasty(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection that waits for no disk, until it is closed: then all is there."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for pragma in _SQLITE_FAST:
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        yield connection
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _fill_sqlite(url: str, rows: int, ids: IdKind) -> None:
    with hasty(file_of(url)) as connection:
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'verdicts' AND sql IS NOT NULL"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        fill_events(connection, rows, NEW_ID[ids])
        for statement in (
            _VERDICTS.format(ref="hex(evaluation_id)"),
            _FETCHES.format(no=0),
            *(made for _, made in indexes),
        ):
            connection.execute(statement)


def _fill_postgres(url: str, rows: int, ids: IdKind) -> None:
    new_id = f"({_V7})::uuid" if ids == "v7" else "gen_random_uuid()"
    event = _EVENT.format(body="'{}'::bytea", no="false")
    execute(
        url,
        "SET synchronous_commit = off",
        "ALTER TABLE events DROP CONSTRAINT events_pkey",
        "ALTER TABLE verdicts DROP CONSTRAINT verdicts_pkey",
        "ALTER TABLE fetches DROP CONSTRAINT fetches_pkey",
        f"{_INTO_EVENTS} SELECT {new_id}, {event} FROM generate_series(1, {rows}) AS i",
        _VERDICTS.format(ref="evaluation_id::text"),
        _FETCHES.format(no="false"),
        "ALTER TABLE events ADD PRIMARY KEY (evaluation_id, event)",
        "ALTER TABLE verdicts ADD PRIMARY KEY (evaluation_id)",
        "ALTER TABLE fetches ADD PRIMARY KEY (evaluation_id)",
        "VACUUM (FREEZE, ANALYZE) events, verdicts, fetches",
        "CHECKPOINT",
    )
