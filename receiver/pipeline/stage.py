"""From a stored event to a pending verdict whose tree is to be fetched."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

import structlog

from receiver.core.callback import read_callback
from receiver.core.verdict import from_callback
from receiver.pipeline.station import EVENTS, FETCHES, RELEASES, Bells
from receiver.store import staging
from receiver.store.database import Database
from receiver.store.lanes import sink_lane
from receiver.store.results import Released

BATCH = 200
BATCH_WHEN_BUSY = 12
"""While callbacks come, whatever stands in their way must be short: on SQLite they wait for it."""
SHARE_OF_OTHERS = 19
SHARE_IN_A_RUSH = 99
SHARE_WHEN_LATE = 3
"""How many times as long as a batch took the stage leaves to callbacks that keep coming: more while they are more than it sees
to anyway, less once it is `LONGEST_LAG` late."""
LONGEST_LAG = timedelta(seconds=10)
LONGEST_PAUSE = 1.0
SAMPLE = "sample"

log = structlog.get_logger()


class Stage:
    """Sees to stored events. It releases nothing: that is for those who fetch, and have the key and the sinks."""

    def __init__(self, database: Database, bells: Bells, *, hold: timedelta) -> None:
        self._database = database
        self._bells = bells
        self._hold = hold
        self._limit = BATCH
        self._rings = 0

    async def step(self) -> datetime | None:
        """All that waits, batch by batch.

        Seeing to an event costs more than twice what taking it in does, and it can wait. So while callbacks keep coming to
        this process they have nineteen twentieths of the time, and nearly all of it where more wait than the rest would do
        for: a burst of seconds is taken in first. A longer one has three quarters.
        """
        while True:
            limit, began, now = self._limit, time.monotonic(), self._database.now()
            staged = await self._database.write(staging.stage, partial(self._plan, now), limit=limit, now=now)
            if staged:
                self._bells.ring(FETCHES)
            for each in staged:
                _tell(each)
            is_busy = self._callbacks_keep_coming()
            self._limit = BATCH_WHEN_BUSY if is_busy else BATCH
            if is_busy:
                pause = (time.monotonic() - began) * _share_of_others(staged, now, is_rush=len(staged) == limit)
                await asyncio.sleep(min(pause, LONGEST_PAUSE))
            if len(staged) < limit:
                return None

    def _callbacks_keep_coming(self) -> bool:
        """Whether any was stored since this was asked last."""
        before, self._rings = self._rings, self._bells.rings[EVENTS]
        return self._rings != before

    def _plan(self, now: datetime, event: staging.WaitingEvent) -> staging.Staged:
        callback, oddities = read_callback(event.body, event.event)
        pending = from_callback(
            callback,
            evaluation_id=event.evaluation_id,
            event=event.event,
            received_at=event.received_at,
            origin=event.origin,
        )
        if event.origin == "sample":  # Runflow knows nothing of it
            return staging.Staged(event, pending, oddities, due_at=None, hold_until=now, reason=SAMPLE)
        return staging.Staged(event, pending, oddities, due_at=now, hold_until=now + self._hold)


def _share_of_others(staged: Sequence[staging.Staged], now: datetime, *, is_rush: bool) -> int:
    if any(now - each.event.received_at > LONGEST_LAG for each in staged):
        return SHARE_WHEN_LATE
    return SHARE_IN_A_RUSH if is_rush else SHARE_OF_OTHERS


def _tell(staged: staging.Staged) -> None:
    event = staged.event
    log.info(
        "callback.stored",
        evaluation_id=str(event.evaluation_id),
        kind=event.event,
        secret=event.secret_label,
        request_id=event.request_id,
        repeats=event.repeats,
    )
    if staged.oddities:
        log.warning("callback.odd", evaluation_id=str(event.evaluation_id), oddities=staged.oddities[:20])


def announce(bells: Bells, released: Sequence[Released]) -> None:
    """Tells the log, the sinks' stages and whoever reads along what was released."""
    for each in released:
        if each.is_new:
            verdict = each.verdict
            log.info(
                "verdict.released",
                evaluation_id=str(verdict.evaluation_id),
                revision=verdict.revision,
                tree=verdict.tree,
                tree_reason=verdict.tree_reason,
                sinks=each.sinks,
            )
    if any(each.is_new for each in released):
        bells.ring(RELEASES)
    for sink in {sink for each in released for sink in each.sinks}:
        bells.ring(sink_lane(sink))
