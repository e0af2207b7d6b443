"""`/healthz`: the process lives. `/readyz`: it can store, tried for real."""

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import StoreUnavailable
from receiver.pipeline.intake import LONGEST_WAIT, Intake
from receiver.store.database import Database
from receiver.web.answers import RETRY_AFTER_SECONDS, json_answer
from receiver.web.operations import Answer, Operation
from receiver.web.shapes import Alive, NotReady, Ready

GOOD_FOR = 1.0
"""Seconds that an outcome is good for: each try is a commit, and anyone may ask."""


class Health:
    """The endpoints."""

    def __init__(self, database: Database, intake: Intake) -> None:
        self._database = database
        self._intake = intake
        self._trying: asyncio.Task[StoreUnavailable | None] | None = None
        self._tried_at = -GOOD_FOR

    def operations(self) -> Sequence[Operation]:
        """Their part of the route table."""
        not_ready = {"status": "unavailable", "reason": "database"}
        return (
            Operation(
                "healthz", "GET", "/healthz", self.alive, "Whether the process lives",
                tag="service",
                answers=(Answer(200, "It does.", Alive, {"status": "ok"}),),
            ),
            Operation(
                "readyz", "GET", "/readyz", self.ready, "Whether a callback could be stored",
                tag="service",
                answers=(
                    Answer(200, "It could.", Ready, {"status": "ready"}),
                    Answer(503, "It could not, and why.", NotReady, not_ready, headers={"Retry-After": "Seconds."}),
                ),
            ),
        )  # fmt: skip

    async def alive(self, _request: Request) -> Response:
        """Always 200: an answer is all there is to prove."""
        return json_answer({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """200, or 503 with the reason why nothing can be stored: database, disk, queue_full, stopping or schema."""
        refusal = self._intake.refuses or await self._try_once()
        if refusal is None:
            return json_answer({"status": "ready"})
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return json_answer({"status": "unavailable", "reason": refusal.reason}, 503, headers)

    async def _try_once(self) -> StoreUnavailable | None:
        """Why nothing can be stored, or None. All who ask meanwhile, and shortly after, share one try."""
        loop = asyncio.get_running_loop()
        if self._trying is None or (self._trying.done() and loop.time() - self._tried_at >= GOOD_FOR):
            self._tried_at = loop.time()
            self._trying = loop.create_task(self._try())
        return await asyncio.shield(self._trying)

    async def _try(self) -> StoreUnavailable | None:
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                await self._database.probe()
        except TimeoutError:
            return StoreUnavailable("database", "the database did not answer in time")
        except StoreUnavailable as error:
            return error
        return None
