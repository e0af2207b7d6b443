"""PostgreSQL, for several machines. The same functions run in SQLAlchemy's greenlet over asyncpg."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Concatenate

import asyncpg
import structlog
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from receiver.errors import StoreUnavailable
from receiver.store import intake, lanes
from receiver.store.address import driver_address
from receiver.store.database import Clock, Database, P, T, system_clock
from receiver.store.failures import is_lost_connection, is_passing_conflict, translated

CHANNEL = "runflow_receiver"
INTAKE_FLIGHTS = 2
CONNECTIONS = 8
CONNECT_SECONDS = 5
STATEMENT_SECONDS = 30
TRIES = 5
"""How often a transaction that lost against another is run."""
RECONNECT_SECONDS = 1.0
CLOCK_SECONDS = 30
LISTENER_SECONDS = 30.0
"""How often the connection that only listens is asked whether it is still there: the way to it may be gone without a word."""
_MIGRATION_LOCK = 0x72756E666C6F77  # "runflow"

_SETTINGS = {
    "application_name": "runflow-receiver",
    # A process that is frozen, or cut off, in the middle of a transaction must not hold its locks for hours.
    "idle_in_transaction_session_timeout": "60s",
    "tcp_user_timeout": "30s",
}
# Nor may one row that another holds keep the few connections of the intake: those who wait for it are told to come again.
_INTAKE_SETTINGS = {"lock_timeout": "1s"}

_READING: Mapping[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
_DRIVERS_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""The last is also what it says where no server of several is the one that the address wants."""

_NOTIFY = "SELECT pg_notify($1, bell) FROM unnest($2::text[]) AS bell"

log = structlog.get_logger()


class PostgresDatabase(Database):
    """The database at `address`. With `pooler`, a transaction pooler stands between: no prepared statements, no LISTEN."""

    kind = "postgresql"
    intake_flights = INTAKE_FLIGHTS

    def __init__(self, address: URL, *, pooler: bool = False, clock: Clock = system_clock) -> None:
        self._address = address
        self._pooler = pooler
        self._clock = clock
        self._ahead = timedelta(0)
        self._measured_at: float | None = None
        # The intake has connections of its own, so that no slow query can take the last one from it.
        self._intake = _Direct(_options(address, _INTAKE_SETTINGS), self._saw_clock)
        # What is rare, and all behind a pooler, where each statement would need a transaction around it.
        self._rest = _engine(address, connections=INTAKE_FLIGHTS, pooler=pooler, settings=_INTAKE_SETTINGS)
        self._other = _engine(address, connections=CONNECTIONS, pooler=pooler)
        # As on SQLite, what is read in one transaction is of one moment: the audit compares what it counts.
        self._reading = self._other.execution_options(**_READING)
        self._running = 0
        self._closing = False
        self._ended = asyncio.Event()

    def now(self) -> datetime:
        return self._clock() + self._ahead

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(self._reading, lambda conn: fn(conn, *args, **kwargs))

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(self._other, lambda conn: fn(conn, *args, **kwargs))

    async def accept(self, arrivals: Sequence[intake.Arrival]) -> list[intake.Taken]:
        if self._pooler:
            return await self._run(self._rest, lambda conn: intake.accept(conn, arrivals))
        with self._use(), translated():
            return await intake.accept_directly(self._intake.fetch, self._see_to, arrivals)

    async def _see_to(self, differing: Sequence[intake.EventArrival], others: Sequence[intake.OtherArrival]) -> None:
        await self._transaction(self._rest, lambda conn: intake.see_to(conn, differing, others))

    async def probe(self) -> None:
        await self._run(self._rest, lambda conn: lanes.probe(conn, self.now()))

    async def migrate(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        def alone(conn: Connection) -> T:
            conn.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            return fn(conn, *args, **kwargs)

        return await self._unhurried(alone)

    async def survey(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._unhurried(lambda conn: fn(conn, *args, **kwargs), **_READING)

    async def _unhurried(self, fn: Callable[[Connection], T], **how: Any) -> T:
        """On a connection of its own, where a statement may take as long as it takes."""
        engine = _engine(self._address, connections=1, pooler=self._pooler, unhurried=True)
        try:
            return await self._run(engine.execution_options(**how), fn)
        finally:
            await engine.dispose()

    async def ring(self, *bells: str) -> None:
        if not self._pooler:
            # Not inside the work's own transaction: a commit that notifies takes a lock that all such commits share.
            await self.write(lambda conn: conn.exec_driver_sql(_NOTIFY, (CHANNEL, list(bells))).close())

    @property
    def hears_others(self) -> bool:
        return not self._pooler

    async def listen(self, heard: Callable[[str], None]) -> None:
        while not self._pooler:
            with suppress(OSError, TimeoutError, *_DRIVERS_ERRORS):
                await self._listen_once(heard)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen_once(self, heard: Callable[[str], None]) -> None:
        """Until the connection ends."""
        conn = await asyncpg.connect(driver_address(self._address), timeout=CONNECT_SECONDS)
        ended = asyncio.Event()
        try:
            conn.add_termination_listener(lambda _: ended.set())
            await conn.add_listener(CHANNEL, lambda _conn, _pid, _channel, bell: heard(bell))
            while not ended.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(LISTENER_SECONDS):
                        await ended.wait()
                        return
                await conn.fetchval("SELECT 1", timeout=CONNECT_SECONDS)
        finally:
            conn.terminate()

    def take_pipeline(self) -> bool:
        return False  # any number of processes share the work

    async def close(self) -> None:
        self._closing = True
        if self._running:
            await self._ended.wait()
        await self._intake.close()
        await self._rest.dispose()
        await self._other.dispose()

    async def _run(self, engine: AsyncEngine, fn: Callable[[Connection], T]) -> T:
        with self._use():
            return await self._transaction(engine, fn)

    @contextmanager
    def _use(self) -> Iterator[None]:
        if self._closing:  # a connection opened now would never be closed
            raise StoreUnavailable("stopping", "the store is closed")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            if self._closing and not self._running:
                self._ended.set()

    async def _transaction(self, engine: AsyncEngine, fn: Callable[[Connection], T]) -> T:
        with translated():
            for attempt in range(1, TRIES + 1):
                try:
                    async with engine.begin() as conn:
                        await self._measure_clock(conn)
                        return await conn.run_sync(fn)
                except DBAPIError as error:
                    if attempt == TRIES or not (is_passing_conflict(error) or _was_stale(error, attempt)):
                        raise
            raise AssertionError("unreachable")

    async def _measure_clock(self, conn: Any) -> None:
        """How far the server's clock is ahead of this machine's, so that all processes mean the same by now."""
        elapsed = asyncio.get_running_loop().time()
        if self._measured_at is None or elapsed - self._measured_at > CLOCK_SECONDS:
            self._saw_clock((await conn.execute(text("SELECT clock_timestamp()"))).scalar_one())

    def _saw_clock(self, theirs: datetime) -> None:
        self._ahead = theirs - system_clock()
        self._measured_at = asyncio.get_running_loop().time()


class _Direct:
    """Connections of the driver's own."""

    def __init__(self, options: Mapping[str, Any], saw_clock: Callable[[datetime], None]) -> None:
        self._options = options
        self._saw_clock = saw_clock
        self._room = asyncio.Semaphore(INTAKE_FLIGHTS)
        self._idle: list[asyncpg.Connection] = []

    async def fetch(self, statement: str, columns: Sequence[Sequence[object]]) -> Sequence[Any]:
        """The rows of a statement, which is a transaction by itself; it may be run twice. Raises the driver's errors."""
        async with self._room:
            return await self._fetch(statement, columns)

    async def _fetch(self, statement: str, columns: Sequence[Sequence[object]]) -> Sequence[Any]:
        for attempt in range(1, TRIES + 1):
            conn = await self._connection()
            try:
                rows: Sequence[Any] = await conn.fetch(statement, *columns)
            except asyncpg.PostgresError as error:
                self._idle.append(conn)
                was_stale = attempt == 1 and conn.is_closed()
                if attempt == TRIES or not (was_stale or is_passing_conflict(error)):
                    raise
            except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                conn.terminate()
                if attempt > 1:
                    raise
            except BaseException:  # where this is cut off, nobody knows what the connection would answer next
                conn.terminate()
                raise
            else:
                self._idle.append(conn)
                return rows
        raise AssertionError("unreachable")

    async def _connection(self) -> asyncpg.Connection:
        while self._idle:
            conn = self._idle.pop()
            if not conn.is_closed():
                return conn
        conn = await asyncpg.connect(**self._options)
        self._saw_clock(await conn.fetchval("SELECT clock_timestamp()"))
        return conn

    async def close(self) -> None:
        """Ends the connections."""
        await asyncio.gather(*(conn.close(timeout=CONNECT_SECONDS) for conn in self._idle))


def _was_stale(error: DBAPIError, attempt: int) -> bool:
    """A pooled connection that the server closed long ago is noticed at its first use; a fresh one deserves a try."""
    return attempt == 1 and is_lost_connection(error)


def _options(address: URL, settings: Mapping[str, str], *, unhurried: bool = False) -> dict[str, Any]:
    """How the driver connects."""
    return {
        "dsn": driver_address(address),
        "timeout": CONNECT_SECONDS,
        "command_timeout": None if unhurried else STATEMENT_SECONDS,
        "server_settings": {**_SETTINGS, **settings},
    }


def _engine(
    address: URL,
    *,
    connections: int,
    pooler: bool,
    settings: Mapping[str, str] = MappingProxyType({}),
    unhurried: bool = False,
) -> AsyncEngine:
    options = _options(address, settings, unhurried=unhurried)
    if pooler:
        options["server_settings"] = {}  # the server's sessions are the pooler's, which refuses what it does not know
        # Statements prepared on one server connection are unknown on the next one that the pooler hands out.
        options |= {
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": _unnamed,
        }
    return create_async_engine(
        "postgresql+asyncpg://",
        connect_args=options,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        hide_parameters=True,  # an error's text must not show bodies, prompts or signed addresses
    )


def _unnamed() -> str:
    return ""
