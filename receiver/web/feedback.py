"""`PATCH /v1/verdicts/{evaluation_id}/feedback`: what a person thinks of an evaluation, handed on to Runflow."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog
from starlette.requests import Request
from starlette.responses import Response

from receiver.core.feedback import Feedback as Thought
from receiver.errors import (
    Conflict,
    FieldProblem,
    Invalid,
    NotFound,
    RateLimited,
    RequestError,
    RunflowAway,
    RunflowRefused,
    RunflowRefusesKey,
)
from receiver.runflow.client import RunflowClient
from receiver.runflow.refusals import explained, is_passing
from receiver.store import reading
from receiver.store.database import Database
from receiver.web.answers import json_answer
from receiver.web.bodies import read_body
from receiver.web.examples import EVALUATION
from receiver.web.operations import Answer, Operation
from receiver.web.parameters import EVALUATION_ID, evaluation_id_of, refuse_parameters

_ANSWER = {
    "id": EVALUATION,
    "status_code": "completed",
    "feedback_is_positive": False,
    "feedback_reason": "six fingers",
}

log = structlog.get_logger()


class Feedback:
    """The endpoint. `use` exchanges the client while it runs; None is no key."""

    def __init__(self, database: Database, client: RunflowClient | None) -> None:
        self._database = database
        self._client = client
        self._users: Counter[RunflowClient] = Counter()

    def operations(self) -> Sequence[Operation]:
        """Its part of the route table."""
        return (
            Operation(
                "give_feedback", "PATCH", "/v1/verdicts/{evaluation_id}/feedback", self.give_feedback,
                "Say what a person thinks of an evaluation",
                description="Handed on to Runflow, which keeps it: `is_positive` true, false, or null to take it back. To say"
                " it twice does no harm.",
                right="operate",
                parameters=(EVALUATION_ID,),
                body=Thought,
                body_example={"is_positive": False, "reason": "six fingers"},
                answers=(Answer(200, "The evaluation, as Runflow answers it.", {"type": "object"}, _ANSWER),),
                errors=(NotFound, Conflict, RateLimited, RunflowRefusesKey, RunflowAway),
            ),
        )  # fmt: skip

    async def use(self, client: RunflowClient | None) -> None:
        """Asks with this one from now on. The one before is closed when nobody asks with it any more."""
        before, self._client = self._client, client
        if before is not None and not self._users[before]:
            await before.close()

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[RunflowClient]:
        client = self._client
        if client is None:
            raise RunflowRefusesKey("RUNFLOW_API_KEY is not set, so nothing can be handed on to Runflow")
        self._users[client] += 1
        try:
            yield client
        finally:
            self._users[client] -= 1
            if client is not self._client and not self._users[client]:
                await client.close()

    async def give_feedback(self, request: Request) -> Response:
        """Hands it on and answers what Runflow answers."""
        evaluation_id = evaluation_id_of(request)
        refuse_parameters(request)
        thought = await read_body(request, Thought)
        verdict = await self._database.read(reading.one, evaluation_id)
        if verdict is None:
            raise NotFound(f"there is no evaluation {evaluation_id} here")
        if verdict.origin == "sample":
            raise Conflict("this is a sample of `receiver send`: Runflow knows nothing of it")
        try:
            async with self._asking() as client:
                answer = await client.give_feedback(evaluation_id, thought)
        except RunflowRefused as error:
            log.warning("feedback.refused", evaluation_id=str(evaluation_id), reason=str(error))
            raise relayed(error) from None
        key = str(evaluation_id)
        log.info("feedback.given", evaluation_id=key, is_positive=thought.is_positive, by=request.state.caller)
        return json_answer(answer)


def relayed(error: RunflowRefused) -> RequestError:
    """Runflow's refusal as our caller can act on it: a 401 of Runflow's is about our key and not about their token."""
    told = explained(error, "evaluation")
    if is_passing(error):
        return RunflowAway(told, error.after)
    match error.status:
        case 404:
            return NotFound(told)
        case 409:
            return Conflict(told)
        case 429:
            return RateLimited(told, error.after)
        case 400 | 422:
            return Invalid(error.problems or [FieldProblem("body", told)])
    return RunflowRefusesKey(told)
