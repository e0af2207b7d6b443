"""SQLite: one file, one writer thread, some readers.

Whatever waits while a commit is under way goes into the next one: one transaction, one fsync for all (group commit). No
timer and no delay when idle. WAL and `synchronous=FULL`: a commit that returned survives a power cut.
"""

import asyncio
import fcntl
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Concatenate, NamedTuple, TextIO

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

from receiver.errors import PipelineTaken, SettingsError, StoreUnavailable
from receiver.store import intake, lanes
from receiver.store.database import Clock, Database, P, T, system_clock
from receiver.store.failures import PRIMARY_CODE, translated

READERS = 4
BUSY_MILLISECONDS = 5000
"""How long to wait for another process (a command of `receiver`, a backup) that holds the file."""
BUSY_PAUSE_SECONDS = 0.01
CUT_OFF_SECONDS = 0.02

_Work = Callable[[Connection], Any]


class SqliteDatabase(Database):
    """The database in the file at `path`."""

    kind = "sqlite"
    intake_flights = 1

    def __init__(self, path: str, *, clock: Clock = system_clock) -> None:
        self.path = path
        self._clock = clock
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-reader")
        self._reading = _engine(path, connections=READERS, begin="BEGIN", read_only=True)
        self._writer = _Writer(path)
        self._lock: TextIO | None = None
        self._closing = False

    def now(self) -> datetime:
        return self._clock()

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closing:
            raise StoreUnavailable("stopping", "the store is closed")
        reading = _Reading(self._reading)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._readers, reading.run, lambda conn: fn(conn, *args, **kwargs))
        except asyncio.CancelledError:
            reading.cut_off(loop)
            raise

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = await self._writer.submit(lambda conn: fn(conn, *args, **kwargs))
        return result

    async def accept(self, arrivals: Sequence[intake.Arrival]) -> list[intake.Taken]:
        return await self.write(intake.accept, arrivals)

    async def probe(self) -> None:
        await self.write(lanes.probe, self.now())

    async def migrate(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.write(fn, *args, **kwargs)  # BEGIN IMMEDIATE lets one process at a time do this

    async def ring(self, *bells: str) -> None:
        """One process runs the pipeline, so there is nobody to tell."""

    async def listen(self, heard: Callable[[str], None]) -> None:
        """Nobody rings."""

    @property
    def hears_others(self) -> bool:
        return False

    def take_pipeline(self) -> bool:
        try:
            lock = Path(f"{self.path}.pipeline").open("a")  # noqa: SIM115 (held open, and so locked, until `close`)
        except OSError as error:
            raise SettingsError(
                f"DATABASE_URL: cannot make {self.path}.pipeline ({error.strerror});"
                " name a file in a folder that is there and can be written"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise PipelineTaken(
                f"another process runs the pipeline on {self.path}: on SQLite one may;"
                " stop it, or use PostgreSQL for several"
            ) from None
        self._lock = lock
        return True

    async def close(self) -> None:
        self._closing = True
        await asyncio.to_thread(self._writer.close)
        await asyncio.to_thread(self._readers.shutdown)
        self._reading.dispose()
        if self._lock is not None:  # last, so that no other process runs the pipeline before all is written
            self._lock.close()


class _Reading:
    """One read. Nobody can cancel a thread, but what SQLite does for it can be cut off, so that it is free for others."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._in_use: Any = None
        self._gate = threading.Lock()  # what is given back may be another's the next moment

    def run(self, work: Callable[[Connection], T]) -> T:
        with translated(), self._engine.begin() as conn:
            with self._gate:
                self._in_use = conn.connection.driver_connection
            try:
                return work(conn)
            finally:
                with self._gate:
                    self._in_use = None

    def cut_off(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._gate:
            if self._in_use is not None:
                self._in_use.interrupt()
                # It does nothing between two statements, so again, until the read is over.
                loop.call_later(CUT_OFF_SECONDS, self.cut_off, loop)


class _Job(NamedTuple):
    """A work for the writer, and who waits for it."""

    work: _Work
    future: asyncio.Future[Any]

    def end(self, result: Any, failure: Exception | None) -> None:
        """Tells whoever waits, from the writer's thread."""
        with suppress(RuntimeError):  # the event loop is closed: nobody waits any more
            self.future.get_loop().call_soon_threadsafe(_resolve, self.future, result, failure)


def _resolve(future: "asyncio.Future[Any]", result: Any, failure: Exception | None) -> None:
    if future.done():  # whoever waited has gone
        return
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)


class _Writer:
    """The one thread that writes."""

    def __init__(self, path: str) -> None:
        self._engine = _engine(path, connections=1, begin="BEGIN IMMEDIATE", read_only=False)
        self._conn: Connection | None = None
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        self._closing = False
        self._gate = threading.Lock()  # nothing is put behind the None that ends the thread
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, work: _Work) -> "asyncio.Future[Any]":
        """A future that is resolved when `work` is durable."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with self._gate:
            if self._closing:
                future.set_exception(StoreUnavailable("stopping", "the store is closed"))
            else:
                self._waiting.put(_Job(work, future))
        return future

    def close(self) -> None:
        with self._gate:
            self._closing = True
            self._waiting.put(None)
        self._thread.join()
        if self._conn is not None:
            self._conn.close()
        self._engine.dispose()

    def _run(self) -> None:
        while (job := self._waiting.get()) is not None:
            group = [job]
            with suppress(Empty):
                while (job := self._waiting.get_nowait()) is not None:
                    group.append(job)
            group = [each for each in group if not each.future.cancelled()]
            if group:
                self._commit_together(group)
            if job is None:
                return

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        if self._conn is None:
            self._conn = self._engine.connect()  # kept: a visit to the pool for each commit costs as much as five rows
        with self._conn.begin():
            yield self._conn

    def _commit_together(self, group: list[_Job]) -> None:
        outcomes: list[tuple[Any, Exception | None]]
        try:
            with translated(), self._transaction() as conn:
                outcomes = [_attempt(conn, job.work, alone=len(group) == 1) for job in group]
        except Exception as error:  # noqa: BLE001 (whatever it is belongs to those who wait for it)
            outcomes = [(None, error) for _ in group]
        for job, outcome in zip(group, outcomes, strict=True):
            job.end(*outcome)


def _attempt(conn: Connection, work: _Work, *, alone: bool) -> tuple[Any, Exception | None]:
    """One work of a group. Its own error undoes it alone; when the database cannot be used, the whole group is undone."""
    if alone:
        return work(conn), None
    savepoint = conn.begin_nested()
    try:
        with translated():
            result = work(conn)
    except StoreUnavailable:
        raise  # SQLite may have undone everything already, savepoints included
    except Exception as error:  # noqa: BLE001 (as above)
        savepoint.rollback()
        return None, error
    savepoint.commit()
    return result, None


def _engine(path: str, *, connections: int, begin: str, read_only: bool) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=path),
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,  # an error's text must not show bodies, prompts or signed addresses
        connect_args={"check_same_thread": False, "timeout": BUSY_MILLISECONDS / 1000},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        # The driver's own transactions start at the first write, which loses updates: begin them ourselves.
        connection.isolation_level = None
        _use_wal(connection)
        for pragma in ("synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_MILLISECONDS}"):
            connection.execute(f"PRAGMA {pragma}").close()
        if read_only:
            connection.execute("PRAGMA query_only=ON").close()

    @event.listens_for(engine, "begin")
    def begin_ourselves(conn: Connection) -> None:
        conn.connection.execute(begin).close()  # the driver's own: through SQLAlchemy this costs as much as five rows

    return engine


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turns the file to WAL. Where others do so, or read it, at that moment, SQLite refuses without waiting: wait here."""
    deadline = time.monotonic() + BUSY_MILLISECONDS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & PRIMARY_CODE != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(BUSY_PAUSE_SECONDS)
        else:
            return
