"""For figures about many verdicts: four more columns of each, and the tallies of each hour.

The verdicts that are there are written anew, once, a few thousand at a time.
"""

import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from receiver.store.types import EvaluationId, Moment

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

AT_ONCE = 5_000

_verdicts = sa.table(
    "verdicts",
    sa.column("evaluation_id", EvaluationId()),
    sa.column("tree", sa.Text()),
    sa.column("document", sa.Text()),
    sa.column("cost", sa.Text()),
    sa.column("eval_duration_ms", sa.BigInteger()),
    sa.column("submitted_at", Moment()),
    sa.column("fetched_at", Moment()),
)
_trees = sa.table("trees", sa.column("evaluation_id", EvaluationId()), sa.column("fetched_at", Moment()))


def upgrade() -> None:
    """Adds them, and fills them from the documents and the trees."""
    for column in (
        sa.Column("cost", sa.Text(), nullable=True),
        sa.Column("eval_duration_ms", sa.BigInteger(), nullable=True),
        sa.Column("submitted_at", Moment(), nullable=True),
        sa.Column("fetched_at", Moment(), nullable=True),
    ):
        op.add_column("verdicts", column)
    op.create_table(
        "hours",
        sa.Column("hour", Moment(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("everything", sa.LargeBinary(), nullable=False),
        sa.Column("by_task_type", sa.LargeBinary(), nullable=False),
        sa.Column("by_model_id", sa.LargeBinary(), nullable=False),
        sa.Column("by_client_ref", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("hour"),
    )
    op.create_table(
        "changed_hours",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("hour", Moment(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("changed_hours_by_hour", "changed_hours", ["hour"], unique=False)
    _fill(op.get_bind())


def _fill(conn: sa.Connection) -> None:
    key = _verdicts.c.evaluation_id
    joined = _verdicts.join(_trees, _trees.c.evaluation_id == key)
    query = sa.select(key, _verdicts.c.document, _trees.c.fetched_at).select_from(joined).order_by(key).limit(AT_ONCE)
    change = (
        sa.update(_verdicts)
        .where(key == sa.bindparam("key"))
        .values(
            {name: sa.bindparam(f"new_{name}") for name in ("cost", "eval_duration_ms", "submitted_at", "fetched_at")}
        )
    )
    rows = conn.execute(query).all()
    while rows:
        conn.execute(change, [_changed(*row) for row in rows])
        rows = conn.execute(query.where(key > rows[-1][0])).all()


def _changed(key: Any, document: str, fetched_at: datetime) -> dict[str, Any]:
    verdict = json.loads(document)
    submitted_at = verdict.get("submitted_at")
    return {
        "key": key,
        "new_cost": verdict.get("cost"),
        "new_eval_duration_ms": verdict.get("eval_duration_ms"),
        "new_submitted_at": submitted_at and datetime.fromisoformat(submitted_at),
        "new_fetched_at": fetched_at,
    }
