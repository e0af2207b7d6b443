"""The HTTP application: routes and middleware as data, in one place."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route

from receiver.web.answers import HANDLERS
from receiver.web.api import Api
from receiver.web.health import Health
from receiver.web.hook import PATH, Hook


def routes(hook: Hook, api: Api, health: Health) -> Sequence[BaseRoute]:
    """Every address that is served. The hook is first: it is asked for most."""
    return [
        Route(PATH, hook),
        Route("/healthz", health.alive),
        Route("/readyz", health.ready),
        Route("/v1/verdicts", api.list_verdicts),
        Route("/v1/verdicts/{evaluation_id}", api.show_verdict),
        Route("/schemas/verdict.v1.json", api.verdict_schema),
    ]


def create_app(hook: Hook, api: Api, health: Health) -> Starlette:
    """The application. What it needs was opened before, and is closed by whoever opened it (`receiver.wiring`)."""
    app = Starlette(routes=list(routes(hook, api, health)), exception_handlers=dict(HANDLERS))
    # Runflow does not follow redirects, and their address would be made of whatever `Host` the caller gave.
    app.router.redirect_slashes = False
    return app
