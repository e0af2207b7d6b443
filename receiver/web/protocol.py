"""How HTTP is spoken: uvicorn's protocol, with a short way for callbacks.

Most of what an ASGI server does for a request is of no use to a callback: a scope, a task, a queue of the body's parts, an
answer in two messages. A callback that comes as Runflow sends it is handed to the hook as soon as it is read, and
answered by one write; all others, and all other requests, go by ASGI.
"""

import asyncio
import math
from collections.abc import Iterable
from functools import partial
from typing import Any, Final, cast

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from receiver.web.hook import PATH, Delivered, Head, Hook, Reply, read_head

HANG_UP: Final = "receiver.hang_up"
"""Among a request's extensions (ASGI): ends its connection at once, without sending what waits to be sent."""
LARGEST_HEAD: Final = 64 * 1024
"""Bytes. What reads the head keeps all of it, however long it becomes."""
REQUEST_SECONDS: Final = 30.0
"""How long a request may take to come, from its first byte or from the connection on: else anybody could hold all of them."""
_PATH = PATH.encode()


def _refusal(status: bytes, message: bytes) -> bytes:
    body = b'{"code":"BAD_REQUEST","message":"%b","errors":null}' % message
    head = b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


_NOT_HTTP = _refusal(b"400 Bad Request", b"the request is not HTTP/1.1")
_LARGE_HEAD = _refusal(
    b"431 Request Header Fields Too Large", b"the address and the headers are over %d bytes" % LARGEST_HEAD
)


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    What is not HTTP at all gets an error of the same shape as all others, and an answer's head goes out with its body.
    """

    def __init__(self, *args: Any, hook: Hook, **more: Any) -> None:
        super().__init__(*args, **more)
        self._hook = hook
        self._longest = min(hook.body_bytes, HIGH_WATER_LIMIT)
        self._common: tuple[object, bytes] = (None, b"")
        self._idle_since = math.inf
        self._is_coming = False
        self._is_in_head = False
        self._head_bytes: int | None = None
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection is open."""
        super().connection_made(cast("asyncio.Transport", Joined(transport)))
        self._patience = self.loop.call_later(REQUEST_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        super().connection_lost(exc)
        for timer in (self.timeout_keep_alive_task, self._patience):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Something came. Nearly always that is a whole request."""
        super().data_received(data)
        if self._is_coming:
            self._look_at_unfinished(len(data))

    def _look_at_unfinished(self, more: int) -> None:
        if self._is_in_head:
            # Whole requests may have come before it in the same piece, so that one does not count; it is 256 KiB at most.
            self._head_bytes = 0 if self._head_bytes is None else self._head_bytes + more
            if self._head_bytes > LARGEST_HEAD:
                self.transport.write(_LARGE_HEAD)
                self.transport.close()
                return
        if self._patience is None:
            self._patience = self.loop.call_later(REQUEST_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._patience = None
        if self.flow.read_paused:  # it is not the other side that is slow
            self._look_at_unfinished(0)
        else:
            self.transport.close()

    def _unset_keepalive_if_required(self) -> None:
        """Empty lines may come without a request."""

    def on_response_complete(self) -> None:
        """An answer was written: from now on the connection is idle.

        Uvicorn sets a timer at each answer and cancels it at each request, which is 1 to 1.5 µs. Here it is left to run out,
        and then looks for how long the connection was idle.
        """
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_after(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Ends the connection if it was idle for long enough, and else looks again when it may have been."""
        self.timeout_keep_alive_task = None
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left <= 0:
            super().timeout_keep_alive_handler()
        elif left < math.inf:  # else a request is under way, and its answer sets the timer
            self._look_after(left)

    def _look_after(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def send_400_response(self, msg: str) -> None:
        """Answers and hangs up, for nobody knows where the next request would begin."""
        self.transport.write(_NOT_HTTP)
        self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins. What ASGI says of it is made up when it is known to go that way."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._idle_since = math.inf
        self._is_coming = self._is_in_head = True
        self._head_bytes = None

    def on_headers_complete(self) -> None:
        """Decides which way the request goes."""
        self._is_in_head = False
        self._idle_since = math.inf  # the answer before it may have come since it began
        if self.url == _PATH and self._is_free_for_a_callback():
            head = read_head(self.headers)
            if head.length is not None and head.length <= self._longest:
                exchange = Exchange(head, keep_alive=self.parser.should_keep_alive())
                self.cycle = cast("RequestResponseCycle", exchange)
                return
        self._go_by_asgi()

    def _go_by_asgi(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.scope["extensions"] = {HANG_UP: {"call": self.transport.abort}}
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # the list is the scope's
        super().on_headers_complete()

    def _is_free_for_a_callback(self) -> bool:
        """Whether this is as Runflow sends it, nothing is before it on this connection, and the caller reads its answers."""
        return (
            self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and not self.parser.should_upgrade()
            and not self.expect_100_continue
            and (cast("object", self.cycle) is None or self.cycle.response_complete)
            and not self.flow.write_paused
        )

    def on_message_complete(self) -> None:
        """The whole request was read."""
        self._is_coming = False
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        exchange: object = self.cycle
        if isinstance(exchange, Exchange):
            head = exchange.head
            delivered = Delivered(exchange.body, head.signatures, head.request_id)
            self._hook.take(delivered, partial(self._respond, exchange))
        else:
            super().on_message_complete()

    def _respond(self, exchange: "Exchange", reply: Reply) -> None:
        exchange.response_complete = True
        if self.transport.is_closing():
            return
        cast("Joined", self.transport).write_now(
            b"%b%bcontent-type: application/json\r\ncontent-length: %d\r\n%b%b\r\n%b"
            % (
                STATUS_LINE[reply.status],
                self._common_headers(),
                len(reply.body),
                b"" if exchange.keep_alive else b"connection: close\r\n",
                _lines(reply.headers) if reply.headers else b"",
                reply.body,
            )
        )
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _common_headers(self) -> bytes:
        """The server's own, which are others each second."""
        headers = self.server_state.default_headers
        if self._common[0] is not headers:
            self._common = (headers, _lines(headers))
        return self._common[1]


class Exchange:
    """A callback under way, with what uvicorn's protocol asks of a request and its answer."""

    __slots__ = ("body", "disconnected", "head", "keep_alive", "message_event", "more_body", "response_complete")

    def __init__(self, head: Head, *, keep_alive: bool) -> None:
        self.head = head
        self.body = b""
        self.keep_alive = keep_alive
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self.message_event = _NOBODY_WAITS


class _NobodyWaits:
    """An event that none waits for."""

    def set(self) -> None:
        """Does nothing."""


_NOBODY_WAITS = _NobodyWaits()


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)


class Joined:
    """A transport that sends what is written in one turn of the event loop at once.

    Uvicorn writes an answer's head and body apart, and uvloop sends each the moment it is written: a second packet, which costs
    as much as reading the whole request does.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.is_closing = transport.is_closing  # asked for each answer, and by `__getattr__` that would be 0.3 µs
        self._call_soon = asyncio.get_running_loop().call_soon
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        """All else is the transport's."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Sends it, with all that follows in this turn."""
        if not self._held:
            self._call_soon(self._send)
        self._held.append(data)

    def write_now(self, data: bytes) -> None:
        """Sends it at once."""
        if self._held:
            self._send()
        self._transport.write(data)

    def close(self) -> None:
        """Ends the connection when all that was written is sent."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        data, self._held = b"".join(self._held), []
        if data and not self._transport.is_closing():  # the other side may have gone in this turn
            self._transport.write(data)
