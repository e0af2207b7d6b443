"""The schema's history, one file for each step. `receiver.store.schema` runs it."""
