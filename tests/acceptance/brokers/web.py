"""A web server behind TLS, whose certificate is not always good, and which does not always say yes."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import trustme

from tests.acceptance.brokers.base import Broker
from tests.acceptance.collector import SIGNING_SECRET, Arrival
from tests.sinks.servers import Connection, Request, WebServer, answering, response

HOST = "127.0.0.1"
AUTHORITY = trustme.CA()
"""That the receiver believes."""


class WebBroker(Broker):
    """What it said yes to is what came; a repeat is told by `webhook-id`."""

    kind = "http"
    drops_repeats = False
    at_once = 1

    async def start(self) -> int:
        """One for itself."""
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        AUTHORITY.issue_cert(HOST).configure_cert(self._tls)
        self._arrivals: list[Arrival] = []
        self._server = await self._stack.enter_async_context(WebServer(self._take, tls=self._tls))
        return self._server.port

    async def make(self) -> None:
        """Any address will do."""

    def options(self) -> dict[str, str | float | bool]:
        return {"url": f"https://{HOST}:{self.gap.port}/hook", "secret": SIGNING_SECRET}

    async def received(self) -> list[Arrival]:
        assert {request.target for request in self._server.requests} == {"/hook"}, "a redirect was followed"
        return self._arrivals

    async def end(self) -> None:
        """It ends with the stack."""

    async def _take(self, request: Request, connection: Connection) -> None:
        self._keep(request)
        await connection.say(response(204))

    def _keep(self, request: Request) -> None:
        self._arrivals.append(Arrival(request.headers["webhook-id"], json.loads(request.body)))

    @asynccontextmanager
    async def untrusted(self) -> AsyncIterator[None]:
        """Its certificate is that of an authority which nobody knows."""
        trustme.CA().issue_cert(HOST).configure_cert(self._tls)
        async with self._another_certificate():
            yield

    @asynccontextmanager
    async def expired(self) -> AsyncIterator[None]:
        """Its certificate was good until yesterday."""
        AUTHORITY.issue_cert(HOST, not_after=datetime.now(UTC) - timedelta(days=1)).configure_cert(self._tls)
        async with self._another_certificate():
            yield

    @asynccontextmanager
    async def _another_certificate(self) -> AsyncIterator[None]:
        self.gap.drop()
        yield
        AUTHORITY.issue_cert(HOST).configure_cert(self._tls)

    @asynccontextmanager
    async def cut(self) -> AsyncIterator[None]:
        """It has the message, and hangs up in the middle of saying so."""

        async def break_off(request: Request, connection: Connection) -> None:
            self._keep(request)
            await connection.say(b"HTTP/1.1 204 No Cont")
            connection.reset()

        self._server.behaviour = break_off
        yield
        self._server.behaviour = self._take

    @asynccontextmanager
    async def failing(self) -> AsyncIterator[None]:
        """503."""
        self._server.behaviour = answering(503)
        yield
        self._server.behaviour = self._take

    @asynccontextmanager
    async def limited(self) -> AsyncIterator[None]:
        """429, and come again in two seconds."""
        self._server.behaviour = answering(429, retry_after="2")
        yield
        self._server.behaviour = self._take

    @asynccontextmanager
    async def redirected(self) -> AsyncIterator[None]:
        """To where we are not to go by ourselves."""
        self._server.behaviour = answering(307, location="/elsewhere")
        yield
        self._server.behaviour = self._take
