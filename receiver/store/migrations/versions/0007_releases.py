"""Positions of what was released. What is there already has them by when it was released or, if nobody noted that, arrived."""

import sqlalchemy as sa
from alembic import op

from receiver.store.types import EvaluationId, Moment

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ALL_RELEASED = """
INSERT INTO releases (evaluation_id, revision, released_at)
SELECT evaluation_id, revision, released_at FROM (
  SELECT evaluation_id, revision, coalesce(released_at, received_at) AS released_at FROM verdicts WHERE revision > 0
  UNION ALL
  SELECT revisions.evaluation_id, revisions.revision, coalesce(revisions.released_at, verdicts.received_at)
  FROM revisions JOIN verdicts ON verdicts.evaluation_id = revisions.evaluation_id
) AS released
ORDER BY released_at, evaluation_id, revision
"""


def upgrade() -> None:
    """Creates the table and fills it."""
    op.create_table(
        "releases",
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("evaluation_id", EvaluationId(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("released_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("position"),
        sqlite_autoincrement=True,
    )
    op.execute(_ALL_RELEASED)
    op.create_index("releases_by_time", "releases", ["released_at"], unique=False)
