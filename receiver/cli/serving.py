"""`receiver serve` and `receiver work`: the processes that run until they are told to stop."""

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, cast

import click
import structlog
import uvicorn
import uvloop

from receiver import logs
from receiver.app import Application
from receiver.cli.common import exit_status, read_settings
from receiver.errors import SettingsError
from receiver.settings import Settings
from receiver.web.protocol import HttpProtocol
from receiver.wiring import Service, started

HTTP_GRACE_SECONDS = 5
"""How long requests under way may take to end at a stop: longer than a callback waits for the database (LONGEST_WAIT)."""
KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep idle connections (nginx: 60), so that it is never this side that closes one in use."""
BACKLOG = 2048
SWITCH_SECONDS = 0.0002

Read = Callable[[], Settings]

log = structlog.get_logger()


@click.command()
@click.option(
    "--no-pipeline", is_flag=True, help="Take callbacks and serve the API; leave the rest to `receiver work`."
)
def serve(no_pipeline: bool) -> None:
    """Take callbacks, serve the API, run the pipeline."""
    _run(_read_to_serve, lambda settings: _serve(settings, runs_pipeline=not no_pipeline))


@click.command()
def work() -> None:
    """Run the pipeline alone: fetch trees and forward verdicts. Any number of these share the work on PostgreSQL."""
    _run(read_settings, _work)


def _read_to_serve() -> Settings:
    settings = read_settings()
    settings.require_webhook_secret()
    return settings


def _run(read: Read, main: Callable[[Settings], Any]) -> None:
    with exit_status():
        settings = read()
        logs.configure(settings.log_level, settings.log_format)
        for warning in settings.warnings:
            log.warning("settings.warning", warning=warning)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main(settings))


async def _serve(settings: Settings, *, runs_pipeline: bool) -> None:
    if settings.api_key is None:
        log.warning(
            "runflow.no_api_key", effect="verdicts are forwarded without their tree", remedy="set RUNFLOW_API_KEY"
        )
    listener = listen(settings.host, settings.port)
    with listener:
        async with running(settings, runs_pipeline=runs_pipeline, reread=_read_to_serve) as (service, stopped):
            server = Server(server_config(service.app, settings))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            log.info("serve.started", address=address_of(listener), database=settings.database_shown)
            await asyncio.wait([serving, asyncio.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
            server.should_exit = True
            await asyncio.gather(serving, service.wind_down())
    log.info("serve.stopped")


async def _work(settings: Settings) -> None:
    async with running(settings, runs_pipeline=True, reread=read_settings) as (_, stopped):
        log.info("work.started", database=settings.database_shown)
        await stopped.wait()
    log.info("work.stopped")


@asynccontextmanager
async def running(
    settings: Settings, *, runs_pipeline: bool, reread: Read | None
) -> AsyncIterator[tuple[Service, asyncio.Event]]:
    """A started service, and the event that a signal to stop sets. SIGHUP has it take what `reread` reads, or stops it too."""
    stopped = asyncio.Event()
    service = Service(settings, runs_pipeline=runs_pipeline)
    # From before the start until after the stop: a signal must not end the process halfway through either.
    with _signals(service, stopped, reread):
        async with started(service):
            gc.collect()
            # Verdicts are made, and readers' figures added up, in other threads: a callback that comes meanwhile has its
            # turn sooner. At half of full load, p99 was 14 ms with the interpreter's own 5 ms, and 12 with 1 ms; beside 20
            # readers of a million verdicts it is a fifth less with 0.2 ms than with 1. Neither costs callbacks a second.
            sys.setswitchinterval(SWITCH_SECONDS)
            gc.freeze()  # what is here stays: the collector need not look at it again, which halves the longest pauses
            yield service, stopped


@contextmanager
def _signals(service: Service, stopped: asyncio.Event, reread: Read | None) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def hang_up() -> None:
        if reread is None:
            stopped.set()
            return
        task = loop.create_task(_reload(service, reread))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    handlers = {signal.SIGTERM: stopped.set, signal.SIGINT: stopped.set, signal.SIGHUP: hang_up}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


async def _reload(service: Service, reread: Read) -> None:
    try:
        settings = reread()
        await service.reload(settings)
    except SettingsError as error:
        log.error("settings.refused", error=str(error), effect="the old settings stay")
    else:
        logs.configure(settings.log_level, settings.log_format)
        log.info("settings.reloaded")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises `SettingsError` if that cannot be."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:  # the second for a name that is none
        reason = error.strerror if isinstance(error, OSError) else "not a name"
        raise SettingsError(
            f"RECEIVER_HOST, RECEIVER_PORT: cannot listen on {host}:{port} ({reason}); name an address that is free"
        ) from None
    return listener


def address_of(listener: socket.socket) -> str:
    """Where it listens, as people write it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_config(app: Application, settings: Settings) -> uvicorn.Config:
    """How the HTTP server runs: no access log, which would halve its rate; proxies are believed where settings say so."""
    return uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", partial(HttpProtocol, hook=app.hook)),
        loop="none",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=HTTP_GRACE_SECONDS,
        backlog=BACKLOG,
    )


class Server(uvicorn.Server):
    """Uvicorn's server without its own signal handlers, which would end the process with the signal's status and not 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to `running`."""
        yield
