"""From what drivers raise to the reason that callers are told."""

import sqlite3
from collections.abc import Callable

import asyncpg
import pytest
import sqlalchemy.exc
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi

from receiver.errors import StoreUnavailable
from receiver.store.database import open_database
from receiver.store.failures import is_lost_connection, is_passing_conflict, translated
from tests.store.building import arrival
from tests.store.places import opened, scalar, sql


def of_sqlite(
    code: str, message: str = "what it says", error: type[sqlite3.Error] = sqlite3.OperationalError
) -> Exception:
    raised = error(message)
    raised.sqlite_errorcode = getattr(sqlite3, code)
    raised.sqlite_errorname = code
    return raised


def of_postgres(state: str | None, *, lost: bool = False) -> sqlalchemy.exc.DBAPIError:
    original = (
        asyncpg.PostgresError("what it says") if state is None else asyncpg.PostgresError.new({"C": state, "M": "x"})
    )
    as_sqlalchemy_has_it: Callable[..., Exception] = AsyncAdapt_asyncpg_dbapi.Error
    orig = as_sqlalchemy_has_it("what it says", original)
    return sqlalchemy.exc.DBAPIError("SELECT 1", {}, orig, connection_invalidated=lost)


def wrapped(error: Exception) -> Exception:
    return sqlalchemy.exc.OperationalError("SELECT 1", {}, error)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (of_sqlite("SQLITE_FULL"), "disk"),
        (of_sqlite("SQLITE_IOERR_FSYNC"), "disk"),
        (of_sqlite("SQLITE_IOERR_WRITE"), "disk"),
        (of_sqlite("SQLITE_READONLY"), "disk"),
        (of_sqlite("SQLITE_READONLY_DBMOVED"), "disk"),
        (of_sqlite("SQLITE_CORRUPT", error=sqlite3.DatabaseError), "disk"),
        (of_sqlite("SQLITE_BUSY"), "database"),
        (of_sqlite("SQLITE_BUSY_SNAPSHOT"), "database"),
        (of_sqlite("SQLITE_CANTOPEN"), "database"),
        (of_sqlite("SQLITE_NOTADB", error=sqlite3.DatabaseError), "database"),
        (of_sqlite("SQLITE_ERROR", "no such table: events"), "schema"),
        (of_sqlite("SQLITE_ERROR", "no such column: x"), "schema"),
        (of_sqlite("SQLITE_ERROR", "table events has no column named x"), "schema"),
    ],
)  # fmt: skip
def test_sqlite(error: Exception, reason: str) -> None:
    """SQLite's errors are told apart by their codes, whether SQLAlchemy wrapped them or not."""
    for raised in (error, wrapped(error)):
        with pytest.raises(StoreUnavailable) as caught, translated():
            raise raised
        assert caught.value.reason == reason
        assert caught.value.__cause__ is raised


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("53100", "disk"),      # disk_full
        ("58030", "disk"),      # io_error
        ("42P01", "schema"),    # undefined_table
        ("42703", "schema"),    # undefined_column
        ("3F000", "schema"),    # invalid_schema_name
        ("53300", "database"),  # too_many_connections
        ("53200", "database"),  # out_of_memory
        ("57P01", "database"),  # admin_shutdown
        ("57P03", "database"),  # cannot_connect_now
        ("57014", "database"),  # query_canceled
        ("08006", "database"),  # connection_failure
        ("28P01", "database"),  # invalid_password
        ("3D000", "database"),  # invalid_catalog_name
        ("25006", "database"),  # read_only_sql_transaction
        ("40001", "database"),  # serialization_failure, after all tries
        ("40P01", "database"),  # deadlock_detected, after all tries
        ("42501", "database"),  # insufficient_privilege
        ("XX000", "database"),  # internal_error
        (None, "database"),
    ],
)  # fmt: skip
def test_postgresql(state: str | None, reason: str) -> None:
    """PostgreSQL's errors are told apart by their states."""
    with pytest.raises(StoreUnavailable) as caught, translated():
        raise of_postgres(state)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("to where, is not told"),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        sqlalchemy.exc.TimeoutError("the pool is at its limit"),
        OSError("no route"),
    ],
)
def test_unreachable(error: Exception) -> None:
    """No connection is no database."""
    with pytest.raises(StoreUnavailable) as caught, translated():
        raise error
    assert caught.value.reason == "database"


@pytest.mark.parametrize(
    "error",
    [
        wrapped(sqlite3.IntegrityError("UNIQUE constraint failed")),
        sqlite3.IntegrityError("UNIQUE constraint failed"),
        wrapped(sqlite3.ProgrammingError("wrong number of bindings")),
        sqlite3.DataError("string or blob too big"),
        of_postgres("23505"),  # unique_violation
        of_postgres("22021"),  # character_not_in_repertoire
        of_postgres("42601"),  # syntax_error
        sqlalchemy.exc.NoResultFound(),
        sqlalchemy.exc.InvalidRequestError(),
        KeyError("x"),
        StoreUnavailable("stopping", "x"),
    ],
)
def test_ours(error: Exception) -> None:
    """Wrong data and wrong statements are defects that trying again does not mend: they stay what they are."""
    with pytest.raises(type(error)) as caught, translated():
        raise error
    assert caught.value is error


def test_to_be_run_again() -> None:
    """A transaction that lost against another, and a connection that was gone, are known as such."""
    passing = {state: is_passing_conflict(of_postgres(state)) for state in ("40001", "40P01", "23505", "53100")}
    assert passing == {"40001": True, "40P01": True, "23505": False, "53100": False}
    assert is_lost_connection(of_postgres("57P01", lost=True))
    assert not is_lost_connection(of_postgres("57P01"))
    assert not is_lost_connection(OSError())


async def test_not_migrated(empty_place: str) -> None:
    """A database without tables is told as that by every kind of call."""
    async with opened(empty_place) as database:
        for call in (database.accept([arrival(1)]), database.read(sql, "SELECT * FROM events")):
            with pytest.raises(StoreUnavailable, match="receiver db upgrade") as caught:
                await call
            assert caught.value.reason == "schema"


async def test_no_secret() -> None:
    """What callers are told of an unreachable server shows nothing of its address."""
    database = open_database("postgresql://me:hunter2@127.0.0.1:1/secretname")
    with pytest.raises(StoreUnavailable) as caught:
        await database.read(scalar, "SELECT 1")
    assert "hunter2" not in str(caught.value)
    assert "secretname" not in str(caught.value)
    await database.close()
