"""The loop that every stage of the pipeline runs in, and the bells that wake it."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from receiver.errors import StoreUnavailable
from receiver.store.database import Database

EVENTS = "events"
FETCHES = "fetches"
RATINGS = "ratings"
RELEASES = "releases"
SHORTEST_RING = 0.05
"""Seconds between two rings of other processes: one tells them all there is to know."""
UNAVAILABLE_WAIT = 1.0
"""Seconds until a stage looks again whether the database is back."""

log = structlog.get_logger()

Step = Callable[[], Awaitable[datetime | None]]
"""Does what there is to do now; returns when there is next something to do, or None if only a bell can tell."""


class Bells:
    """Wakes the stages of this process, and through the database those of others. A slow poll is only the safety net."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bells: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.rings: Counter[str] = Counter()
        """How often each was rung in this process."""
        self._to_ring: set[str] = set()
        self._has_to_ring = asyncio.Event()

    @property
    def poll(self) -> timedelta:
        """How long a stage sleeps at most. On SQLite only commands of `receiver` change something from outside."""
        if self._database.hears_others:
            return timedelta(seconds=30)
        return timedelta(seconds=5 if self._database.kind == "sqlite" else 1)

    def bell(self, name: str) -> asyncio.Event:
        """The bell of a stage."""
        return self._bells[name]

    def ring(self, name: str) -> None:
        """Wakes that stage here and, soon, everywhere."""
        self.rings[name] += 1
        self._bells[name].set()
        if self._database.hears_others:
            self._to_ring.add(name)
            self._has_to_ring.set()

    def heard(self, name: str) -> None:
        """Another process rang."""
        self._bells[name].set()

    async def run(self) -> None:
        """Passes rings on in both directions until it is cancelled."""
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._database.listen(self.heard))
                    group.create_task(self._ring_others())
            except* Exception:
                # A defect of ours. Without bells all is found by the slow polls alone, so it goes on.
                log.exception("pipeline.bells_failed")
            await asyncio.sleep(UNAVAILABLE_WAIT)

    async def _ring_others(self) -> None:
        while True:
            await self._has_to_ring.wait()
            await self.flush()
            await asyncio.sleep(SHORTEST_RING)

    async def flush(self) -> None:
        """Rings for others what was not rung yet."""
        self._has_to_ring.clear()
        bells, self._to_ring = self._to_ring, set()
        if bells:
            with suppress(StoreUnavailable):  # their poll will find it
                await self._database.ring(*bells)


class Station:
    """Runs `step` whenever its bell rings or the time that it named has come, until told to stop."""

    def __init__(self, name: str, step: Step, bells: Bells, now: Callable[[], datetime]) -> None:
        self._name = name
        self._step = step
        self._bells = bells
        self._bell = bells.bell(name)
        self._now = now
        self._stopping = False
        self._was_unavailable = False

    def stop(self) -> None:
        """Ends `run` after the present step."""
        self._stopping = True
        self._bell.set()

    async def run(self) -> None:
        """Until stopped."""
        while not self._stopping:
            self._bell.clear()
            wait = await self._safe_step()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._bell.wait()

    async def _safe_step(self) -> float:
        """Seconds until the next step, if no bell rings before."""
        try:
            next_moment = await self._step()
        except StoreUnavailable as error:
            if not self._was_unavailable:
                log.warning("pipeline.store_unavailable", stage=self._name, reason=error.reason, error=str(error))
            self._was_unavailable = True
            return UNAVAILABLE_WAIT
        except Exception:
            # A defect of ours. Stopping the stage would stop all deliveries for the sake of one, so it goes on.
            log.exception("pipeline.step_failed", stage=self._name)
            return UNAVAILABLE_WAIT
        if self._was_unavailable:
            log.info("pipeline.store_back", stage=self._name)
            self._was_unavailable = False
        if next_moment is None:
            return self._bells.poll.total_seconds()
        return min(max((next_moment - self._now()).total_seconds(), 0), self._bells.poll.total_seconds())
