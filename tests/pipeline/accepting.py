"""An arrival's way into the intake, as something to wait for."""

import asyncio

from receiver.pipeline.intake import Intake
from receiver.store.intake import Arrival, Taken


def accepted(intake: Intake, arrival: Arrival) -> "asyncio.Future[Taken]":
    """What became of it. Raises `StoreUnavailable` at once if it cannot be taken."""
    future: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()

    def hear(outcome: Taken | Exception) -> None:
        if future.cancelled():
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    intake.accept(arrival, hear)
    return future
