"""`DATABASE_URL` in the forms that people write, made into what the drivers take. The only place that does."""

from typing import Any, Literal

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

Kind = Literal["sqlite", "postgresql"]

_SSL = "sslmode"


def read_address(text: str) -> tuple[Kind, URL]:
    """The kind of database and its address for SQLAlchemy, with the driver that this service uses.

    Raises ValueError, which does not show the address (it may hold a password).
    """
    try:
        address = make_url(text.replace("postgres://", "postgresql://", 1))
    except ArgumentError:
        raise ValueError("must be sqlite:///PATH or postgresql://USER@HOST/NAME") from None
    backend = address.drivername.partition("+")[0]
    if backend == "sqlite" and address.database and address.database != ":memory:":
        return "sqlite", address.set(drivername="sqlite")
    if backend == "postgresql":
        return "postgresql", _for_asyncpg(address)
    raise ValueError("must be sqlite:///PATH (a file) or postgresql://USER@HOST/NAME")


def _for_asyncpg(address: URL) -> URL:
    """libpq's `sslmode` is asyncpg's `ssl`, with the same words; its other options go through as they are."""
    options: dict[str, Any] = dict(address.query)
    if _SSL in options:
        options["ssl"] = options.pop(_SSL)
    return address.set(drivername="postgresql+asyncpg", query=options)
