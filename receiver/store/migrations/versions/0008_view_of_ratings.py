"""The view of ratings. Views are made anew after every upgrade, so that it takes no more than that there is one."""

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing: see `receiver.store.migrations.views`."""
