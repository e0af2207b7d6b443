"""The schema's version: is the database migrated, is it newer than this program, and bringing it up.

Importing this imports no Alembic, which takes longer than all that a start has to do with the database: most need no migration.
"""

from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, text

from receiver.errors import SchemaError
from receiver.store.database import Database
from receiver.store.migrations.views import create_views, drop_views

_MIGRATIONS = Path(__file__).parent / "migrations"


class SchemaState(NamedTuple):
    """The database's version (None where it is empty) and the newest that this program knows."""

    current: str | None
    newest: str

    @property
    def is_current(self) -> bool:
        """Whether this program can work with it."""
        return self.current == self.newest


async def upgrade(database: Database) -> SchemaState:
    """Brings the schema up to date; several at once do no harm. Raises `SchemaError` if it is newer than this program."""
    return await database.migrate(_upgrade)


async def require_current(database: Database) -> None:
    """Raises `SchemaError` unless this program can work with the database as it is."""
    state = await database.read(schema_state)
    if not state.is_current:
        raise SchemaError(
            f"DATABASE_URL: the database is at schema {state.current or 'none'}, this program needs {state.newest}:"
            " run `receiver db upgrade`, or set DATABASE_AUTO_UPGRADE=on"
        )


def schema_state(conn: Connection) -> SchemaState:
    """The state of the schema. Raises `SchemaError` if a newer program made it."""
    known = versions()
    newest = known[-1]
    current = _current(conn)
    if current is not None and current not in known:
        raise SchemaError(
            f"DATABASE_URL: the database is at schema {current}, newer than this program, which knows up to {newest}:"
            " run the newer program, or point DATABASE_URL at another database"
        )
    return SchemaState(current, newest)


def versions() -> list[str]:
    """All that this program knows, the oldest first: each step's file begins with its own."""
    return sorted(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def _current(conn: Connection) -> str | None:
    if not conn.dialect.has_table(conn, "alembic_version"):
        return None
    version: str | None = conn.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return version


def _upgrade(conn: Connection) -> SchemaState:
    state = schema_state(conn)
    if state.is_current:
        return state
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = conn
    drop_views(conn)
    command.upgrade(config, "head")
    create_views(conn)
    return schema_state(conn)
