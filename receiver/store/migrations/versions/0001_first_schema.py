"""The first schema: events, verdicts with their trees as rows, the fetch lane, the outbox."""

import sqlalchemy as sa
from alembic import op

from receiver.store.types import EvaluationId, Moment

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates everything."""
    op.create_table(
        "actions",
        sa.Column("evaluation_id", EvaluationId(), nullable=False),
        sa.Column("primary_action", sa.Text(), nullable=True),
        sa.Column("failure_summary", sa.Text(), nullable=True),
        sa.Column("improved_prompt", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("evaluation_id"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("evaluation_id", EvaluationId(), nullable=False),
        sa.Column("sink", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("replay_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("due_at", Moment(), nullable=True),
        sa.Column("claim", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("ended_at", Moment(), nullable=True),
        sa.Column("remote_id", sa.Text(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("evaluation_id", "sink", "revision", "replay_id", name="deliveries_once"),
    )
    op.create_index(
        "deliveries_claimable",
        "deliveries",
        ["sink", "due_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('pending', 'leased')"),
        postgresql_where=sa.text("state IN ('pending', 'leased')"),
    )
    op.create_index(
        "deliveries_dead",
        "deliveries",
        ["sink", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'dead'"),
        postgresql_where=sa.text("state = 'dead'"),
    )
    op.create_table(
        "events",
        sa.Column("evaluation_id", EvaluationId(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("secret_label", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("received_at", Moment(), nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("last_repeat_at", Moment(), nullable=True),
        sa.Column("waiting", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("evaluation_id", "event"),
    )
    op.create_index(
        "events_waiting",
        "events",
        ["received_at"],
        unique=False,
        sqlite_where=sa.text("waiting"),
        postgresql_where=sa.text("waiting"),
    )
    op.create_table(
        "fetches",
        sa.Column("evaluation_id", EvaluationId(), nullable=False),
        sa.Column("due_at", Moment(), nullable=True),
        sa.Column("leased", sa.Boolean(), nullable=False),
        sa.Column("claim", sa.Integer(), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("hold_until", Moment(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("evaluation_id"),
    )
    op.create_index(
        "fetches_due",
        "fetches",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "fetches_held",
        "fetches",
        ["hold_until"],
        unique=False,
        sqlite_where=sa.text("hold_until IS NOT NULL"),
        postgresql_where=sa.text("hold_until IS NOT NULL"),
    )
    op.create_table(
        "gate_failures",
        sa.Column("evaluation_id", EvaluationId(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("output_key", sa.Text(), nullable=True),
        sa.Column("module", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("evaluation_id", "position"),
    )
    op.create_table(
        "issues",
        sa.Column("evaluation_id", EvaluationId(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("judge", sa.Text(), nullable=True),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("subcategory", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("evaluation_id", "position"),
    )
    op.create_index("issues_by_category", "issues", ["category", "evaluation_id"], unique=False)
    op.create_table(
        "judges",
        sa.Column("evaluation_id", EvaluationId(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("passed", sa.Boolean(), nullable=True),
        sa.Column("confidence", sa.Float(), nullable=True),
        sa.Column("weight", sa.Float(), nullable=True),
        sa.Column("reasoning", sa.Text(), nullable=True),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("sub_point_results", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("evaluation_id", "position"),
    )
    op.create_table(
        "lanes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("paused_until", Moment(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("held_until", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "other_bodies",
        sa.Column("evaluation_id", EvaluationId(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("evaluation_id", "event", "sha256"),
    )
    op.create_table(
        "processes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("seen_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "revisions",
        sa.Column("evaluation_id", EvaluationId(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("due_to", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("evaluation_id", "revision"),
    )
    op.create_table(
        "set_aside",
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("secret_label", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("received_at", Moment(), nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("last_repeat_at", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_index("set_aside_by_time", "set_aside", ["kind", "received_at"], unique=False)
    op.create_table(
        "trees",
        sa.Column("evaluation_id", EvaluationId(), nullable=False),
        sa.Column("fetched_at", Moment(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("evaluation_id"),
    )
    op.create_table(
        "verdicts",
        sa.Column("evaluation_id", EvaluationId(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("overall_passed", sa.Boolean(), nullable=True),
        sa.Column("weighted_pass_rate", sa.Float(), nullable=True),
        sa.Column("primary_action_code", sa.Text(), nullable=True),
        sa.Column("failure_code", sa.Text(), nullable=True),
        sa.Column("client_ref", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("model_id", sa.Text(), nullable=True),
        sa.Column("task_type", sa.Text(), nullable=True),
        sa.Column("tree", sa.Text(), nullable=False),
        sa.Column("tree_reason", sa.Text(), nullable=True),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("received_at", Moment(), nullable=False),
        sa.Column("completed_at", Moment(), nullable=True),
        sa.Column("tree_updated_at", Moment(), nullable=True),
        sa.Column("due_to", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("evaluation_id"),
    )
    op.create_index("verdicts_by_arrival", "verdicts", ["received_at", "evaluation_id"], unique=False)
    op.create_index("verdicts_by_client_ref", "verdicts", ["client_ref"], unique=False)
    op.create_index("verdicts_by_completion", "verdicts", ["completed_at", "evaluation_id"], unique=False)
    op.create_index("verdicts_by_run", "verdicts", ["run_id"], unique=False)
