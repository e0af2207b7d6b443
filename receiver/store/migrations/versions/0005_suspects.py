"""What a sink was paused by: the messages for which it was, while it took others."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a column that nothing fills until a sink is paused."""
    op.add_column("lanes", sa.Column("suspects", sa.Text(), nullable=True))
