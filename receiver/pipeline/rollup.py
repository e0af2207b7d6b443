"""Rolls up the hours that are over, in the background, so that figures over months are quick."""

import asyncio
import time

import structlog

from receiver.errors import StoreUnavailable
from receiver.store import hours
from receiver.store.database import Database

LOOK_SECONDS = 60.0
"""Between two looks at whether there is something to roll up."""
AT_ONCE = 100
REST = 4
"""How many times as long as an hour took nothing is done: years may have to be caught up with after an upgrade."""

log = structlog.get_logger()


class Rollup:
    """Any number of processes may run one: whoever comes second with an hour drops its work."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Looks again and again, until it is cancelled; not at once, for a start has other things to do."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.step()
            except StoreUnavailable as error:
                log.info("rollup.waits", reason=error.reason)
            except Exception:
                log.exception("rollup.failed")

    async def step(self) -> int:
        """Rolls up all there is to roll up. Returns how many hours that were."""
        done = 0
        while due := await self._database.read(hours.to_roll_up, self._database.now(), limit=AT_ONCE):
            for hour in due:
                began = time.monotonic()
                # Read apart from writing: on SQLite callbacks wait for whoever writes.
                rolled = await self._database.read(hours.roll_up, hour)
                await self._database.write(hours.keep, rolled)
                await asyncio.sleep((time.monotonic() - began) * REST)
            done += len(due)
        return done
