"""What the receiver is compared with, and what it is taken apart into.

python -m bench.server NAME      with DATABASE_URL in the environment where something is stored

The rungs of a ladder, each the one before and one thing more (bench/layers.py), under the HTTP server of `receiver serve`:

bare      reads the body and answers              signed    and checks the signature
verify    the receiver's own hook: and parses; a store that says yes at once
waiting   and waits for its batch, in the receiver's own intake                handed    whose batch is an empty transaction
stored    whose batch is stored: the receiver without its stage

And what to compare with, under uvicorn as it is installed, without its access log, which would halve its rate: `empty`, a
Starlette route that reads the body and answers; `empty-fastapi`, one of FastAPI's; `naive` and `naive-wal`, bench/naive.py.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
import uvicorn
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
from receiver.pipeline.batcher import Tell
from receiver.pipeline.intake import Intake, IntakeLimits
from receiver.settings import load_settings
from receiver.store import schema
from receiver.store.database import Database, open_database
from receiver.store.intake import Arrival, Taken
from receiver.web.hook import PATH, Delivered, Hook, Reply, Respond

KEYRING = Keyring([Secret(SECRET)])
Accept = Callable[[Sequence[Arrival]], Awaitable[list[Taken]]]


async def empty(request: Request) -> Response:
    """Reads the body, and answers as the receiver does to a new callback."""
    await request.body()
    return Response(status_code=202)


class Bare(Hook):
    """The same without Starlette, by the receiver's own HTTP protocol."""

    def __init__(self) -> None:
        """Knows nothing."""
        self.body_bytes = 2**20

    def take(self, delivered: Delivered, respond: Respond) -> None:
        respond(Reply(202, b""))


class Signed(Bare):
    """Checks the signature too."""

    def take(self, delivered: Delivered, respond: Respond) -> None:
        if KEYRING.label_of_signer(delivered.body, delivered.signatures) is None:
            raise ValueError("bad signature")
        super().take(delivered, respond)


class StoresNothing(Intake):
    """Says at once that an arrival is new."""

    def __init__(self) -> None:
        """Opens nothing."""

    def accept(self, arrival: Arrival, tell: Tell[Taken]) -> None:
        tell(Taken.NEW)


def hooked(intake: Intake) -> Application:
    """The receiver's own route in front of this intake."""
    hook = Hook(intake, KEYRING, body_bytes=2**20, now=lambda: datetime.now(UTC))
    return Application(hook, [])


class Ladder:
    """The rungs that need a database. `batches`: of how many callbacks each was."""

    def __init__(self, database: Database) -> None:
        self.batches: list[int] = []
        self._database = database

    async def at_once(self, arrivals: Sequence[Arrival]) -> list[Taken]:
        """Stores nothing."""
        return [Taken.NEW] * len(arrivals)

    async def empty_transaction(self, arrivals: Sequence[Arrival]) -> list[Taken]:
        """Begins and commits a transaction, where the database's transactions run."""
        return await self._database.write(lambda _: [Taken.NEW] * len(arrivals))

    async def store(self, arrivals: Sequence[Arrival]) -> list[Taken]:
        """Stores them."""
        return await type(self._database).accept(self._database, arrivals)

    def app(self, accept: Accept) -> Application:
        """The receiver's hook and intake, over a database that accepts in this way."""

        async def counted(arrivals: Sequence[Arrival]) -> list[Taken]:
            self.batches.append(len(arrivals))
            return await accept(arrivals)

        self._database.accept = counted  # type: ignore[method-assign]  # all else stays the real database's
        return hooked(Intake(self._database, IntakeLimits(), lambda: None))


@asynccontextmanager
async def laddered(rung: str) -> AsyncIterator[Application]:
    """`waiting`, `handed` or `stored`. Logs at the end how large the batches were."""
    database = open_database(os.environ["DATABASE_URL"])
    await schema.upgrade(database)
    ladder = Ladder(database)
    accept = {"waiting": ladder.at_once, "handed": ladder.empty_transaction, "stored": ladder.store}[rung]
    try:
        yield ladder.app(accept)
    finally:
        _log({"event": "batches", "sizes": ladder.batches})
        await database.close()


@asynccontextmanager
async def opened(name: str) -> AsyncIterator[ASGIApp]:
    """The application of this name."""
    if name in ("waiting", "handed", "stored"):
        async with laddered(name) as app:
            yield app
    elif name.startswith("naive"):
        from bench.naive import create_app

        yield create_app(os.environ["DATABASE_URL"], SECRET, wal=name == "naive-wal")
    elif name == "empty":
        yield Starlette(routes=[Route(PATH, empty, methods=["POST"])])
    elif name == "empty-fastapi":
        from fastapi import FastAPI

        with_fastapi = FastAPI()
        with_fastapi.post(PATH)(empty)
        yield with_fastapi
    elif name == "verify":
        yield hooked(StoresNothing())
    else:
        yield Application({"bare": Bare, "signed": Signed}[name](), [])


def plain_config(app: ASGIApp) -> uvicorn.Config:
    """Uvicorn as it is installed, without its access log."""
    return uvicorn.Config(app, loop="none", lifespan="off", log_config=None, access_log=False)


async def serve(name: str) -> None:
    """Until SIGTERM, on a free port."""
    settings = load_settings({"RUNFLOW_WEBHOOK_SECRET": SECRET}, directory=Path.cwd())
    with listen("127.0.0.1", 0) as listener:
        async with opened(name) as app:
            config = server_config(app, settings) if isinstance(app, Application) else plain_config(app)
            server = Server(config)

            def stop() -> None:
                server.should_exit = True

            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
            gc.collect()
            gc.freeze()  # as `receiver serve` does
            _log({"event": "serve.started", "address": address_of(listener)})
            await server.serve(sockets=[listener])


def _log(line: dict[str, object]) -> None:
    print(orjson.dumps(line).decode(), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1]))
