"""Indexes by what a filter may find rare."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_PARTIAL = {
    "verdicts_by_task_type": ("task_type", "task_type IS NOT NULL"),
    "verdicts_by_model": ("model_id", "model_id IS NOT NULL"),
    "verdicts_by_failure": ("failure_code", "failure_code IS NOT NULL"),
    "verdicts_unavailable": ("tree", "tree = 'unavailable'"),
    "verdicts_by_origin": ("origin", "origin <> 'callback'"),
}


def upgrade() -> None:
    """Makes them; the one by `client_ref` anew, in the order of bytes."""
    op.drop_index("verdicts_by_client_ref", "verdicts")
    op.create_index(
        "verdicts_by_client_ref", "verdicts", ["client_ref"], postgresql_ops={"client_ref": "text_pattern_ops"}
    )
    for name, (column, condition) in _PARTIAL.items():
        where = sa.text(condition)
        op.create_index(name, "verdicts", [column], sqlite_where=where, postgresql_where=where)
