"""`/healthz`: the process lives. `/readyz`: it can store, tried for real."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import StoreUnavailable, Unstorable
from receiver.pipeline.intake import Intake
from receiver.store import lanes
from receiver.store.database import Database
from receiver.web.answers import RETRY_AFTER_SECONDS, json_answer


class Health:
    """The endpoints."""

    def __init__(self, database: Database, intake: Intake) -> None:
        self._database = database
        self._intake = intake

    async def alive(self, _request: Request) -> Response:
        """Always 200: an answer is all there is to prove."""
        return json_answer({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """200, or 503 with the reason why nothing can be stored: database, disk, queue_full, stopping or schema."""
        try:
            refusal = self._intake.refuses
            if refusal is not None:
                raise refusal
            async with asyncio.timeout(self._intake.longest_wait):  # what a callback would be given, too
                await self._database.write(lanes.probe, self._database.now())
        except StoreUnavailable as error:
            return _not_ready(error.reason)
        except TimeoutError:
            return _not_ready("database")
        return json_answer({"status": "ready"})


def _not_ready(reason: Unstorable) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return json_answer({"status": "unavailable", "reason": reason}, 503, headers)
