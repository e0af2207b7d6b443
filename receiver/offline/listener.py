"""An ASGI application on a port of its own inside a running event loop, with connections that can be reset."""

import asyncio
import socket
import struct
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

RESET: Final = "reset"
"""The name in the request's state of the function that resets its connection."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, with no time: closing sends RST."""


class ResettableProtocol(HttpToolsProtocol):
    """uvicorn's own, with a way for the application to break the connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][RESET] = self.reset

    def reset(self) -> None:
        """The other side sees `connection reset by peer`."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()


class Listener:
    """Serves `app` on `host` and `port`, 0 for a free one, from `start` to `close`. Leaves signals and logging alone."""

    def __init__(self, app: ASGIApp, host: str = "127.0.0.1", port: int = 0) -> None:
        self._address = (host, port)
        config = uvicorn.Config(
            app,
            http=ResettableProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
        )
        config.load()
        self._server = uvicorn.Server(config)
        # What `serve` does before `startup`; it would also take over the signals of the process.
        self._server.lifespan = config.lifespan_class(config)

    async def start(self) -> None:
        """Takes the port. Raises OSError if it cannot."""
        # asyncio sets TCP_NODELAY only where the protocol is named; without it every answer waits 40 ms for an acknowledgement.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(self._address)
        except OSError:
            self._socket.close()
            raise
        await self._server.startup(sockets=[self._socket])

    @property
    def url(self) -> str:
        """The address without a slash at its end; there from `start` on."""
        host, port = self._socket.getsockname()
        return f"http://{host}:{port}"

    async def close(self) -> None:
        """Breaks every connection, answered or not, waits for what notices it, and gives the port back."""
        for server in self._server.servers:
            server.close()
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        await asyncio.gather(*self._server.server_state.tasks, return_exceptions=True)
        for server in self._server.servers:
            await server.wait_closed()
        self._socket.close()
