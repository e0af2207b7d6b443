"""The roll-up in the background: it works hour by hour, waits for a database that is away, and ends when it is told."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from receiver.pipeline import rollup
from receiver.pipeline.rollup import Rollup
from receiver.store import hours
from receiver.store.database import Database
from receiver.store.hours import roll_up
from receiver.store.tables import hours as hours_table
from tests.pipeline.clock import Clock, until_awaited
from tests.pipeline.outage import Interrupted
from tests.store.building import NOW, released
from tests.store.places import rows

HOUR = timedelta(hours=1)


async def rolled(database: Database) -> list[Any]:
    return [hour for (hour,) in await database.read(rows, hours_table, "hour")]


async def test_step(database: Database, clock: Clock) -> None:
    """A step rolls up all hours that are over, and one more does nothing."""
    await released(database, 1)
    clock.moment = NOW + 3 * HOUR
    it = Rollup(database)
    assert [await it.step() for _ in range(2)] == [2, 0]
    assert await rolled(database) == [NOW, NOW + HOUR]


async def test_two_at_once(database: Database, clock: Clock) -> None:
    """Two processes that do the same work at once do each other no harm."""
    await released(database, 1)
    clock.moment = NOW + 6 * HOUR
    await asyncio.gather(*(Rollup(database).step() for _ in range(2)))
    assert await rolled(database) == [NOW + number * HOUR for number in range(5)]


async def test_away(database: Interrupted, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away, and a defect, are waited out."""
    monkeypatch.setattr(rollup, "LOOK_SECONDS", 0)
    await released(database, 1)
    clock.moment = NOW + 2 * HOUR
    defects = [KeyError("a defect")]

    def fails_once(*args: Any) -> Any:
        if defects:
            raise defects.pop()
        return roll_up(*args)

    monkeypatch.setattr(hours, "roll_up", fails_once)
    database.away = True
    task = asyncio.create_task(Rollup(database).run())

    async def was_refused() -> bool:
        return database.refused > 1

    async def is_rolled_up() -> bool:
        return await rolled(database) == [NOW]

    await until_awaited(was_refused)
    database.away = False
    await until_awaited(is_rolled_up)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not defects
