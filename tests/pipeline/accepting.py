"""An arrival's way into the intake, as something to wait for."""

import asyncio
from functools import partial

from receiver.pipeline.batcher import resolve
from receiver.pipeline.intake import Intake
from receiver.store.intake import Arrival, Taken


def accepted(intake: Intake, arrival: Arrival) -> "asyncio.Future[Taken]":
    """What became of it. Raises `StoreUnavailable` at once if it cannot be taken."""
    future: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
    intake.accept(arrival, partial(resolve, future))
    return future
