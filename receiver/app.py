"""The HTTP application: the route table and what stands before it, in one place."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from receiver.web.access import Access
from receiver.web.answers import HANDLERS
from receiver.web.callbacks import Callbacks
from receiver.web.description import Description
from receiver.web.hook import PATH, Hook
from receiver.web.operations import Endpoints, routes_of, table_of
from receiver.web.outer import Outer


class Application(Starlette):
    """Starlette, but that callbacks go straight to the hook, those that came by ASGI too (`receiver.web.protocol`).

    The middleware and the routing that all other requests pass cost a third of what the HTTP server itself does.
    """

    def __init__(self, hook: Hook, others: Sequence[BaseRoute]) -> None:
        super().__init__(routes=list(others), exception_handlers=dict(HANDLERS))
        # Runflow does not follow redirects, and their address would be made of whatever `Host` the caller gave.
        self.router.redirect_slashes = False
        self.hook = hook
        self.outer = Outer(super().__call__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. (ASGI)"""
        if scope["type"] == "http" and scope["path"] == PATH:
            await self.hook(scope, receive, send)
        else:
            await self.outer(scope, receive, send)


def create_app(hook: Hook, endpoints: Sequence[Endpoints], access: Access) -> Application:
    """The application. What it needs was opened before, and is closed by whoever opened it (`receiver.wiring`)."""
    description = Description()
    description.table = table = table_of([Callbacks(), *endpoints, description])
    return Application(hook, routes_of(table, access))
