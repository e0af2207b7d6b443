"""The indexes by a filter's word have the rows of each value in the order of arrival."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_COLUMNS = {
    "verdicts_by_client_ref": "client_ref",
    "verdicts_by_run": "run_id",
    "verdicts_by_task_type": "task_type",
    "verdicts_by_model": "model_id",
    "verdicts_by_failure": "failure_code",
}
_PARTIAL = ("task_type", "model_id", "failure_code")


def upgrade() -> None:
    """Makes them anew."""
    for name, column in _COLUMNS.items():
        where = sa.text(f"{column} IS NOT NULL") if column in _PARTIAL else None
        op.drop_index(name, "verdicts")
        op.create_index(
            name,
            "verdicts",
            [column, "received_at", "evaluation_id"],
            sqlite_where=where,
            postgresql_where=where,
            postgresql_ops={"client_ref": "text_pattern_ops"} if column == "client_ref" else {},
        )
