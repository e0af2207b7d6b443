"""Alembic's entry: runs the steps on the connection that `receiver.store.schema` hands over."""

from alembic import context

from receiver.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
