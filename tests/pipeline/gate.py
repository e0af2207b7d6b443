"""An offline Runflow whose API can be held: what asks waits, and is counted, until it is let through."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.offline import OfflineRunflow
from receiver.offline.access import Access
from receiver.offline.listener import Listener
from receiver.offline.server import create_app


class Gate:
    """Stands before an application. While `open` is not set, requests wait; `waiting` is how many do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0
        self.most = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            await self.open.wait()
        finally:
            self.waiting -= 1
        await self._app(scope, receive, send)


@asynccontextmanager
async def gated(runflow: OfflineRunflow) -> AsyncIterator[tuple[Gate, str]]:
    """A gate before the API of this Runflow, on an address of its own."""
    gate = Gate(create_app(runflow, Access(None)))
    listener = Listener(gate)
    await listener.start()
    try:
        yield gate, listener.url
    finally:
        gate.open.set()
        await listener.close()
