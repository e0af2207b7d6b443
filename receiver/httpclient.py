"""The one place that names the HTTP client, so that changing it is one line. Everything outgoing goes through here.

Requests and answers are httpx's. Their connections are those of httpcore2, the maintained successor of the httpcore that httpx
brings along (docs/decisions/0008-connections.md).
"""

import asyncio
import select
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import aclosing, contextmanager
from functools import cached_property
from typing import Any, cast

import httpcore2 as core
import httpx as client

from receiver import __version__

Response = client.Response
HTTPError = client.HTTPError
InvalidURL = client.InvalidURL
ConnectError = client.ConnectError
ConnectTimeout = client.ConnectTimeout
TimeoutException = client.TimeoutException
URL = client.URL

MOST_CONNECTIONS = 20
"""For one destination. A request costs more the more there are: see docs/benchmarks.md."""
KEPT_SECONDS = 5.0
"""How long an idle connection is kept, as in httpx."""
_HEADERS = {"user-agent": f"runflow-receiver/{__version__}", "accept": "*/*", "accept-encoding": "gzip, deflate"}


TlsContext = Callable[[], ssl.SSLContext]


class Client:
    """Requests to one destination, each by itself: no redirects, no cookies, nothing from the environment.

    This is httpx's transport without httpx's `AsyncClient`. That merges addresses and headers, keeps a jar of cookies and knows
    of authentication and history, which is a quarter of what a request costs (docs/benchmarks.md#the-http-client), and whoever
    we post to may fill the jar.
    """

    def __init__(self, *, timeout: float, connections: int = MOST_CONNECTIONS, tls: TlsContext | None = None) -> None:
        """`timeout` seconds for each step. `tls` is asked for each connection; what it raises, the request raises.

        Without it, as in `tls_context`.
        """
        self._wire = _Transport(min(connections, MOST_CONNECTIONS), tls)
        self._extensions = {"timeout": client.Timeout(timeout).as_dict()}
        self.is_closed = False

    async def send(
        self, method: str, url: URL | str, headers: Mapping[str, str], content: bytes | None = None
    ) -> Response:
        """An answer of whatever status, with its body still to be read; it is to be closed.

        `headers` in small letters. Who is named in the address is named to the other side (RFC 7617). Raises `HTTPError` and
        `InvalidURL`.
        """
        if self.is_closed:  # the pool would connect anew
            raise RuntimeError("the client is closed")
        sent = {**_HEADERS, **headers}
        request = client.Request(method, url, headers=sent, content=content, extensions=self._extensions)
        if request.url.userinfo:
            next(client.BasicAuth(request.url.username, request.url.password).auth_flow(request))
        return await self._wire.handle_async_request(request)

    async def post(self, url: URL | str, headers: Mapping[str, str], content: bytes) -> Response:
        """An answer with its body. Raises as `send` does."""
        async with aclosing(await self.send("POST", url, headers, content)) as answer:
            await answer.aread()
            return answer

    async def aclose(self) -> None:
        """Ends all connections."""
        self.is_closed = True
        await self._wire.aclose()


class _Transport(client.AsyncBaseTransport):
    """httpx's own transport, over a pool of httpcore2. Raises nothing but `HTTPError`, whatever the network does."""

    def __init__(self, connections: int, tls: TlsContext | None) -> None:
        self._pool = core.AsyncConnectionPool(
            ssl_context=tls_context(),
            network_backend=_Network(tls),
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=KEPT_SECONDS,
        )

    async def handle_async_request(self, request: client.Request) -> Response:
        url = request.url
        asked = core.Request(
            request.method,
            core.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=cast("client.AsyncByteStream", request.stream),
            extensions=request.extensions,
        )
        with _translated(request):
            answer = await self._pool.handle_async_request(asked)
        body = _Body(cast("AsyncIterable[bytes]", answer.stream), request)
        return Response(answer.status, headers=answer.headers, stream=body, extensions=answer.extensions)

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Network(core.AnyIOBackend):
    """What a pool takes its connections from. With `tls` each speaks TLS by a context of its own, and not by the pool's."""

    def __init__(self, tls: TlsContext | None) -> None:
        self._tls = tls

    async def connect_tcp(self, *where: Any, **how: Any) -> core.AsyncNetworkStream:
        context = None if self._tls is None else self._tls()
        return _Connection(await super().connect_tcp(*where, **how), context)


class _Connection(core.AsyncNetworkStream):
    """anyio's. For each request the pool asks every idle connection whether something has come on it, or its end.

    Here that is one system call. anyio would list all that is known of the socket first: a tenth of what a request costs.
    """

    def __init__(self, stream: core.AsyncNetworkStream, context: ssl.SSLContext | None = None) -> None:
        self._stream = stream
        self._context = context

    def read(self, *how: Any, **more: Any) -> Coroutine[Any, Any, bytes]:
        return self._stream.read(*how, **more)

    def write(self, *how: Any, **more: Any) -> Coroutine[Any, Any, None]:
        return self._stream.write(*how, **more)

    async def start_tls(self, *how: Any, **more: Any) -> core.AsyncNetworkStream:
        if self._context is not None:
            more["ssl_context"] = self._context
        try:
            return _Connection(await self._stream.start_tls(*how, **more))
        except asyncio.CancelledError:  # after which httpcore2 (2.16) forgets it without closing it
            await self.aclose()
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._has_input() if info == "is_readable" else self._stream.get_extra_info(info)

    def _has_input(self) -> bool:
        try:
            return bool(self._poll.poll(0))
        except (TypeError, ValueError, AttributeError):  # the socket is gone, or its number: that is its end
            return True

    @cached_property
    def _poll(self) -> "select.poll":
        poll = select.poll()
        poll.register(self._stream.get_extra_info("socket"), select.POLLIN)
        return poll


class _Body(client.AsyncByteStream):
    def __init__(self, stream: AsyncIterable[bytes], request: client.Request) -> None:
        self._stream = stream
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated(self._request):
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        if hasattr(self._stream, "aclose"):
            await self._stream.aclose()


@contextmanager
def _translated(request: client.Request) -> Iterator[None]:
    """httpcore2's errors as httpx's, which have the same names; the cause stays."""
    try:
        yield
    except (core.TimeoutException, core.NetworkError, core.ProtocolError, core.UnsupportedProtocol) as error:
        kind: type[client.RequestError] = getattr(client, type(error).__name__)
        raise kind("", request=request) from error
    except ssl.SSLError as error:
        # Under TLS 1.3 it is only after the handshake, and so from a read, that one hears that a certificate is not taken.
        raise ConnectError("TLS was ended", request=request) from error
    except AttributeError as error:
        # Where the other side hangs up as soon as it is connected to, uvloop has no socket any more, and anyio (4.16) asks it
        # for its address all the same.
        if error.name != "getpeername":
            raise
        raise ConnectError("the other side hung up at once", request=request) from error


def why(error: Exception) -> str:
    """What went wrong, for people. The client's own text is left out where it may show the address, which can be a secret."""
    if isinstance(error, client.TimeoutException | TimeoutError):
        return "no answer in time" if not isinstance(error, client.ConnectTimeout) else "no connection in time"
    if isinstance(error, client.ConnectError):
        return "cannot connect"
    return f"the connection broke ({type(error).__name__})"


def tls_context() -> ssl.SSLContext:
    """Whose certificates every client here believes, for a connection that is made by hand."""
    return client.create_ssl_context(trust_env=False)
