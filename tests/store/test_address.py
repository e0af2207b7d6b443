"""`DATABASE_URL` in the forms that people write."""

from pathlib import Path

import pytest

from receiver.store.address import driver_address, read_address
from receiver.store.database import open_database
from tests.store.places import opened, scalar


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sqlite:///receiver.db", "receiver.db"),
        ("sqlite:///data/receiver.db", "data/receiver.db"),
        ("sqlite:////var/lib/receiver.db", "/var/lib/receiver.db"),
        ("sqlite:///with space é%3F%25.db", "with space é?%.db"),
        ("sqlite:///postgres://x", "postgres://x"),
        ("sqlite+aiosqlite:///receiver.db", "receiver.db"),
    ],
)
def test_sqlite(text: str, path: str) -> None:
    """Three slashes are a relative path, four an absolute one; `%` and two digits stand for a character."""
    kind, url = read_address(text)
    assert (kind, url.database, url.drivername) == ("sqlite", path, "sqlite")


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_odd_file_name(tmp_path: Path) -> None:
    """The file that is opened, and the lock beside it, have the name that the address says."""
    async with opened(f"sqlite:///{tmp_path}/a%3Fb%2520c.db") as database:
        database.take_pipeline()
        await database.write(scalar, "PRAGMA user_version")
        assert names_in(tmp_path) >= {"a?b%20c.db", "a?b%20c.db.pipeline"}


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("postgresql://me:pw@host:6543/name", "postgresql://me:pw@host:6543/name"),
        ("postgres://me:pw@host/name", "postgresql://me:pw@host/name"),
        ("postgresql+asyncpg://host/name", "postgresql://host/name"),
        ("postgresql+psycopg://host/name", "postgresql://host/name"),
        ("postgres+asyncpg://host/name", "postgresql://host/name"),
        ("postgresql://me:p%40s%2Fs@host/name", "postgresql://me:p%40s%2Fs@host/name"),
        ("postgresql://me:postgres%3A%2F%2F@host/name", "postgresql://me:postgres%3A%2F%2F@host/name"),
        ("postgresql://host/name?sslmode=verify-full", "postgresql://host/name?sslmode=verify-full"),
        (
            "postgres://h/n?sslmode=require&sslrootcert=%2Fca.pem",
            "postgresql://h/n?sslmode=require&sslrootcert=%2Fca.pem",
        ),
        (
            "postgresql://h/n?channel_binding=require&connect_timeout=3&sslmode=disable",
            "postgresql://h/n?sslmode=disable",
        ),
        ("postgresql:///name?host=%2Frun%2Fpostgresql", "postgresql:///name?host=%2Frun%2Fpostgresql"),
    ],
)
def test_postgresql(text: str, driver: str) -> None:
    """Each form of address becomes one that asyncpg takes, with the options it knows."""
    kind, url = read_address(text)
    assert (kind, url.drivername) == ("postgresql", "postgresql+asyncpg")
    assert driver_address(url) == driver


@pytest.mark.parametrize(
    "text",
    [
        "",
        "receiver.db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///:memory:?cache=shared",
        "sqlite://receiver.db",
        "sqlite://folder/receiver.db",
        "mysql://me:hunter2@host/name",
        "mysql+asyncmy://me:hunter2@host/name",
        "oracle://me:hunter2@host/name",
        "notpostgres://me:hunter2@host/name",
        "http://me:hunter2@host/name",
        "postgresql//me:hunter2@host/name",
        "postgresql://me:hunter2",
        "postgresql://me@host:hunter2/name",
        "me:hunter2@host",
    ],
)
def test_refused(text: str) -> None:
    """What is no address of ours is refused, with what would be right and without a word of the address."""
    for read in (read_address, open_database):
        with pytest.raises(ValueError, match=r"must be sqlite:///PATH .*or postgresql://USER@HOST/NAME") as caught:
            read(text)
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_password_not_shown() -> None:
    """What is shown of an address by itself is without its password."""
    _, url = read_address("postgresql://me:hunter2@host/name")
    assert "hunter2" not in f"{url} {url!r}"
