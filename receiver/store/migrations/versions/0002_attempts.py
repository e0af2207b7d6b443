"""Tries that failed are kept one by one, and when each revision was released."""

import sqlalchemy as sa
from alembic import op

from receiver.store.types import EvaluationId, Moment

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the table, and the time to verdicts and revisions; of those that there are it stays unknown."""
    op.create_table(
        "attempts",
        sa.Column("evaluation_id", EvaluationId(), nullable=False),
        sa.Column("delivery_id", sa.BigInteger(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("due_at", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("evaluation_id", "delivery_id", "slot"),
    )
    op.add_column("verdicts", sa.Column("released_at", Moment(), nullable=True))
    op.add_column("revisions", sa.Column("released_at", Moment(), nullable=True))
