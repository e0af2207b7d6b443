"""Upgrades of a database with something in it: nothing that people read with SQL goes away, and new columns are filled."""

from typing import Any

import orjson
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData, insert, inspect, text

from receiver.store import schema
from receiver.store.audit import audit
from receiver.store.database import Database
from receiver.store.migrations.views import VIEWS
from receiver.store.timeline import timeline
from tests.store.building import NOW, body, key
from tests.store.places import opened, scalar

KEPT = {
    "v_verdicts": """evaluation_id event status overall_passed weighted_pass_rate primary_action_code failure_code client_ref
        run_id model_id task_type tree tree_reason origin revision released_at received_at completed_at document cost
        eval_duration_ms submitted_at fetched_at fetch_lag_ms top_issues top_strengths target_type_code flow_id
        comfyui_workflow_id job_class_code source_code generation_prompt generated_image_url parent_evaluation_id
        evaluation_key""",
    "v_judges": """evaluation_id position id name description category passed confidence weight reasoning evidence
        sub_point_results evaluation_key""",
    "v_issues": "evaluation_id position judge category subcategory detail evaluation_key",
    "v_gate_failures": "evaluation_id position output_key module reason evaluation_key",
    "v_actions": "evaluation_id primary_action failure_summary improved_prompt evaluation_key",
    "v_deliveries": """evaluation_id id sink revision replay_id state attempts created_at due_at ended_at remote_id last_error
        delivery_lag_ms evaluation_key""",
    "v_attempts": "evaluation_id delivery_id at attempt outcome error detail status due_at evaluation_key",
    "v_ratings": """evaluation_id person is_positive clicked_at sink revision remote_id state due_at attempts last_error
        evaluation_key""",
}
"""What was promised. Columns may be added here, never taken away: dashboards read them by name."""


@pytest.mark.parametrize("view", KEPT)
async def test_columns_are_kept(database: Database, view: str) -> None:
    """Every column that was ever promised is there."""

    def columns(conn: Connection) -> set[str]:
        return {column["name"] for column in inspect(conn).get_columns(view)}

    assert set(KEPT[view].split()) <= await database.read(columns)
    assert KEPT.keys() == VIEWS.keys()


def to_version(conn: Connection, version: str) -> None:
    """Brings an empty database to an old schema."""
    config = Config()
    config.set_main_option("script_location", str(schema._MIGRATIONS))
    config.attributes["connection"] = conn
    command.upgrade(config, version)


def filled(conn: Connection, number: int) -> None:
    """Verdicts as the first schema had them; every other one with its tree."""
    for n in range(number):
        document = {"cost": "0.050", "eval_duration_ms": n, "submitted_at": "2026-11-18T13:00:00Z"}
        conn.execute(
            text(
                "INSERT INTO verdicts (evaluation_id, event, tree, origin, revision, received_at, due_to, document)"
                " VALUES (:key, 'evaluation.completed', 'complete', 'callback', 1, :at, '[]', :document)"
            ),
            {"key": stored_id(conn, n), "at": stored_time(conn), "document": orjson.dumps(document).decode()},
        )
        if n % 2 == 0:
            conn.execute(
                text("INSERT INTO trees (evaluation_id, fetched_at, body) VALUES (:key, :at, :body)"),
                {"key": stored_id(conn, n), "at": stored_time(conn), "body": b"{}"},
            )


def stored_id(conn: Connection, n: int) -> Any:
    return key(n) if conn.dialect.name == "postgresql" else key(n).bytes


def stored_time(conn: Connection) -> Any:
    return NOW if conn.dialect.name == "postgresql" else "2026-11-18T14:00:00.000000Z"


async def test_filled(empty_place: str) -> None:
    """A filled database of the first schema has, after its upgrade, what new columns can tell of old rows."""
    async with opened(empty_place) as database:
        await database.migrate(to_version, "0001")
        await database.write(filled, 7)
        assert (await schema.upgrade(database)).is_current
        counts = {
            condition: await database.read(scalar, f"SELECT count(*) FROM v_verdicts WHERE {condition}")
            for condition in (
                "cost = '0.050'",
                "eval_duration_ms >= 2",
                "submitted_at >= '2026-11-18 12:00' AND submitted_at < '2026-11-19'",
                "fetch_lag_ms = 0",
                "cost IS NULL AND fetched_at IS NULL",
            )
        }
    assert list(counts.values()) == [4, 3, 4, 4, 3]


def delivered(conn: Connection) -> None:
    """An evaluation of the first schema that was delivered to one sink and is dead for another."""
    found = MetaData()
    found.reflect(conn)
    at = stored_time(conn)

    def put(table: str, **values: object) -> None:
        conn.execute(insert(found.tables[table]), {"evaluation_id": stored_id(conn, 1), **values})

    document = {"evaluation_id": str(key(1)), "event": "evaluation.completed", "received_at": "2026-11-18T14:00:00Z",
                "tree": "complete", "revision": 1, "overall_passed": False}  # fmt: skip
    put(
        "events",
        event="evaluation.completed",
        body=body(key(1)),
        origin="callback",
        received_at=at,
        repeats=0,
        waiting=False,
    )
    put("verdicts", event="evaluation.completed", tree="complete", origin="callback", revision=1, received_at=at,
        due_to='["one","other"]', document=orjson.dumps(document).decode())  # fmt: skip
    put("trees", fetched_at=at, body=b"{}")
    put("fetches", leased=False, claim=1, asked=1, attempts=1, started_at=at)
    for sink, state, error in (("one", "delivered", None), ("other", "dead", "answered 400")):
        put("deliveries", sink=sink, revision=1, replay_id="", state=state, claim=1, attempts=1, created_at=at, started_at=at,
            ended_at=at, last_error=error)  # fmt: skip


async def test_delivered(empty_place: str) -> None:
    """What was delivered before an upgrade still adds up, and has a timeline as far as its rows tell one."""
    async with opened(empty_place) as database:
        await database.migrate(to_version, "0001")
        await database.write(delivered)
        assert (await schema.upgrade(database)).is_current
        assert (await database.read(audit, ["one", "other"])).adds_up
        found = await database.read(timeline, key(1), NOW)
    assert found is not None
    assert [entry.what for entry in found.items] == ["received", "fetched", "released", "delivery_failed", "delivered"]
