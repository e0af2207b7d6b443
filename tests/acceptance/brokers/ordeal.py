"""A receiver with a sink for each broker, all in trouble under load, and what came of it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from receiver.offline import OfflineRunflow
from receiver.store.database import Database
from receiver.store.tables import deliveries
from tests.acceptance.books import check_audit, quiet
from tests.acceptance.brokers.base import Broker
from tests.acceptance.brokers.troubles import TROUBLES, Scale
from tests.acceptance.brokers.web import AUTHORITY
from tests.acceptance.collector import Collector, check_arrived
from tests.acceptance.load import Callback, Load
from tests.acceptance.processes import API_KEY, SECRET, Install, Installation, Program, until
from tests.sinks.servers import LONG

LOOK_EVERY = 0.1
MOST_GROWTH = 40
"""MB that a process may grow by while brokers are in trouble."""
_FAILURES = ("sink.paused", "sink.still_paused", "delivery.again")


class Fate(NamedTuple):
    """What came of one trouble.

    `resumed`, `caught_up`: seconds from its end to the next message that was delivered, and until as many were as had come in
    by that end. `grown`: MB that the process grew by which grew most, whatever the sink.
    """

    name: str
    resumed: float
    caught_up: float
    messages: int
    repeats: int
    grown: float

    def __str__(self) -> str:
        after = f"resumed after {self.resumed:.1f} s, caught up after {self.caught_up:.1f} s"
        return f"{self.name}: {after}; {self.messages} messages, {self.repeats} came twice; {self.grown:.0f} MB more"


@dataclass
class Ordeal:
    """`phases`: brokers whose troubles are at the same time, and after them others."""

    install: Install
    address: str
    database: Database
    phases: Sequence[Sequence[Broker]]
    scale: Scale
    _programs: list[Program] = field(default_factory=list)
    _memory: list[float] = field(default_factory=list)
    _delivered: Counter[str] = field(default_factory=Counter)
    _afterwards: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Seconds, as in `Fate`."""

    async def run(self) -> list[Fate]:
        """Every message is where it should be in the end, as often as is promised, and the books add up."""
        async with OfflineRunflow(secret=SECRET, api_key=API_KEY) as runflow, Collector() as beside:
            place = await self._receivers(runflow, beside)
            async with self._watched():
                async with self._load.going_on(
                    lambda: Callback(runflow), connections=self.scale.connections, pause=self.scale.pause
                ):
                    await self._at_once(self._starts, [broker for phase in self.phases for broker in phase])
                    self._memory = [program.memory() for program in self._programs]
                    for phase in self.phases:
                        await self._at_once(lambda broker: self._endure(broker, beside), phase)
                await quiet(self.database)
            assert check_arrived(self._load.acknowledged.values(), beside.arrivals) == 0
            grown = self._grown()
            assert grown < MOST_GROWTH, f"grew by {grown:.0f} MB"
            fates = [await self._fate(broker, grown) for phase in self.phases for broker in phase]
            books = await check_audit(place)
            assert books["events"] == len(self._load.acknowledged)
            for program in self._programs:
                await program.stop()
                assert program.look("delivery.sink_failed") == [], "a trouble that a sink did not foresee"
            return fates

    async def _receivers(self, runflow: OfflineRunflow, beside: Collector) -> Installation:
        """One process on SQLite; on PostgreSQL one that takes in, and two that deliver."""
        brokers = [broker for phase in self.phases for broker in phase]
        environ = {name: value for broker in brokers for name, value in broker.environ.items()}
        place = self.install(
            beside.sink(timeout=LONG) + "".join(broker.sink() for broker in brokers),
            DATABASE_URL=self.address,
            DATABASE_AUTO_UPGRADE="on",
            RUNFLOW_API_URL=runflow.url,
            RUNFLOW_API_KEY=API_KEY,
            RECEIVER_LOG_LEVEL="debug",  # at which each failure is a line
            **environ,
        )
        authority = place.folder / "authority.pem"
        AUTHORITY.cert_pem.write_to_path(authority)
        altered = ",".join(filter(None, [f"trust:{authority}", self.scale.altered]))
        several = self.address.startswith("postgresql")
        server = await place.serve(*["--no-pipeline"] * several, altered=altered, forked=True)
        await server.says_it_is(200, None)  # it listens before its database is ready
        self._load = Load(server.address)
        self._programs = [server] + [await place.work(altered=altered, forked=True) for _ in range(2 * several)]
        return place

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        """Keeps in mind how many deliveries of each sink are done."""

        async def watch() -> None:
            while True:
                self._delivered = await self.database.read(_delivered)
                await asyncio.sleep(LOOK_EVERY)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(watch())
            yield
            task.cancel()

    async def _at_once(self, do: Callable[[Broker], Coroutine[None, None, None]], brokers: Sequence[Broker]) -> None:
        async with asyncio.TaskGroup() as group:
            for broker in brokers:
                group.create_task(do(broker))

    async def _starts(self, broker: Broker) -> None:
        if broker.trouble == "missing":
            await until(lambda: self._failures(broker) > 0, f"{broker.name} fails", LOOK_EVERY)
        else:
            await self._delivers(broker, self.scale.before)

    async def _endure(self, broker: Broker, beside: Collector) -> None:
        trouble = TROUBLES[broker.trouble]
        failed, enough = self._failures(broker), self._delivered[broker.name] + self.scale.before

        def is_felt() -> bool:
            fails = self._failures(broker) > failed
            delivers = self._delivered[broker.name] >= enough
            return {True: fails, False: delivers, None: fails or delivers}[trouble.fails]

        async with broker.befall():
            began = time.monotonic()
            await until(is_felt, f"{broker.name} is felt", LOOK_EVERY)
            await self._goes_on(beside)
            await asyncio.sleep(max(0.0, began + self.scale.least - time.monotonic()))
        mended, due = time.monotonic(), len(self._load.acknowledged)
        await self._delivers(broker, 1)
        resumed = time.monotonic() - mended
        await self._delivers(broker, due - self._delivered[broker.name])
        self._afterwards[broker.name] = (resumed, time.monotonic() - mended)

    async def _delivers(self, broker: Broker, more: int) -> None:
        """Waits until so many more are delivered."""
        enough = self._delivered[broker.name] + more
        await until(lambda: self._delivered[broker.name] >= enough, f"{broker.name} delivers", LOOK_EVERY)

    def _failures(self, broker: Broker) -> int:
        records = [record for program in self._programs for event in _FAILURES for record in program.look(event)]
        return sum(record["sink"] == broker.name for record in records)

    async def _goes_on(self, beside: Collector) -> None:
        """What is taken in meanwhile arrives at the sink beside."""
        due = {callback.message_id for callback in self._load.acknowledged.values()}
        await until(lambda: due <= {arrival.id for arrival in beside.arrivals}, "the sink beside goes on", LOOK_EVERY)

    async def _fate(self, broker: Broker, grown: float) -> Fate:
        arrivals = await broker.received()
        repeats = check_arrived(self._load.acknowledged.values(), arrivals, broker.name)
        loses = TROUBLES[broker.trouble].loses_answers or self._is_shaken(broker)
        most = broker.at_once * broker.gap.connections if loses and not broker.drops_repeats else 0
        assert repeats <= most, f"{broker.name}: {repeats} came twice, more than {most}"
        return Fate(broker.name, *self._afterwards[broker.name], len(arrivals) - repeats, repeats, grown)

    def _is_shaken(self, broker: Broker) -> bool:
        """Whether another one's trouble is its own as well, as they share a server."""
        all_ = [each for phase in self.phases for each in phase]
        return broker.fixture is not None and any(TROUBLES[each.trouble].shakes_all for each in all_)

    def _grown(self) -> float:
        peaks = [program.peak_memory() for program in self._programs]
        return max(now - then for now, then in zip(peaks, self._memory, strict=True))


def _delivered(conn: Connection) -> Counter[str]:
    query = select(deliveries.c.sink, func.count()).where(deliveries.c.state == "delivered").group_by(deliveries.c.sink)
    return Counter({str(sink): int(count) for sink, count in conn.execute(query)})
