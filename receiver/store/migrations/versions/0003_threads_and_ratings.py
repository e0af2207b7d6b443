"""Threads of sinks that keep together what is about the same; ratings on their way to Runflow."""

import sqlalchemy as sa
from alembic import op

from receiver.store.types import EvaluationId, Moment

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates both."""
    op.create_table(
        "threads",
        sa.Column("sink", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("thread", sa.Text(), nullable=False),
        sa.Column("begun_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("sink", "subject"),
    )
    op.create_index("threads_by_age", "threads", ["sink", "begun_at"], unique=False)
    op.create_table(
        "ratings",
        sa.Column("evaluation_id", EvaluationId(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("is_positive", sa.Boolean(), nullable=True),
        sa.Column("clicked_at", Moment(), nullable=False),
        sa.Column("sink", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("due_at", Moment(), nullable=True),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("claim", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("evaluation_id", "person"),
    )
    op.create_index(
        "ratings_due",
        "ratings",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
