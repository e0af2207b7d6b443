"""From the text of an environment name to its value. Each raises ValueError that says what is wrong and what would be right,
and never shows the text."""

import ipaddress
import re
from typing import Final, Literal
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import SecretStr

from receiver.core.signature import Secret, read_secrets

LogLevel = Literal["debug", "info", "warning", "error", "critical"]
LogFormat = Literal["json", "console"]

VISIBLE: Final = re.compile(r"[!-~]+")
"""What a header can carry without quoting: ASCII without white space and control characters."""

_FLAGS: Final = {
    word: state for state, words in ((True, "on true 1 yes"), (False, "off false 0 no")) for word in words.split()
}
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?")
_BETWEEN = re.compile(r"[\s,]+")
_PORTS: Final = range(65536)
_SQLITE = re.compile(r"sqlite:///(?!:memory:)[^?]+")
_POSTGRESQL = re.compile(
    r"postgres(?:ql)?://"
    r"(?:(?P<user>[^:/@]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^][/:?@]*)(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/(?P<database>[^?@]*))?(?:\?(?P<options>[^@]*))?"
)
_OPTIONS: Final = frozenset(
    {
        "application_name", "channel_binding", "connect_timeout", "dbname", "gssencmode", "gsslib", "host", "keepalives",
        "krbsrvname", "options", "passfile", "password", "port", "sslcert", "sslcrl", "sslkey", "sslmode", "sslpassword",
        "sslrootcert", "ssl_max_protocol_version", "ssl_min_protocol_version", "target_session_attrs", "user",
    }
)  # fmt: skip
"""What libpq knows of what asyncpg takes, and what it takes and passes over (receiver.store.address)."""
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_DATABASES = "give sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"
_LOOPBACK_NAMES = ("localhost", "localhost.")


def flag(text: str) -> bool:
    """on, true, 1, yes or off, false, 0, no, in any case."""
    state = _FLAGS.get(text.lower())
    if state is None:
        raise ValueError("is neither on nor off; give on or off (true, 1, yes and false, 0, no do too)")
    return state


def port(text: str) -> int:
    """0 takes a free port."""
    if text.startswith("tcp://"):
        raise ValueError(
            "is an address that Kubernetes sets for a Service of that name; "
            "put enableServiceLinks: false into the pod or set a port there"
        )
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) in _PORTS):
        raise ValueError("is not a port; give a whole number from 0 to 65535, such as 8000")
    return int(text)


def host(text: str) -> str:
    """An IP address or a host name to listen at."""
    if not (_HOST_NAME.fullmatch(text) or _is_address(text)):
        raise ValueError("is not a host; give an IP address or a host name, without port, such as 127.0.0.1 or ::")
    return text


def log_level(text: str) -> LogLevel:
    """A level's name, in any case."""
    match text.lower():
        case "debug" | "info" | "warning" | "error" | "critical" as level:
            return level
    raise ValueError("is not a level; give debug, info, warning, error or critical")


def log_format(text: str) -> LogFormat:
    """How log lines look."""
    match text.lower():
        case "json" | "console" as form:
            return form
    raise ValueError("is not a format; give json or console")


def base_address(text: str) -> str:
    """An http or https address to which paths are added, without the slash at its end."""
    try:
        parts = urlsplit(text)
        good = VISIBLE.fullmatch(text) and parts.scheme in ("http", "https") and _has_host(parts)
    except ValueError:  # its own message shows parts of the text
        good = False
    if not good:
        raise ValueError("is not an address; give one such as https://host.example or https://host.example/path")
    if "@" in parts.netloc:
        raise ValueError("holds a user or a password; give the address without")
    if "?" in text or "#" in text:
        raise ValueError("has a query or a fragment; give the address without")
    return text.rstrip("/")


def _has_host(parts: SplitResult) -> bool:
    """Raises ValueError for a bad port, as reading it does."""
    name = parts.hostname or ""
    return parts.port != 0 and (_is_address(name) if "[" in parts.netloc else bool(_HOST_NAME.fullmatch(name)))


def is_plain_beyond_loopback(address: str) -> bool:
    """Whether what is sent to this address can be read on the way."""
    parts = urlsplit(address)
    name = parts.hostname or ""
    return parts.scheme == "http" and not (
        name in _LOOPBACK_NAMES or (_is_address(name) and ipaddress.ip_address(name).is_loopback)
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def header_text(text: str) -> str:
    """A value that goes into a header as it is."""
    if not VISIBLE.fullmatch(text):
        raise ValueError("has white space or characters outside ASCII, which a header cannot carry; copy it again")
    return text


def credential(text: str) -> SecretStr:
    """A key or a token, as the service that issued it shows it."""
    return SecretStr(header_text(text))


def webhook_secrets(text: str) -> tuple[Secret, ...]:
    """One secret or several, each with or without a label."""
    try:
        return tuple(read_secrets(text))
    except ValueError as error:
        raise ValueError(f"{error}; give SECRET or label=SECRET, several with commas or white space between") from None


def database_url(text: str) -> SecretStr:
    """`sqlite:///PATH`, `postgresql://…` or `postgres://…`, which may hold a password."""
    scheme = text.partition(":")[0].lower()
    if scheme in ("postgresql", "postgres"):
        _check_postgresql(text)
    elif scheme == "sqlite":
        if not _SQLITE.fullmatch(text):
            raise ValueError(
                "does not name a file; give sqlite:///PATH, without options (four slashes: an absolute path)"
            )
    elif "+" in scheme:
        raise ValueError(f"names a driver, which this program chooses itself; {_DATABASES}")
    else:
        raise ValueError(f"is not an address of SQLite or PostgreSQL; {_DATABASES}")
    return SecretStr(text)


def _check_postgresql(text: str) -> None:
    parts = _POSTGRESQL.fullmatch(text)
    if not parts or int(parts["port"] or 0) not in _PORTS or not (parts["host"] or parts["options"]):
        raise ValueError(
            "is not an address of PostgreSQL; give postgresql://USER:PASSWORD@HOST:PORT/DATABASE "
            "with special characters of the password as %XX"
        )
    for name, value in parse_qsl(parts["options"] or "", keep_blank_values=True):
        if name not in _OPTIONS:  # not named: it may be a piece of a password
            raise ValueError(f"has an option that is unknown here; there are {', '.join(sorted(_OPTIONS))}")
        if name == "sslmode" and value not in _SSL_MODES:
            raise ValueError(f"has a wrong sslmode; give one of {', '.join(_SSL_MODES)}")


def database_shown(url: str) -> str:
    """The database without user, password and options, for people: `sqlite:///PATH` or `postgresql://HOST:PORT/DATABASE`."""
    parts = _POSTGRESQL.fullmatch(url)
    if not parts:
        return url
    number = f":{parts['port']}" if parts["port"] else ""
    return f"postgresql://{parts['host']}{number}/{parts['database'] or ''}"


def trusted_proxies(text: str) -> tuple[str, ...]:
    """IP addresses and networks, each once and in its usual form, or `*` alone: whoever connects is believed."""
    items = [item for item in _BETWEEN.split(text) if item]
    if "*" in items:
        return ("*",)
    try:
        return tuple(dict.fromkeys(_proxy(item) for item in items))
    except ValueError:
        raise ValueError(
            "holds an item that is not an IP address, a network such as 10.0.0.0/8, or *; "
            "give these with commas or white space between"
        ) from None


def _proxy(item: str) -> str:
    return str(ipaddress.ip_network(item)) if "/" in item else str(ipaddress.ip_address(item))
