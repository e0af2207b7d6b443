"""From what drivers raise to `StoreUnavailable`: the one place that knows their words."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from receiver.errors import StoreUnavailable

# https://www.sqlite.org/rescode.html: what a full or failing disk answers.
_SQLITE_DISK = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT})
_SQLITE_SCHEMA = ("no such table", "no such column", "has no column named")  # no code tells these apart
PRIMARY_CODE = 0xFF

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRES_DISK = ("53100", "58030")
_POSTGRES_SCHEMA = ("42P01", "42703", "3F000")
_POSTGRES_AGAIN = ("40001", "40P01")

_POSTGRES_OURS = ("22", "23", "42")
"""Classes of errors that wrong data or a wrong statement make."""
_POSTGRES_NO_RIGHT = "42501"
_SQLITE_OURS = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)

_Unreachable = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError, PoolTimeout)


def is_passing_conflict(error: DBAPIError | asyncpg.PostgresError) -> bool:
    """Whether PostgreSQL gave up this transaction for another's sake: to be run again at once."""
    return _sqlstate(error) in _POSTGRES_AGAIN


def is_lost_connection(error: BaseException) -> bool:
    """Whether the connection was gone before or while it was used."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


@contextmanager
def translated() -> Iterator[None]:
    """Raises `StoreUnavailable` in place of what a driver says when the database cannot be used."""
    try:
        yield
    except (DBAPIError, asyncpg.PostgresError) as error:
        unavailable = _unavailable(error)
        if unavailable is None:
            raise
        raise unavailable from error
    except _SQLITE_OURS:
        raise
    except sqlite3.Error as error:
        raise _of_sqlite(error) from error
    except _Unreachable as error:
        raise StoreUnavailable("database", f"the database cannot be reached ({type(error).__name__})") from error


def _unavailable(error: DBAPIError | asyncpg.PostgresError) -> StoreUnavailable | None:
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, _SQLITE_OURS):
        return None
    if isinstance(original, sqlite3.Error):
        return _of_sqlite(original)
    state = _sqlstate(error) or ""
    if state in _POSTGRES_DISK:
        return StoreUnavailable("disk", "PostgreSQL's disk is full or failing")
    if state in _POSTGRES_SCHEMA:
        return StoreUnavailable("schema", "the database is not migrated: run `receiver db upgrade`")
    if state[:2] in _POSTGRES_OURS and state != _POSTGRES_NO_RIGHT:  # ours to mend: trying again is no use
        return None
    return StoreUnavailable("database", f"PostgreSQL cannot be used just now ({state or type(original).__name__})")


def _of_sqlite(error: sqlite3.Error) -> StoreUnavailable:
    code = getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE
    if code in _SQLITE_DISK:
        return StoreUnavailable("disk", f"SQLite cannot write: {error}")
    if any(words in str(error) for words in _SQLITE_SCHEMA):
        return StoreUnavailable("schema", "the database is not migrated: run `receiver db upgrade`")
    return StoreUnavailable("database", f"SQLite cannot be used just now: {error}")


def _sqlstate(error: DBAPIError | asyncpg.PostgresError) -> str | None:
    """PostgreSQL's code, from SQLAlchemy's error or from the driver's own."""
    return getattr(getattr(error, "orig", error), "sqlstate", None)
