"""The views for people who read with SQL: ids as text, the same columns on both databases. Described in docs/sql.md.

They are dropped before the steps of an upgrade and made anew after them, so that no step need know of them.
"""

from sqlalchemy import Connection

_PARTS = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))

VIEWS = {
    "v_verdicts": (
        "verdicts",
        """event, status, overall_passed, weighted_pass_rate, primary_action_code, failure_code, client_ref, run_id, model_id,
        task_type, tree, tree_reason, origin, revision, released_at, received_at, completed_at, document""",
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
        "id, sink, revision, replay_id, state, attempts, created_at, due_at, ended_at, remote_id, last_error",
    ),
    "v_attempts": (
        "attempts",
        "NULLIF(delivery_id, 0) AS delivery_id, at, attempt, outcome, error, detail, status, due_at",
    ),
}


def drop_views(conn: Connection) -> None:
    """Drops those that are there."""
    for view in VIEWS:
        conn.exec_driver_sql(f"DROP VIEW IF EXISTS {view}")


def create_views(conn: Connection) -> None:
    """Makes all of them."""
    text_id = _TEXT_ID[conn.dialect.name]
    for view, (table, columns) in VIEWS.items():
        columns_of_it = f"{text_id} AS evaluation_id, {columns}"
        conn.exec_driver_sql(f"CREATE VIEW {view} AS SELECT {columns_of_it} FROM {table}")  # noqa: S608 (constants)


_TEXT_ID = {
    "postgresql": "evaluation_id::text",
    "sqlite": "lower("
    + " || '-' || ".join(f"substr(hex(evaluation_id), {start}, {length})" for start, length in _PARTS)
    + ")",
}
