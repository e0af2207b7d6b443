"""The views for people who read with SQL: ids as text, the same columns on both databases. Described in docs/sql.md.

They are dropped before the steps of an upgrade and made anew after them, so that no step need know of them.
"""

import re

from sqlalchemy import Connection

from receiver.store.types import MILLISECONDS_BETWEEN

_PARTS = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))

# [field] is a text field of the document, {field} a list of it, <one..other> the milliseconds from one time to the other.
VIEWS = {
    "v_verdicts": (
        "verdicts",
        """event, status, overall_passed, weighted_pass_rate, primary_action_code, failure_code, client_ref, run_id, model_id,
        task_type, tree, tree_reason, origin, revision, released_at, received_at, completed_at, document,
        cost, eval_duration_ms, submitted_at, fetched_at, <received_at..fetched_at> AS fetch_lag_ms,
        {top_issues} AS top_issues, {top_strengths} AS top_strengths, [target_type_code] AS target_type_code,
        [flow_id] AS flow_id, [comfyui_workflow_id] AS comfyui_workflow_id, [job_class_code] AS job_class_code,
        [source_code] AS source_code, [generation_prompt] AS generation_prompt,
        [generated_image_url] AS generated_image_url, [parent_evaluation_id] AS parent_evaluation_id""",
    ),
    "v_judges": (
        "judges",
        "position, id, name, description, category, passed, confidence, weight, reasoning, evidence, sub_point_results",
    ),
    "v_issues": ("issues", "position, judge, category, subcategory, detail"),
    "v_gate_failures": ("gate_failures", "position, output_key, module, reason"),
    "v_actions": ("actions", "primary_action, failure_summary, improved_prompt"),
    "v_deliveries": (
        "deliveries",
        """id, sink, revision, replay_id, state, attempts, created_at, due_at, ended_at, remote_id, last_error,
        CASE WHEN state = 'delivered' THEN <created_at..ended_at> END AS delivery_lag_ms""",
    ),
    "v_attempts": (
        "attempts",
        "NULLIF(delivery_id, 0) AS delivery_id, at, attempt, outcome, error, detail, status, due_at",
    ),
    "v_ratings": (
        "ratings",
        "person, is_positive, clicked_at, sink, revision, place AS remote_id, state, due_at, attempts, last_error",
    ),
}


def drop_views(conn: Connection) -> None:
    """Drops those that are there."""
    for view in VIEWS:
        conn.exec_driver_sql(f"DROP VIEW IF EXISTS {view}")


def create_views(conn: Connection) -> None:
    """Makes all of them."""
    dialect = conn.dialect.name
    for view, (table, columns) in VIEWS.items():
        columns_of_it = (
            f"{_TEXT_ID[dialect]} AS evaluation_id, {_written_out(columns, dialect)}, evaluation_id AS evaluation_key"
        )
        conn.exec_driver_sql(f"CREATE VIEW {view} AS SELECT {columns_of_it} FROM {table}")  # noqa: S608 (constants)


def _written_out(columns: str, dialect: str) -> str:
    for short, long in _LONG[dialect].items():
        columns = re.sub(short, long, columns)
    return re.sub(_BETWEEN, MILLISECONDS_BETWEEN[dialect].format(earlier=r"\1", later=r"\2"), columns)


_BETWEEN = r"<(\w+)\.\.(\w+)>"
_LONG = {
    "postgresql": {
        r"\[(\w+)\]": r"document::json ->> '\1'",
        r"\{(\w+)\}": r"(document::json -> '\1')::text",
    },
    "sqlite": {
        r"\[(\w+)\]": r"json_extract(document, '$.\1')",
        r"\{(\w+)\}": r"json_extract(document, '$.\1')",
    },
}

_TEXT_ID = {
    "postgresql": "evaluation_id::text",
    "sqlite": "lower("
    + " || '-' || ".join(f"substr(hex(evaluation_id), {start}, {length})" for start, length in _PARTS)
    + ")",
}
