"""The HTTP application: routes and middleware as data, in one place."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.web.answers import HANDLERS
from receiver.web.api import Api
from receiver.web.health import Health
from receiver.web.hook import PATH, Hook


class Application(Starlette):
    """Starlette, but that callbacks go straight to the hook.

    The middleware and the routing that all other requests pass cost a third of what the HTTP server itself does.
    """

    def __init__(self, hook: ASGIApp, others: Sequence[BaseRoute]) -> None:
        super().__init__(routes=list(others), exception_handlers=dict(HANDLERS))
        # Runflow does not follow redirects, and their address would be made of whatever `Host` the caller gave.
        self.router.redirect_slashes = False
        self._hook = hook

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. (ASGI)"""
        if scope["type"] == "http" and scope["path"] == PATH:
            await self._hook(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def routes(api: Api, health: Health) -> Sequence[BaseRoute]:
    """Every address that is served, but for the hook's."""
    return [
        Route("/healthz", health.alive),
        Route("/readyz", health.ready),
        Route("/v1/verdicts", api.list_verdicts),
        Route("/v1/verdicts/{evaluation_id}", api.show_verdict),
        Route("/schemas/verdict.v1.json", api.verdict_schema),
    ]


def create_app(hook: Hook, api: Api, health: Health) -> Starlette:
    """The application. What it needs was opened before, and is closed by whoever opened it (`receiver.wiring`)."""
    return Application(hook, routes(api, health))
