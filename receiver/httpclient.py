"""The one place that names the HTTP client, so that changing it is one line. Everything outgoing goes through here.

The client is httpx. Its connections are those of httpcore2, the maintained successor of the httpcore that httpx brings along
(docs/decisions/0008-connections.md).
"""

import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import cast

import httpcore2 as core
import httpx as client

AsyncClient = client.AsyncClient
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


def open_client(*, timeout: float, connections: int = MOST_CONNECTIONS) -> AsyncClient:
    """A client for one destination: `timeout` seconds for each step, no redirects, nothing from the environment."""
    wire = transport(min(connections, MOST_CONNECTIONS))
    return AsyncClient(timeout=timeout, transport=wire, follow_redirects=False, trust_env=False)


def transport(connections: int) -> client.AsyncBaseTransport:
    """What puts the requests of a client on the wire, over at most so many connections."""
    return _Transport(connections)


class _Transport(client.AsyncBaseTransport):
    """httpx's own transport, over a pool of httpcore2. Raises nothing but `HTTPError`, whatever the network does."""

    def __init__(self, connections: int) -> None:
        self._pool = core.AsyncConnectionPool(
            ssl_context=tls_context(),
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
