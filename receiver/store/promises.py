"""Whether the database is set up to keep what it says is committed."""

from sqlalchemy import Connection, text

_SETTINGS = (
    "SELECT name FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit') AND setting = 'off' ORDER BY name"
)
_DOUBTS = {
    "fsync": "fsync is off, so that a crash of its machine may lose or spoil what was acknowledged; set fsync = on",
    "synchronous_commit": (
        "synchronous_commit is off for this role or database, so that a crash of the server may lose what was acknowledged; "
        "ALTER ROLE … RESET synchronous_commit, or ALTER DATABASE …, or postgresql.conf"
    ),
}


def doubts(conn: Connection) -> list[str]:
    """Why a callback that was answered with 2xx might be lost all the same, and what to do; of SQLite nothing can be said."""
    if conn.dialect.name != "postgresql":
        return []
    return [_DOUBTS[name] for name in conn.execute(text(_SETTINGS)).scalars()]
