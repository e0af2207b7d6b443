"""Questions that are asked all the time are answered out of an index, however many rows there are."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, text

from receiver.core.matching import Filter
from receiver.core.verdict import Verdict
from receiver.store import (
    attempts,
    fetches,
    outbox,
    outbox_desk,
    quarantine,
    reading,
    releases,
    results,
    schema,
    staging,
    timeline,
)
from receiver.store.attempts import Failure, Noted
from receiver.store.database import Database
from receiver.store.outbox_desk import DeliveryFilter
from receiver.store.reading import Position
from receiver.store.tables import (
    BY_ARRIVAL,
    deliveries,
    events,
    issues,
    metadata,
    other_bodies,
    ratings,
    revisions,
    set_aside,
    trees,
    verdicts,
)
from receiver.store.tables import attempts as attempts_table
from receiver.store.tables import fetches as fetches_table
from receiver.store.tables import releases as releases_table
from tests.store.building import ALL, LEASE, NOW, SECOND, key, plan_at
from tests.store.places import new_postgres_database, opened

MANY = 4000

Work = Callable[[Connection], Any]


def _filled(conn: Connection) -> None:
    """Some thousand evaluations long past, of which a few have something to do."""
    luck = random.Random(1)
    table_rows: dict[Any, list[dict[str, Any]]] = {
        events: [],
        verdicts: [],
        fetches_table: [],
        deliveries: [],
        set_aside: [],
        trees: [],
        issues: [],
        revisions: [],
        releases_table: [],
        other_bodies: [],
        attempts_table: [],
        ratings: [],
    }
    for n in range(MANY):
        at = NOW + luck.randrange(10**6) * SECOND
        verdict = Verdict(evaluation_id=key(n), event="evaluation.completed", received_at=at, completed_at=at, tree="complete",
                          client_ref=f"ref-{n}", run_id=f"run-{n}", revision=1,
                          **dict.fromkeys(("task_type", "model_id", "failure_code"), f"kind-{n % 2}"))  # fmt: skip
        table_rows[events].append(
            {"evaluation_id": key(n), "event": "evaluation.completed", "body": b"{}", "origin": "callback", "received_at": at,
             "repeats": 0, "waiting": n % 400 == 0}
        )  # fmt: skip
        table_rows[verdicts].append(results.row_of(verdict) | {"due_to": "[]", "tree_updated_at": at})
        table_rows[fetches_table].append(
            {"evaluation_id": key(n), "due_at": at if n % 200 == 0 else None, "leased": False, "claim": 0, "asked": 1,
             "attempts": 0, "started_at": at, "hold_until": at if n % 800 == 0 else None}
        )  # fmt: skip
        for sink in ("all", "other"):
            waits = n % 100 == 0
            state = "pending" if waits else "dead" if n % 301 == 0 else "delivered"
            table_rows[deliveries].append(
                results.new_delivery(key(n), sink, 1, at)
                | {"state": state, "due_at": at if waits else None}
                | {"ended_at": None if waits else at}
            )
        table_rows[revisions].append({"evaluation_id": key(n), "revision": 7, "due_to": "[]", "document": "{}"})
        table_rows[issues].append({"evaluation_id": key(n), "position": 0, "category": f"category-{n % 20}"})
        table_rows[releases_table].append({"evaluation_id": key(n), "revision": 1, "released_at": at})
        table_rows[trees].append({"evaluation_id": key(n), "fetched_at": at, "body": b"{}"})
        digest = luck.randbytes(32)
        table_rows[other_bodies].append(
            {
                "evaluation_id": key(n),
                "event": "evaluation.completed",
                "sha256": digest,
                "body": b"{}",
                "received_at": at,
            }
        )
        table_rows[attempts_table].append(
            {"evaluation_id": key(n), "delivery_id": 0, "slot": 1, "at": at, "outcome": "again"}
        )
        table_rows[ratings].append(
            {"evaluation_id": key(n), "person": "somebody", "is_positive": True, "clicked_at": at, "sink": "slack",
             "place": "", "revision": 1, "state": "told", "started_at": at, "claim": 0, "attempts": 1}
        )  # fmt: skip
        table_rows[set_aside].append(
            {"sha256": digest, "kind": "ignored" if n % 10 else "quarantined", "state": "kept", "body": digest,
             "received_at": at, "repeats": 0}
        )  # fmt: skip
    for table, content in table_rows.items():
        conn.execute(insert(table), content)
    if conn.dialect.name == "postgresql":  # which does this by itself from time to time; SQLite never does
        for name in metadata.tables:
            conn.execute(text(f"ANALYZE {name}"))


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def full_place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a database with many rows. No test changes it."""

    async def fill(url: str) -> None:
        async with opened(url) as database:
            await schema.upgrade(database)
            await database.write(_filled)

    with ExitStack() as stack:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('full')}/full.db"
        else:
            url = stack.enter_context(new_postgres_database(request.getfixturevalue("postgres_url")))
        asyncio.run(fill(url))
        yield url


@pytest.fixture
async def full(full_place: str) -> AsyncIterator[Database]:
    """That database, opened."""
    async with opened(full_place) as database:
        yield database


def plans_of(conn: Connection, work: Work) -> list[str]:
    """The plan of each statement that `work` runs, in order; what it changes is undone."""
    asked: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(conn, "before_cursor_execute", note)
    savepoint = conn.begin_nested()
    work(conn)
    savepoint.rollback()
    event.remove(conn, "before_cursor_execute", note)
    return [_plan(conn, statement, parameters) for statement, parameters in asked if _has_plan(statement)]


def _has_plan(statement: str) -> bool:
    return (
        statement.startswith(("SELECT", "UPDATE", "WITH", "DELETE", "INSERT INTO attempts"))
        and "SAVEPOINT" not in statement
    )


def _plan(conn: Connection, statement: str, parameters: Any) -> str:
    if isinstance(parameters, list):
        parameters = parameters[0]
    explain = "EXPLAIN QUERY PLAN" if conn.dialect.name == "sqlite" else "EXPLAIN"
    found = conn.exec_driver_sql(f"{explain} {statement}", parameters)
    return "\n".join(str(row[-1]) for row in found)


def whole_tables(plan: str) -> set[str]:
    """The tables, of those that grow, that a plan reads from end to end.

    SQLite says SEARCH, and no index, of a minimum that it looks for in a whole table.
    """
    read = re.findall(r"(?:Seq Scan on |^SCAN |^SEARCH )(\w+)(?:$|  \(cost)", plan, re.MULTILINE)
    return set(read) & (set(metadata.tables) - {"lanes", "processes"})


FAILURE = Failure(NOW, "again", "503")
LEASED = DeliveryFilter(states=("leased",), sinks=("all",))
LATE = NOW + timedelta(days=365)


@pytest.mark.parametrize(
    ("index", "work"),
    [
        ("deliveries_claimable", lambda conn: outbox.claim(conn, "all", limit=10, lease=LEASE, now=LATE)),
        ("deliveries_claimable", lambda conn: outbox.next_due(conn, "all")),
        ("fetches_due", lambda conn: fetches.claim(conn, limit=10, lease=LEASE, now=LATE)),
        ("fetches_held", lambda conn: fetches.release_held(conn, [ALL], limit=1, now=NOW)),
        ("events_waiting", lambda conn: staging.stage(conn, plan_at(NOW), limit=5, now=NOW)),
        ("verdicts_by_arrival", lambda conn: reading.page(conn, Filter(), limit=50)),
        ("verdicts_by_arrival", lambda conn: reading.page(conn, Filter(), limit=50, after=Position(NOW, key(1)))),
        ("verdicts_by_completion", lambda conn: reading.page(conn, Filter(), limit=50, sort="completed_at")),
        ("verdicts_by_client_ref", lambda conn: reading.page(conn, Filter(client_ref=("ref-7",)), limit=50)),
        ("verdicts_by_run", lambda conn: reading.page(conn, Filter(run_id=("run-7",)), limit=50)),
        (
            "deliveries_dead",
            lambda conn: outbox_desk.page(conn, DeliveryFilter(states=("dead",), sinks=("all",)), limit=9),
        ),
        (
            "deliveries_claimable",
            lambda conn: outbox_desk.page(conn, DeliveryFilter(states=("leased",), sinks=("all",)), limit=9),
        ),
        ("verdicts_by_client_ref", lambda conn: reading.page(conn, Filter(client_ref_prefix=("ref-12",)), limit=50)),
        ("verdicts_by_task_type", lambda conn: reading.page(conn, Filter(task_type=("x", "y")), limit=50)),
        ("verdicts_by_model", lambda conn: reading.page(conn, Filter(model_id=("x",), tree=("complete",)), limit=50)),
        ("verdicts_by_failure", lambda conn: reading.page(conn, Filter(failure_code=("x",)), limit=50)),
        ("verdicts_unavailable", lambda conn: reading.page(conn, Filter(tree=("unavailable",)), limit=50)),
        ("verdicts_by_origin", lambda conn: reading.page(conn, Filter(origin=("sample", "reconciled")), limit=50)),
        ("issues_by_category", lambda conn: reading.page(conn, Filter(issue_category=("x",)), limit=50)),
        ("releases_by_time", lambda conn: releases.before(conn, NOW)),
        ("set_aside_by_time", lambda conn: quarantine.listed(conn, limit=10)),
    ],
    ids=[
        "claim",
        "next_due",
        "fetch",
        "held",
        "stage",
        "page",
        "next page",
        "by completion",
        "client_ref",
        "run_id",
        "dead",
        "leased",
        "client_ref_prefix",
        "task_type",
        "model_id",
        "failure_code",
        "unavailable",
        "origin",
        "issue_category",
        "released since",
        "set aside",
    ],
)
async def test_index(full: Database, index: str, work: Work) -> None:
    """The first statement, which is the one that searches, uses the index that was made for it and reads no whole table."""
    plan, *_ = await full.write(plans_of, work)
    assert index in plan, plan
    assert not whole_tables(plan), plan


@pytest.mark.parametrize("after", [None, Position(NOW + 10**6 * SECOND, key(1))], ids=["page", "next page"])
@pytest.mark.parametrize("word", BY_ARRIVAL)
async def test_walk(full: Database, monkeypatch: pytest.MonkeyPatch, word: str, after: Position | None) -> None:
    """What is common is walked to along its own rows, in order, so that newer rows of others cost nothing."""
    monkeypatch.setattr(reading, "FEW", 0)
    value = {"run_id": "run-7", "client_ref": "ref-7"}.get(word, "kind-1")
    filter_ = Filter.model_validate({word: [value], "overall_passed": ["null"]})
    *_, plan = await full.read(plans_of, lambda conn: reading.page(conn, filter_, limit=50, after=after))
    index = {"run_id": "verdicts_by_run", "model_id": "verdicts_by_model", "failure_code": "verdicts_by_failure"}
    assert index.get(word, f"verdicts_by_{word}") in plan, plan
    assert not re.search(r"TEMP B-TREE|Sort", plan), plan


@pytest.mark.parametrize(
    "work",
    [
        lambda conn: reading.one(conn, key(7)),
        lambda conn: reading.embeds(conn, key(7)),
        lambda conn: fetches._leases(conn, [key(7)]),
        lambda conn: results._stored(conn, [key(7), key(8)]),
        lambda conn: staging.ask_again(conn, key(7), NOW),
        lambda conn: outbox.settle(conn, [outbox.Settled(7, 1, "delivered", ended_at=NOW)]),
        lambda conn: quarantine.find(conn, "abcdef"),
        lambda conn: releases.page(conn, 7, upto=70, limit=20),
        lambda conn: releases.page(conn, 7, upto=70, limit=20, filter_=Filter(client_ref=("ref-9",), status=("x",))),
        lambda conn: outbox_desk.page(conn, DeliveryFilter(evaluation_ids=(key(7),)), limit=9),
        lambda conn: timeline.timeline(conn, key(7), NOW),
        lambda conn: attempts.note_deliveries(conn, [Noted(7, 1, FAILURE)]),
        lambda conn: attempts.note_fetches(conn, [Noted(key(7), 1, FAILURE)]),
        lambda conn: attempts.note_replaced(conn, [(key(7), 2)]),
    ],
    ids=[
        "one",
        "embeds",
        "leases",
        "stored",
        "ask_again",
        "settle",
        "find",
        "released",
        "released and match",
        "deliveries",
        "timeline",
        "failed",
        "failed fetch",
        "replaced",
    ],
)
async def test_by_key(full: Database, work: Work) -> None:
    """What is looked for by its key is found by its key."""
    for plan in await full.write(plans_of, work):
        assert not whole_tables(plan), plan


async def test_whole_steps(full: Database) -> None:
    """No statement of a whole step of the pipeline reads a whole table."""
    steps: list[Work] = [
        lambda conn: fetches.take(conn, [ALL], limit=5, lease=LEASE, now=LATE, idle=True),
        lambda conn: outbox.take(conn, "all", limit=5, lease=LEASE, now=LATE, idle=True, sole_holder="one"),
        lambda conn: fetches.take_keyless(conn, [ALL], now=NOW + 1000 * SECOND),
        lambda conn: staging.stage(conn, plan_at(LATE), limit=5, now=LATE),
    ]
    for work in steps:
        for plan in await full.write(plans_of, work):
            assert not whole_tables(plan), plan
