"""The one place that knows all concrete classes: builds the service from its settings, reloads it, closes it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import structlog
from pydantic import SecretStr

from receiver.app import create_app
from receiver.core.routing import Route
from receiver.core.signature import Keyring
from receiver.errors import SchemaError, StoreUnavailable
from receiver.pipeline.deliver import SinkPlan
from receiver.pipeline.fetch import FetchPace
from receiver.pipeline.intake import Intake, IntakeLimits
from receiver.pipeline.pipeline import Pipeline, PipelinePlan, StageOnly
from receiver.pipeline.station import EVENTS, RATINGS, Bells
from receiver.runflow.client import RunflowClient
from receiver.settings import Settings
from receiver.sinks.base import SinkOptions
from receiver.sinks.registry import open_sink
from receiver.store import lanes, schema
from receiver.store.database import Database, open_database
from receiver.web.access import Access
from receiver.web.api import Api
from receiver.web.deliveries import Deliveries
from receiver.web.export import Exports
from receiver.web.feedback import Feedback
from receiver.web.health import Health
from receiver.web.hook import Hook
from receiver.web.slack import SlackClicks
from receiver.web.stats import Stats
from receiver.web.stream import Stream
from receiver.web.tail import Tail

DATABASE_RETRY_SECONDS = 1.0
PREPARE_SECONDS = 3.0
"""How long a start waits for the database before it goes on without; a migration may take longer."""
INTAKE_SECONDS = 2.0
CLOSE_SECONDS = 1.0
"""How long each part of a stop may take: a database that hangs must not hold it up, and all of it be over in ten seconds."""
NEEDS_A_RESTART = ("database_url", "database_pooler", "host", "port", "trusted_proxies", "limits")
"""Settings that a reload leaves as they are."""

log = structlog.get_logger()


def database_of(settings: Settings) -> Database:
    """The database of these settings; nothing is connected yet."""
    return open_database(settings.database_url.get_secret_value(), pooler=settings.database_pooler)


def runflow_of(settings: Settings) -> RunflowClient | None:
    """The client of Runflow's API, or None without a key."""
    return _runflow_by(settings.api_key, settings)


def runflow_of_a_person(settings: Settings) -> RunflowClient | None:
    """The same by a person's token, for what no key may do; None without one."""
    return _runflow_by(settings.user_token, settings)


def _runflow_by(token: SecretStr | None, settings: Settings) -> RunflowClient | None:
    if token is None:
        return None
    return RunflowClient(
        settings.api_url,
        token.get_secret_value(),
        organization_id=settings.organization_id,
        connections=settings.fetch.concurrency,
    )


def evaluations_address(settings: Settings) -> str:
    """The CloudEvents source of all messages."""
    return f"{settings.api_url}/v1/evaluations"


def sink_plan(options: SinkOptions, settings: Settings) -> SinkPlan:
    """How a sink with these options is used; nothing is connected yet. Raises `SettingsError` if it cannot be opened."""
    return SinkPlan(
        name=options.name,
        sink=open_sink(options, public_url=settings.public_url),
        timeout=options.timeout,
        concurrency=options.concurrency,
        rate=options.rate,
        dead_after=timedelta(hours=options.dead_after),
        gathering=options.gathering,
        threads=options.threads,
        retry=options.retry.waits(),
    )


def _pipeline_plan(settings: Settings) -> PipelinePlan:
    return PipelinePlan(
        client=runflow_of(settings),
        sinks=[sink_plan(options, settings) for options in settings.sinks],
        routes=[Route(each.name, each.match, takes_samples=each.takes_samples) for each in settings.sinks],
        source=evaluations_address(settings),
        hold=timedelta(seconds=settings.fetch.hold),
        pace=FetchPace(settings.fetch.rate, settings.fetch.concurrency),
    )


class Service:
    """Everything that one process runs. `app` is its HTTP side. `runs_pipeline`: whether it fetches and delivers."""

    def __init__(self, settings: Settings, *, runs_pipeline: bool) -> None:
        self._settings = settings
        self._runs_pipeline = runs_pipeline
        self.database = database_of(settings)
        self._bells = Bells(self.database)
        limits = settings.limits
        self.intake = Intake(
            self.database, IntakeLimits(limits.queue_rows, limits.queue_bytes), lambda: self._bells.ring(EVENTS)
        )
        self._hook = Hook(
            self.intake,
            Keyring(settings.webhook_secrets),
            body_bytes=limits.body_bytes,
            now=self.database.now,
        )
        self._access = Access(settings.api_tokens)
        self._feedback = Feedback(self.database, runflow_of(settings))
        self._slack = SlackClicks(self.database, settings.slack_signing_secret, lambda: self._bells.ring(RATINGS))
        self._tail = Tail(self.database, self._bells)
        self.app = create_app(
            self._hook,
            [
                Api(self.database),
                Stats(self.database),
                Exports(self.database),
                Deliveries(self.database, self._bells),
                self._feedback,
                self._slack,
                Stream(self.database, self._tail),
                Health(self.database, self.intake),
            ],
            self._access,
        )
        self.app.outer.let_in(settings.api.cors_origins)
        self._pipeline: Pipeline | StageOnly | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._ringing: asyncio.Task[None] | None = None
        self._reloading = asyncio.Lock()
        self._is_prepared = False
        self._is_stopping = False
        self._winding_down: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts, or, while the database is away or slow, goes on trying in the background and answers 503 meanwhile.

        Raises `SchemaError` and `PipelineTaken`, which waiting would not mend.
        """
        self._pipeline = self._new_pipeline(self._settings)  # a sink that cannot be opened is told before anything runs
        is_alone = self._runs_pipeline and self.database.take_pipeline()
        self.intake.close_for(StoreUnavailable("database", "the database was not reached yet"))
        self._ringing = asyncio.create_task(self._bells.run())
        self._preparing = first = asyncio.create_task(self._prepare(is_alone))
        await asyncio.wait([first], timeout=PREPARE_SECONDS)
        if first.done() and isinstance(error := first.exception(), SchemaError):
            raise error
        self._preparing = asyncio.create_task(self._prepare_in_the_end(first, is_alone))

    def _new_pipeline(self, settings: Settings) -> Pipeline | StageOnly:
        if self._runs_pipeline:
            return Pipeline(self.database, self._bells, _pipeline_plan(settings))
        return StageOnly(self.database, self._bells, hold=timedelta(seconds=settings.fetch.hold))

    async def _prepare(self, is_alone: bool) -> None:
        if self._settings.migrates_at_start:
            before = await self.database.read(schema.schema_state)
            state = await schema.upgrade(self.database)
            if state != before:
                log.info("database.migrated", before=before.current, schema=state.current)
        await schema.require_current(self.database)
        if is_alone:
            await self.database.write(lanes.free_all_leases, self.database.now())
        self.intake.close_for(None)
        async with self._reloading:
            self._is_prepared = True
            if self._pipeline is not None:
                self._pipeline.start()

    async def _prepare_in_the_end(self, attempt: "asyncio.Task[None]", is_alone: bool) -> None:
        """Tries until it is prepared. The log is told when it is not, and when the reason is another."""
        told = ""
        while True:
            try:
                await attempt
            except (StoreUnavailable, SchemaError) as error:
                reason = error.reason if isinstance(error, StoreUnavailable) else "schema"
                self.intake.close_for(StoreUnavailable(reason, str(error)))
                if told != str(error):
                    event = "database.schema" if reason == "schema" else "database.unavailable"
                    log.error(event, reason=reason, error=str(error))
                told = str(error)
            except Exception:
                log.exception("database.not_prepared")
            else:
                if told:
                    log.info("database.back")
                return
            await asyncio.sleep(DATABASE_RETRY_SECONDS)
            attempt = asyncio.create_task(self._prepare(is_alone))

    async def reload(self, settings: Settings) -> None:
        """Takes new settings: secrets, tokens, sinks, the key, the pace. Where it listens, the database and limits stay.

        Raises `SettingsError` if a sink cannot be opened; then all stays as it was.
        """
        async with self._reloading:
            if self._is_stopping:
                return
            kept = {name: getattr(self._settings, name) for name in NEEDS_A_RESTART}
            ignored = [name for name, value in kept.items() if getattr(settings, name) != value]
            if ignored:
                log.warning("settings.need_a_restart", settings=ignored)
            successor = self._new_pipeline(settings)
            self._settings = settings.model_copy(update=kept)
            self._hook.keyring = Keyring(settings.webhook_secrets)
            self._slack.signing_secret = settings.slack_signing_secret
            await self._feedback.use(runflow_of(settings))
            if self._access.tokens != settings.api_tokens:
                self._access.tokens = settings.api_tokens
                self._tail.dismiss_all()  # who may still read comes back
            self.app.outer.let_in(settings.api.cors_origins)
            if self._pipeline is not None:
                await self._pipeline.stop()
            self._pipeline = successor
            if self._is_prepared and not self._is_stopping:
                await self._try_paused_lanes()
                successor.start()

    async def _try_paused_lanes(self) -> None:
        """New settings may hold what was wrong, such as a key, so that nothing that is paused need wait any longer."""
        with suppress(StoreUnavailable):  # then it waits
            await self.database.write(lanes.probe_now, None, self.database.now())

    async def wind_down(self) -> None:
        """Takes in no more, and lets what is under way end or gives it back. What is stored can still be read."""
        if self._winding_down is None:
            self._winding_down = asyncio.create_task(self._wind_down())
        await asyncio.shield(self._winding_down)

    async def _wind_down(self) -> None:
        self._is_stopping = True
        self._tail.close()
        await _ended(self._preparing)
        # Both at once: a database that hangs would hold up one after the other.
        await asyncio.gather(_at_most(INTAKE_SECONDS, self.intake.stop()), self._stop_pipeline())

    async def stop(self) -> None:
        """Winds down and closes the database."""
        await self.wind_down()
        await _at_most(CLOSE_SECONDS, self._close())

    async def _stop_pipeline(self) -> None:
        async with self._reloading:
            if self._pipeline is not None:
                await self._pipeline.stop()

    async def _close(self) -> None:
        await _ended(self._ringing)
        await self._feedback.use(None)
        await self._bells.flush()
        await self.database.close()


async def _at_most(seconds: float, work: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        log.warning("service.stopped_unfinished", waited=seconds)


async def _ended(task: "asyncio.Task[None] | None") -> None:
    """Cancels what runs in the background, and waits for that."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def started(service: Service) -> AsyncIterator[None]:
    """Starts the service, and stops it in order at the end. Raises what `Service.start` raises."""
    try:
        await service.start()
        yield
    finally:
        await service.stop()


@asynccontextmanager
async def open_service(settings: Settings, *, runs_pipeline: bool = True) -> AsyncIterator[Service]:
    """A started service, stopped in order at the end. Raises what `Service.start` raises."""
    service = Service(settings, runs_pipeline=runs_pipeline)
    async with started(service):
        yield service
