"""A failure that is the lane's own: the lane is paused for all processes, and the first try that is taken ends the pause."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from receiver.pipeline.tasks import Patience
from receiver.store import lanes
from receiver.store.database import Database


class Pause:
    """The pause of one lane. The log is told when it begins, when its reason is another, and when it ends; not at each probe.

    `kind` (fetch, sink) is the first word of these log lines.
    """

    def __init__(
        self, database: Database, lane: str, kind: str, patience: Patience, log: structlog.typing.FilteringBoundLogger
    ) -> None:
        self._database = database
        self._lane = lane
        self._kind = kind
        self._patience = patience
        self._log = log
        self._beginning = asyncio.Lock()

    @property
    def is_beginning(self) -> bool:
        """Whether it was found that there must be a pause, and other processes do not know yet."""
        return self._beginning.locked()

    async def begin(
        self, reason: str, wait: Callable[[int], timedelta], suspects: Sequence[lanes.Suspect] = ()
    ) -> None:
        """Pauses the lane, unless it is. `wait` says for how long after so many failures in a row.

        `suspects` were refused, and it may be that it is they and not the lane.
        """
        async with self._beginning:
            await self._patience.wait_for(lambda: self._begin(reason, wait, suspects))

    async def _begin(self, reason: str, wait: Callable[[int], timedelta], suspects: Sequence[lanes.Suspect]) -> None:
        before = await self._database.read(lanes.state, self._lane)
        now = self._database.now()
        if before.paused_until is not None and before.paused_until > now:
            return  # what was under way fails as well, and counts once
        until = now + wait(before.failures + 1)
        paused = await self._database.write(
            lanes.pause, self._lane, until=until, reason=reason, now=now, suspects=suspects
        )
        if paused:
            is_news = before.failures == 0 or before.reason != reason
            tell = self._log.error if is_news else self._log.info
            tell(
                f"{self._kind}.{'paused' if is_news else 'still_paused'}", reason=reason, paused_until=until.isoformat()
            )

    async def end(self) -> None:
        """Clears the pause and the failures that led to it."""
        if await self._patience.wait_for(lambda: self._database.write(lanes.resume, self._lane)):
            self._log.info(f"{self._kind}.resumed")
