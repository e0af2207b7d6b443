"""What the sinks share that keep a connection: TLS and its files, one connection for all attempts, why there is none."""

import asyncio
import socket
import ssl
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar, Generic, Protocol, Self, TypeVar
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr, model_validator

from receiver.httpclient import tls_context
from receiver.sinks.base import SinkError, SinkOptions

BROKEN = "no connection, or a broken one"
HUNG_UP = "cannot connect: it hung up at once"
NOT_TOLD = "cannot connect"
TLS_FAILED = "cannot connect: TLS failed ({})"
NOT_IN_TIME = "no connection in time"


NO_REASON = "no reason given"

_ENDED = (
    "SSLV3_ALERT_HANDSHAKE_FAILURE",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "UNEXPECTED_EOF_WHILE_READING",
    NO_REASON,
)
_WANTING = {HUNG_UP, *map(TLS_FAILED.format, _ENDED)}
"""What is heard of one who wants a certificate."""


class TlsOptions(SinkOptions):
    """How TLS is spoken. The files are read at each connection, so they may be exchanged at any time."""

    asks_for_tls: ClassVar[str]
    """What of the options says that TLS is spoken, for people."""

    tls_ca: str | None = Field(
        default=None,
        description="A PEM file: the only authorities believed in. Those that browsers believe if not given.",
    )
    tls_cert: str | None = Field(default=None, description="A PEM file: the certificate that we show, with its chain.")
    tls_key: str | None = Field(default=None, description="A PEM file: its key, if that is not in `tls_cert` too.")

    @model_validator(mode="after")
    def _files_are_used(self) -> Self:
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("tls_key is the key of tls_cert, which is not given")
        if (self.tls_ca or self.tls_cert) and not self.needs_tls:
            raise ValueError(f"tls_ca, tls_cert and tls_key go with {self.asks_for_tls} only")
        return self

    def tls_context(self) -> ssl.SSLContext:
        """Verifies certificates and host names. Raises `SinkError` if a file is not what it should be."""
        try:
            context = tls_context() if self.tls_ca is None else ssl.create_default_context(cafile=self.tls_ca)
        except OSError as error:
            raise SinkError(f"tls_ca: {_unreadable(error)}") from error
        if self.tls_cert is not None:
            try:
                context.load_cert_chain(self.tls_cert, self.tls_key, password="")  # asks nobody at a terminal
            except OSError as error:
                raise SinkError(f"tls_cert, tls_key: {_unreadable(error)}") from error
        return context

    def why_not_connected(self, error: BaseException) -> str:
        """Why there is no connection, for people. Who wants a certificate often says no more than that it hangs up."""
        why = why_not_connected(error)
        wanting = why in _WANTING and self.needs_tls and self.tls_cert is None
        return f"{why}; it may want a certificate of ours (tls_cert)" if wanting else why

    @property
    @abstractmethod
    def needs_tls(self) -> bool:
        """Whether nothing is said in the clear."""


def _unreadable(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "not a certificate in PEM, or not its key, or a key that wants a password"
    return f"cannot be read ({error.strerror})"


class Connection(Protocol):
    """Is open until it breaks or is closed, and then for ever closed."""

    @property
    def is_open(self) -> bool: ...

    async def close(self) -> None:
        """At once, whatever the other side does."""
        ...


def abort(writer: asyncio.StreamWriter) -> None:
    """Ends a connection at once, whatever is still to be read or written; also one that has ended."""
    with suppress(AttributeError):  # asyncio's, where TLS was ended before
        writer.transport.abort()


@contextmanager
def reset_is_an_error_of_the_connection() -> Iterator[None]:
    """uvloop raises RuntimeError at a write to a connection that was reset just now; here it is ConnectionResetError."""
    try:
        yield
    except RuntimeError as error:
        if "the handler is closed" not in str(error):
            raise
        raise ConnectionResetError from error


def parts_of(address: SecretStr) -> SplitResult | None:
    """The parts of an address, or None where there are none to be had."""
    try:
        parts = urlsplit(address.get_secret_value())
        # Neither is looked at before it is asked for, or connected to.
        usable = parts.port != 0 and (parts.hostname or "").encode("idna")
    except ValueError:
        return None
    return parts if usable else None


C = TypeVar("C", bound=Connection)


class Kept(Generic[C]):
    """One connection for all attempts: made when it is needed, and made anew when it has broken."""

    def __init__(self, connect: Callable[[], Awaitable[C]]) -> None:
        self._connect = connect
        self._connection: C | None = None
        self._one_at_a_time = asyncio.Lock()

    async def get(self, deadline: float) -> C:
        """An open one, by this time of the event loop's. Raises `SinkError` with the reason."""
        try:
            async with asyncio.timeout_at(deadline), self._one_at_a_time:
                if self._connection is not None and not self._connection.is_open:
                    await self.close()
                if self._connection is None:
                    self._connection = await self._connect()
                return self._connection
        except TimeoutError as error:
            raise SinkError(NOT_IN_TIME) from error

    async def close(self) -> None:
        """Closes it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def why_not_connected(error: BaseException) -> str:
    """Why there is no connection, for people, told from the error's causes: its own text may hold the address."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"cannot connect: its certificate is not good ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return TLS_FAILED.format(cause.reason or NO_REASON)
        if isinstance(cause, socket.gaierror):
            return "cannot connect: its name is not known"
        if isinstance(cause, ConnectionRefusedError):
            return "cannot connect: refused"
        if isinstance(cause, ConnectionResetError | BrokenPipeError | asyncio.IncompleteReadError):
            return HUNG_UP
    return NOT_TOLD


def why_broken(error: BaseException) -> str:
    """Why there is no connection, told of an error that may as well be of one that has broken."""
    why = why_not_connected(error)
    return BROKEN if why in (HUNG_UP, NOT_TOLD) else why


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it. A library that raises one error twice leads round in circles."""
    seen: list[BaseException] = []
    while error is not None and not any(error is each for each in seen):
        yield error
        seen.append(error)
        error = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error.__context__
