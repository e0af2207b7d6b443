"""What the receiver is compared with, under the very server that `receiver serve` runs: routes that store nothing.

python -m bench.server empty      a Starlette route that reads the body and answers
python -m bench.server verify     the receiver's own route, with a store that says yes at once
"""

import asyncio
import gc
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import orjson
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from bench.callbacks import SECRET
from receiver.app import Application
from receiver.cli.serving import Server, address_of, listen, server_config
from receiver.core.signature import Keyring, Secret
from receiver.pipeline.intake import Intake
from receiver.settings import load_settings
from receiver.store.intake import Arrival, Taken
from receiver.web.hook import PATH, Hook


class StoresNothing(Intake):
    """Says at once that an arrival is new."""

    def __init__(self) -> None:
        """Opens nothing."""

    async def accept(self, arrival: Arrival) -> Taken:
        return Taken.NEW


async def empty(request: Request) -> Response:
    """Reads the body, and answers as the receiver does to a new callback."""
    await request.body()
    return Response(status_code=202)


def app_of(name: str) -> ASGIApp:
    """`empty` or `verify`."""
    if name == "empty":
        return Starlette(routes=[Route(PATH, empty, methods=["POST"])])
    hook = Hook(StoresNothing(), Keyring([Secret(SECRET)]), body_bytes=2**20, now=lambda: datetime.now(UTC))
    return Application(hook, [])


async def serve(name: str) -> None:
    """Until SIGTERM, on a free port."""
    settings = load_settings({"RUNFLOW_WEBHOOK_SECRET": SECRET}, directory=Path.cwd())
    with listen("127.0.0.1", 0) as listener:
        server = Server(server_config(app_of(name), settings))

        def stop() -> None:
            server.should_exit = True

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        gc.collect()
        gc.freeze()  # as `receiver serve` does
        print(orjson.dumps({"event": "serve.started", "address": address_of(listener)}).decode(), flush=True)
        await server.serve(sockets=[listener])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1]))
