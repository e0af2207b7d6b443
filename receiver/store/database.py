"""One database, two kinds: what the rest of the service may do with it. `sqlite` and `postgres` are the two."""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from receiver.store.address import Kind, read_address
from receiver.store.intake import Arrival, Taken

P = ParamSpec("P")
T = TypeVar("T")

Clock = Callable[[], datetime]
"""Tells the time, in UTC. Tests pass their own."""


def system_clock() -> datetime:
    """The machine's time."""
    return datetime.now(UTC)


class Database(ABC):
    """Runs functions of this package on connections of its own: `fn(connection, …)` is one transaction."""

    kind: Kind
    intake_flights: int
    """How many batches of arrivals may be on their way at once."""

    @abstractmethod
    def now(self) -> datetime:
        """The time that leases and due times are compared with; on PostgreSQL the server's, so that all machines agree."""

    @abstractmethod
    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `fn` reads, in one transaction. Raises `StoreUnavailable`."""

    async def survey(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `read`, for what looks at everything there is, and may take as long as that takes."""
        return await self.read(fn, *args, **kwargs)

    @abstractmethod
    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `fn` returns once its changes are durable.

        Raises `StoreUnavailable`; then nothing was changed, unless what was lost is the commit's own answer: nobody knows then.
        """

    @abstractmethod
    async def accept(self, arrivals: Sequence[Arrival]) -> list[Taken]:
        """Stores what came in, apart from all other work, so that nothing else can starve it. Raises `StoreUnavailable`."""

    @abstractmethod
    async def probe(self) -> None:
        """Writes something that matters to nobody, the way `accept` writes. Raises `StoreUnavailable` if that cannot be."""

    @abstractmethod
    async def migrate(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `write`, for changes of the schema: alone among all processes, and for as long as that takes."""

    @abstractmethod
    async def ring(self, *bells: str) -> None:
        """Tells other processes that there is work (`bells` say which). Best effort: their slow poll is the safety net."""

    @abstractmethod
    async def listen(self, heard: Callable[[str], None]) -> None:
        """Calls `heard` for what other processes ring, for ever, over all reconnects. Returns at once where none can."""

    @property
    @abstractmethod
    def hears_others(self) -> bool:
        """Whether `listen` works here; if not, work of other processes is found by polling."""

    @abstractmethod
    def take_pipeline(self) -> bool:
        """Makes this process the one that may run the pipeline, where only one may.

        Raises `PipelineTaken`, and `SettingsError` where the database's folder is not there or cannot be written.
        Returns whether it is alone, so that whatever is leased was leased by a process that is gone.
        """

    @abstractmethod
    async def close(self) -> None:
        """Ends all connections. What was being written is finished first."""


def open_database(url: str, *, pooler: bool = False, clock: Clock = system_clock) -> Database:
    """The database at `url`; nothing is connected yet. Raises ValueError for an address that is none of ours."""
    kind, address = read_address(url)
    if kind == "sqlite":
        from receiver.store.sqlite import SqliteDatabase

        return SqliteDatabase(str(address.database), clock=clock)
    from receiver.store.postgres import PostgresDatabase

    return PostgresDatabase(address, pooler=pooler, clock=clock)


def new_id() -> str:
    """A name for this process that no other has."""
    return secrets.token_hex(8)
