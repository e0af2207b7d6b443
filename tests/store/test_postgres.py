"""PostgreSQL's own: servers and connections that go away, bells between processes, the server's time."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Connection, text

from receiver.errors import StoreUnavailable
from receiver.store import fetches, lanes, outbox, postgres
from receiver.store.database import Database, open_database, system_clock
from receiver.store.intake import Taken
from receiver.store.tables import events
from receiver.store.tables import lanes as lanes_table
from tests.store.building import LEASE, NOW, accepted, arrival, key, released, staged
from tests.store.places import LONG, all_of, ask, at_database, execute, opened, rows, scalar, until

pytestmark = pytest.mark.postgres

OTHERS = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
BACKENDS = f"SELECT pid FROM pg_stat_activity WHERE {OTHERS}"


def pause(conn: Connection, name: str) -> bool:
    return lanes.pause(conn, name, until=NOW, reason="", now=NOW)


async def killed(url: str, pids: str = BACKENDS) -> None:
    """Ends all connections to this database, and returns when they are gone."""
    before = set(await ask(url, pids))
    await execute(url, f"SELECT pg_terminate_backend(pid) FROM ({pids}) AS of_this")

    async def gone() -> bool:
        return not before & set(await ask(url, pids))

    await until(gone)


@asynccontextmanager
async def locked(url: str) -> AsyncIterator[None]:
    """Holds a lock that `wait_for_lock` waits for."""
    conn = await asyncpg.connect(url)
    try:
        await conn.execute("SELECT pg_advisory_lock(7)")
        yield
    finally:
        await conn.close()


@asynccontextmanager
async def locking(url: str, query: str) -> AsyncIterator[None]:
    """Holds the rows that a query locks, as a process does that hangs in the middle of a transaction."""
    conn = await asyncpg.connect(url)
    try:
        async with conn.transaction():
            await conn.execute(query)
            yield
    finally:
        await conn.close()


def wait_for_lock(conn: Connection) -> None:
    conn.execute(text("SELECT pg_advisory_xact_lock_shared(7)"))


async def waiting_for_lock(url: str, many: int) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
    return await ask(url, query) == [(many,)]


@pytest.fixture
def closed_url() -> Iterator[str]:
    """The address of a server that is not there: the port is taken, and nobody listens on it."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"postgresql://postgres@127.0.0.1:{taken.getsockname()[1]}/x"


@pytest.mark.parametrize("missing", ["server", "database"])
async def test_no_server(postgres_place: str, closed_url: str, missing: str) -> None:
    """Without a server, and without such a database on it, every call says that the database cannot be used."""
    url = closed_url if missing == "server" else at_database(postgres_place, "receiver_test_no_such")
    async with opened(url) as database:
        calls = (database.accept([arrival(1)]), database.read(lanes.troubled), database.write(pause, "x"))
        for call in (*calls, database.migrate(pause, "x"), database.ring("events")):
            with pytest.raises(StoreUnavailable) as caught:
                await call
            assert caught.value.reason == "database"


async def test_connections_that_were_ended(on_postgres: Database, postgres_place: str) -> None:
    """Connections that the server ended while they lay idle are replaced without anybody seeing an error."""
    for _ in range(3):
        await all_of([on_postgres.read(scalar, "SELECT pg_sleep(0.01)") for _ in range(8)])
        await all_of([on_postgres.accept([arrival(n)]) for n in range(2)])
        await killed(postgres_place)
        await all_of([on_postgres.read(lanes.troubled) for _ in range(8)])
        await all_of([on_postgres.accept([arrival(n)]) for n in range(2)])
    assert await on_postgres.read(rows, events, "evaluation_id", "repeats") == [(key(0), 5), (key(1), 5)]


async def test_ended_in_the_middle(on_postgres: Database, postgres_place: str) -> None:
    """A connection that is ended inside a transaction undoes it: all or nothing is done, and the next call works."""
    tries = 0

    def ended(conn: Connection) -> str:
        nonlocal tries
        tries += 1
        pause(conn, f"try {tries}")
        if tries == 1:
            conn.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return "done"

    [outcome] = await asyncio.gather(on_postgres.write(ended), return_exceptions=True)
    assert outcome == "done" or (isinstance(outcome, StoreUnavailable) and outcome.reason == "database")
    assert await on_postgres.write(pause, "after")
    done = [("try 2",)] if outcome == "done" else []
    assert await on_postgres.read(rows, lanes_table, "name") == [("after",), *done]


async def test_ended_under_load(on_postgres: Database, postgres_place: str) -> None:
    """While connections are ended again and again, each batch is stored or refused; none is lost, none stored twice."""
    stored, reasons = set(), set()

    async def store(worker: int) -> None:
        for n in range(worker, 60, 4):
            if n % 5 == 0:  # in the middle of what the other workers are at
                ours = f"{BACKENDS} AND application_name = 'runflow-receiver'"
                await execute(postgres_place, f"SELECT pg_terminate_backend(pid) FROM ({ours}) AS of_this")
            try:
                await on_postgres.accept([arrival(n)])
                stored.add(key(n))
            except StoreUnavailable as error:
                reasons.add(error.reason)

    await all_of([store(worker) for worker in range(4)])
    found = {key for [key] in await on_postgres.read(rows, events, "evaluation_id")}
    assert stored <= found
    assert reasons <= {"database"}
    assert await on_postgres.accept([arrival(1000)]) == [Taken.NEW]


async def test_statement_that_hangs(postgres_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that takes too long is given up, and its connection is of use again."""
    monkeypatch.setattr(postgres, "STATEMENT_SECONDS", 2)
    async with opened(postgres_place) as database:
        with pytest.raises(StoreUnavailable) as caught:
            await database.write(scalar, "SELECT pg_sleep(600)")
        assert caught.value.reason == "database"

        async def works() -> bool:
            try:
                return await database.write(pause, "after")
            except StoreUnavailable:  # two seconds may be too short on a machine that is very slow just now
                return False

        await until(works)


async def test_what_may_take_its_time(postgres_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration, and what looks at everything, is not given up; else a large database could never be upgraded."""
    monkeypatch.setattr(postgres, "STATEMENT_SECONDS", 0.5)
    async with opened(postgres_place) as database:
        with pytest.raises(StoreUnavailable):
            await database.read(scalar, "SELECT pg_sleep(60)")
        assert await database.migrate(scalar, "SELECT 1 FROM pg_sleep(2)") == 1
        assert await database.survey(scalar, "SELECT 1 FROM pg_sleep(2)") == 1


async def test_a_listener_that_is_not_there_any_more(postgres_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way to it may be gone without a word: it is asked now and then, and made anew."""
    connections: list[asyncpg.Connection] = []
    connect = asyncpg.connect

    async def connected(*where: Any, **how: Any) -> asyncpg.Connection:
        connections.append(await connect(*where, **how))
        return connections[-1]

    monkeypatch.setattr(asyncpg, "connect", connected)
    monkeypatch.setattr(postgres, "LISTENER_SECONDS", 0.1)
    monkeypatch.setattr(postgres, "RECONNECT_SECONDS", 0.01)
    heard = asyncio.Event()
    async with opened(postgres_place) as database:
        listening = asyncio.create_task(database.listen(lambda _: heard.set()))
        try:
            await _rung(database, heard)
            [listener] = [each for each in connections if each._listeners]
            listener._transport.pause_reading()  # from now on nothing that is said to us arrives
            heard.clear()
            monkeypatch.setattr(postgres, "CONNECT_SECONDS", 1)
            await _rung(database, heard)
            assert listener.is_closed()
        finally:
            listening.cancel()
            await asyncio.wait([listening])


async def _rung(database: Database, heard: asyncio.Event) -> None:
    async with asyncio.timeout(LONG):
        while not heard.is_set():
            await database.ring("events")
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("before", "batch", "statements"),
    [
        ([], [1, 2, 3], 1),
        ([1, 2, 3], [1, 2, 3], 1),
        ([1, 3], [1, 2, 3], 1),
        ([1], [1, 2, 1, 3, 2], 2),
    ],
    ids=["new", "known", "some of them known", "a key more than once"],
)
async def test_statements_of_a_batch(
    on_postgres: Database, monkeypatch: pytest.MonkeyPatch, before: list[int], batch: list[int], statements: int
) -> None:
    """A batch is one round trip, also where all of it is known; what it has more than once is counted by a second."""
    fetch, sent = asyncpg.Connection.fetch, []

    async def counting(conn: asyncpg.Connection, statement: str, *columns: object) -> Any:
        sent.append(statement)
        return await fetch(conn, statement, *columns)

    await on_postgres.accept([arrival(number) for number in before])
    monkeypatch.setattr(asyncpg.Connection, "fetch", counting)
    taken = await on_postgres.accept([arrival(number) for number in batch])
    assert taken.count(Taken.NEW) == len(set(batch) - set(before))
    assert len(sent) == statements


async def test_intake_has_its_own(on_postgres: Database, postgres_place: str) -> None:
    """Slow queries that hold all other connections cannot keep a callback out."""
    async with locked(postgres_place):
        slow = [asyncio.create_task(on_postgres.read(wait_for_lock)) for _ in range(20)]
        await until(lambda: waiting_for_lock(postgres_place, postgres.CONNECTIONS))
        assert await on_postgres.accept([arrival(1)]) == [Taken.NEW]
    await asyncio.gather(*slow)


async def test_row_held_by_another(postgres_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback whose row another process holds is told to come again, and keeps no other callback out."""
    monkeypatch.setattr(postgres, "_INTAKE_SETTINGS", {"lock_timeout": "100ms"})
    async with opened(postgres_place) as database:
        await database.accept([arrival(1)])
        async with locking(postgres_place, "SELECT * FROM events FOR UPDATE"):
            with pytest.raises(StoreUnavailable) as caught:
                await database.accept([arrival(1)])
            assert caught.value.reason == "database"
            assert await database.accept([arrival(2)]) == [Taken.NEW]
        assert await database.accept([arrival(1)]) == [Taken.REPEAT]


@pytest.mark.parametrize("table", ["deliveries", "fetches"])
async def test_work_held_by_another(on_postgres: Database, postgres_place: str, table: str) -> None:
    """What is due and held by another process is passed over, and looked for again a moment later, not at once and for ever."""
    if table == "deliveries":
        await released(on_postgres, 1)
    else:
        await staged(on_postgres, 1)

    async def take() -> outbox.TakenDeliveries | fetches.TakenFetches:
        limits: dict[str, Any] = {"limit": 9, "lease": LEASE, "now": NOW, "idle": True}
        if table == "deliveries":
            return await on_postgres.write(outbox.take, "all", sole_holder=None, **limits)
        return await on_postgres.write(fetches.take, [], **limits)

    async with locking(postgres_place, f"SELECT * FROM {table} FOR UPDATE"):
        taken = await take()
        assert (taken.claimed, taken.next_moment) == ([], NOW + outbox.LOCKED_WAIT)
    assert len((await take()).claimed) == 1


async def test_sessions(on_postgres: Database) -> None:
    """A process that hangs in the middle of a transaction, or is cut off, does not hold its locks for ever."""
    for name, value in (("idle_in_transaction_session_timeout", "1min"), ("application_name", "runflow-receiver")):
        assert await on_postgres.read(scalar, f"SELECT current_setting('{name}')") == value


async def test_one_moment(on_postgres: Database, postgres_place: str) -> None:
    """What is read in one transaction is of one moment, whatever is written meanwhile."""

    def twice(conn: Connection) -> tuple[int, int]:
        before = scalar(conn, "SELECT count(*) FROM lanes")
        wait_for_lock(conn)
        return before, scalar(conn, "SELECT count(*) FROM lanes")

    async with locked(postgres_place):
        reading = asyncio.create_task(on_postgres.read(twice))
        await until(lambda: waiting_for_lock(postgres_place, 1))
        await on_postgres.write(pause, "meanwhile")
    assert await reading == (0, 0)


async def test_close(postgres_place: str) -> None:
    """Closing finishes what is under way; what comes afterwards is refused, and leaves no connection behind."""
    database = open_database(postgres_place)
    writing = asyncio.create_task(database.write(pause, "under way"))
    await asyncio.sleep(0)
    await database.close()
    assert await writing is True
    for late in (database.write(pause, "late"), database.read(lanes.troubled), database.accept([arrival(1)])):
        with pytest.raises(StoreUnavailable) as caught:
            await late
        assert caught.value.reason == "stopping"
    assert await ask(postgres_place, "SELECT name FROM lanes") == [("under way",)]

    async def none_left() -> bool:
        return not await ask(postgres_place, BACKENDS)

    await until(none_left)


class Ear:
    """What a process hears."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        self._task = asyncio.create_task(database.listen(self.heard.put_nowait))

    async def hears(self, bell: str) -> None:
        """Returns when that bell was heard."""
        async with asyncio.timeout(LONG):
            while await self.heard.get() != bell:
                pass

    async def close(self) -> None:
        """Stops listening."""
        self._task.cancel()
        await asyncio.wait([self._task])


LISTENERS = f"SELECT pid FROM pg_stat_activity WHERE {OTHERS} AND query ILIKE 'LISTEN%'"


async def listening(url: str) -> bool:
    """Whether any connection listens."""
    return bool(await ask(url, LISTENERS))


async def test_bells(on_postgres: Database, another_on_postgres: Database, postgres_place: str) -> None:
    """A bell that one process rings is heard by all that listen, itself included."""
    assert on_postgres.hears_others is True
    ears = [Ear(on_postgres), Ear(another_on_postgres)]

    async def both() -> bool:
        return len(await ask(postgres_place, LISTENERS)) == 2

    await until(both)
    await on_postgres.ring("sink:é")
    for ear in ears:
        await ear.hears("sink:é")
        await ear.close()


async def test_bells_over_a_lost_connection(
    on_postgres: Database, another_on_postgres: Database, postgres_place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener whose connection was ended comes back by itself and hears again."""
    monkeypatch.setattr(postgres, "RECONNECT_SECONDS", 0.05)
    ear = Ear(on_postgres)
    for bell in ("first", "second", "third"):
        await until(lambda: listening(postgres_place))
        await another_on_postgres.ring(bell)
        await ear.hears(bell)
        await killed(postgres_place, LISTENERS)
    await ear.close()


async def test_listening_without_a_server(closed_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While there is no server the listener keeps trying, and ends when it is told to."""
    monkeypatch.setattr(postgres, "RECONNECT_SECONDS", 0)
    async with opened(closed_url) as database:
        ear = Ear(database)
        for _ in range(20):
            await asyncio.sleep(0)
        assert ear.heard.empty()
        await ear.close()


async def test_time_of_the_server(postgres_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However wrong this machine's clock is, `now` is the server's time, so that all machines mean the same by it."""

    def slow() -> datetime:
        return system_clock() - timedelta(hours=5)

    monkeypatch.setattr(postgres, "system_clock", slow)
    async with opened(postgres_place, clock=slow) as database:
        [(theirs,)] = await ask(postgres_place, "SELECT clock_timestamp()")
        await accepted(database, arrival(1))
        assert abs(database.now() - theirs) < timedelta(hours=1)


async def test_options_of_libpq(postgres_place: str) -> None:
    """An address with the options that providers of PostgreSQL write is understood, also by the connection that listens."""
    url = f"{postgres_place}?sslmode=prefer&connect_timeout=10&channel_binding=prefer&work_mem=5MB"
    async with opened(url) as database:
        assert await database.read(scalar, "SELECT current_setting('work_mem')") == "5MB"
        ear = Ear(database)
        await until(lambda: listening(postgres_place))
        await ear.close()
