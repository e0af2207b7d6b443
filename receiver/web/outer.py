"""What stands around every answer but the hook's: careful headers, gzip, and other origins where they are let in."""

from collections.abc import Sequence
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

GZIP_FROM: Final = 2048
"""Bytes. What is shorter fits in a packet or two as it is."""
GZIP_LEVEL: Final = 4
"""A page of verdicts: half of the time of level 6, and a tenth larger."""
_NOT_ZIPPED: Final = (*DEFAULT_EXCLUDED_CONTENT_TYPES, "text/html")
"""A page may hold a token against forgery beside text of the caller's, and its length when zipped would tell of it (BREACH)."""

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""What an answer says unless it says otherwise. Pages have a `Content-Security-Policy` of their own."""
_OVER_TLS: Final = "max-age=31536000"


class Outer:
    """ASGI. The origins that may read from browsers can be exchanged while it runs; at first there is none."""

    def __init__(self, app: ASGIApp) -> None:
        self._plain = GZipMiddleware(
            app, minimum_size=GZIP_FROM, compresslevel=GZIP_LEVEL, exclude_content_types=_NOT_ZIPPED
        )
        self._inner: ASGIApp = self._plain

    def let_in(self, origins: Sequence[str]) -> None:
        """Lets scripts of these origins read answers, with a token of theirs and never with a cookie; `*` is any origin."""
        if not origins:
            self._inner = self._plain
            return
        self._inner = CORSMiddleware(
            self._plain,
            allow_origins=origins,
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=("Authorization", "Content-Type", "If-None-Match", "Last-Event-ID"),
            expose_headers=("ETag", "Retry-After"),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. (ASGI)"""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope.get("scheme") == "https":
                    headers.setdefault("Strict-Transport-Security", _OVER_TLS)
            await send(message)

        await self._inner(scope, receive, with_headers)
