"""`DATABASE_URL` in the forms that people write, made into what the drivers take. The only place that does."""

from typing import Literal

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

Kind = Literal["sqlite", "postgresql"]

_LIBPQ_ONLY = ("channel_binding", "connect_timeout", "gssencmode", "keepalives")
"""Options that libpq knows and asyncpg would hand to the server, which refuses them. The service has its own timeouts."""


def read_address(text: str) -> tuple[Kind, URL]:
    """The kind of database and its address for SQLAlchemy, with the driver that this service uses.

    Raises ValueError, which does not show the address (it may hold a password).
    """
    try:
        address = make_url(text)
    except (ArgumentError, ValueError):  # the second for a port that is no number, which may be part of a password
        raise ValueError("must be sqlite:///PATH or postgresql://USER@HOST/NAME") from None
    backend = address.drivername.partition("+")[0]
    if backend == "sqlite" and not address.host and address.database and address.database != ":memory:":
        return "sqlite", address.set(drivername="sqlite")
    if backend in ("postgresql", "postgres"):
        return "postgresql", _for_asyncpg(address)
    raise ValueError("must be sqlite:///PATH (a file) or postgresql://USER@HOST/NAME")


def _for_asyncpg(address: URL) -> URL:
    """With the options that asyncpg reads out of an address by itself: libpq's `sslmode`, `sslrootcert` and others."""
    return address.set(drivername="postgresql+asyncpg").difference_update_query(_LIBPQ_ONLY)


def driver_address(address: URL) -> str:
    """The address as asyncpg itself takes it, password included."""
    return address.set(drivername="postgresql").render_as_string(hide_password=False)
