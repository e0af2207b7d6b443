"""What the sinks that post over HTTP share: one attempt, bounded in time; what a status means; an address not shown."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from datetime import timedelta
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from pydantic import SecretStr

from receiver.core.retry import retry_after
from receiver.httpclient import URL, Client, ConnectError, HTTPError, InvalidURL, Response, tls_context, why
from receiver.sinks.base import Again, Down, Never, SinkError
from receiver.sinks.connecting import NOT_IN_TIME, TlsOptions, abort, why_not_connected

LONGEST_WAIT = timedelta(hours=1)
"""What a `Retry-After` is cut to: a wait of days would be a mistake of the other side's."""
BODY_BYTES = 16 * 1024
"""How much of an answer's body is taken off the connection, so that the next post can use it again."""
REFUSAL_SECONDS = 1.0
"""How long a check waits whether the other side ends TLS after all: that it takes our certificate, it does not say."""
_AS_IT_IS = {"accept-encoding": "identity"}
"""What comes of an answer's body is cut off, and the beginning of what was compressed cannot be read."""

NO_ANSWER = Again("no answer in time")
_PAUSES = {
    401: "it does not know our credentials",
    403: "it does not let us in",
    404: "there is nothing at this address",
    410: "there is nothing at this address any more",
    429: "it has had too much",
}
_MAY_PASS = frozenset({408, 425})
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Answer(NamedTuple):
    """An answer whose head has come; `body` is its beginning, what came in time, and `after` its Retry-After in seconds."""

    status: int
    after: float | None
    body: bytes
    headers: Mapping[str, str] = {}


def web_address(address: SecretStr) -> SecretStr:
    """Validates an option: an http or https address with a host. Raises ValueError, whose message does not show it."""
    if not _is_web_address(address.get_secret_value()):
        raise ValueError("must be an http:// or https:// address with a host")
    return address


def safe_address(address: SecretStr) -> SecretStr:
    """Validates an option: an https address, or one on this machine. Raises ValueError, whose message does not show it."""
    url = URL(web_address(address).get_secret_value())
    if url.scheme != "https" and url.host not in _LOOPBACK:
        raise ValueError("must be https://, for what is sent there is secret; http:// is for this machine only")
    return address


def _is_web_address(text: str) -> bool:
    """Whether the client and the standard library agree that it is one: each passes over mistakes that the other sees."""
    try:
        url, port = URL(text), urlsplit(text).port
        url.raw_host.decode("ascii").encode("idna")  # as the resolver does, which cannot say so in time
        return url.scheme in ("http", "https") and bool(url.host) and port != 0
    except (ValueError, InvalidURL):
        return False


def judge(answer: Answer) -> Again | Never | Down:
    """What a status other than 2xx means for the message, and for the sink."""
    status, after = answer.status, answer.after
    if status in _PAUSES:
        return Down(f"answered {status}: {_PAUSES[status]}", after)
    if 300 <= status < 400:
        return Down(f"answered {status}: it redirects, which is not followed; set the address that it leads to", after)
    if status in _MAY_PASS or 500 <= status < 600:
        return Again(f"answered {status}", after)
    return Never(f"answered {status}: it does not take this message")


class Poster:
    """Posts to one address, and below it. An attempt takes `timeout` seconds at most, of which `patience` to wait for the
    answer's body, of which it reads `body_bytes`. `tls` is whom it believes and what it shows, if not as for everyone.
    """

    def __init__(
        self,
        address: SecretStr,
        *,
        timeout: float,
        connections: int,
        patience: float,
        body_bytes: int = BODY_BYTES,
        tls: TlsOptions | None = None,
    ) -> None:
        self._url = URL(address.get_secret_value())
        self._timeout = timeout
        self._patience = patience
        self._body_bytes = body_bytes
        # Where files are given, they are read at each connection; else all share what browsers believe.
        own = tls if tls is not None and (tls.tls_ca or tls.tls_cert) else None
        self._client = Client(timeout=timeout, connections=connections, tls=own.tls_context if own else None)
        self._tls_context = tls_context if own is None else own.tls_context
        self._why_not_connected = why_not_connected if tls is None else tls.why_not_connected

    @property
    def origin(self) -> str:
        """Scheme, host and port: what of the address may be shown."""
        return f"{self._url.scheme}://{self._url.netloc.decode('ascii')}"

    def deadline(self) -> float:
        """When an attempt that starts now must be over, in the event loop's time."""
        return asyncio.get_running_loop().time() + self._timeout

    async def post(
        self, content: bytes, headers: Mapping[str, str], deadline: float, *, path: str = ""
    ) -> Answer | Again | Down:
        """An answer of whatever status, or why there is none. `path` is what follows the address after a slash."""
        url = URL(f"{self._url}/{path}") if path else self._url
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._client.send("POST", url, {**_AS_IT_IS, **headers}, content)
        except TimeoutError:
            return NO_ANSWER
        except SinkError as error:
            return Down(str(error))
        except HTTPError as error:
            return Down(self._why_not_connected(error)) if isinstance(error, ConnectError) else Again(why(error))
        try:
            after = retry_after(response.headers.get("retry-after"), LONGEST_WAIT)
            body = await self._beginning(response, deadline)
            return Answer(response.status_code, after.total_seconds() if after else None, body, response.headers)
        finally:
            await response.aclose()

    async def _beginning(self, response: Response, deadline: float) -> bytes:
        """What comes of the body in time. However it ends, the status stands."""
        body = bytearray()
        raw = cast("AsyncGenerator[bytes]", response.aiter_raw())  # a generator, typed as less; it must be closed
        patience = min(deadline, asyncio.get_running_loop().time() + self._patience)
        with suppress(TimeoutError, HTTPError):
            async with asyncio.timeout_at(patience), aclosing(raw) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) >= self._body_bytes:
                        break
        return bytes(body[: self._body_bytes])

    async def reach(self) -> None:
        """Connects, with TLS where the address says so, and sends nothing. Raises `SinkError` with the reason."""
        context = self._tls_context() if self._url.scheme == "https" else None
        host, port = self._url.raw_host.decode("ascii"), self._url.port or (443 if context else 80)
        try:
            async with asyncio.timeout(self._timeout):
                reader, writer = await asyncio.open_connection(host, port, ssl=context)
        except TimeoutError as error:
            raise SinkError(NOT_IN_TIME) from error
        except OSError as error:
            raise SinkError(self._why_not_connected(error)) from error
        try:
            if context:
                await self._not_refused(reader)
        finally:
            abort(writer)
            with suppress(OSError):
                await writer.wait_closed()

    async def _not_refused(self, reader: asyncio.StreamReader) -> None:
        """Waits whether TLS is ended as soon as it has begun, as under TLS 1.3 for a certificate that is not taken."""
        try:
            async with asyncio.timeout(min(REFUSAL_SECONDS, self._timeout)):
                await reader.readexactly(1)
        except TimeoutError:
            return
        except (OSError, asyncio.IncompleteReadError) as error:
            raise SinkError(self._why_not_connected(error)) from error

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()
