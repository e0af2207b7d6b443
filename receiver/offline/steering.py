"""`/offline/…`: switching faults on and seeing what was sent, from another process. No key: it is on loopback."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.offline.evaluator import Evaluator
from receiver.offline.faults import Faults
from receiver.offline.journal import SentCallback
from receiver.offline.submission import read_model


def routes(evaluator: Evaluator) -> list[Route]:
    """`GET` and `PUT /offline/faults`, and `GET /offline/callbacks`."""

    async def show_faults(_: Request) -> Response:
        return JSONResponse(evaluator.faults.model_dump(mode="json", exclude_none=True))

    async def set_faults(request: Request) -> Response:
        evaluator.faults.replace(read_model(Faults, await request.body()))
        return await show_faults(request)

    async def callbacks(_: Request) -> Response:
        journal = evaluator.journal
        counts = {"evaluations": len(evaluator.evaluations), "accepted": journal.accepted, "given_up": journal.given_up}
        return JSONResponse({**counts, "items": [_shown(sent) for sent in journal.callbacks]})

    return [
        Route("/offline/faults", show_faults),
        Route("/offline/faults", set_faults, methods=["PUT"]),
        Route("/offline/callbacks", callbacks),
    ]


def _shown(sent: SentCallback) -> dict[str, Any]:
    return {
        "evaluation_id": str(sent.evaluation_id),
        "event": sent.event,
        "delivery": sent.delivery,
        "attempt": sent.attempt,
        "request_id": sent.request_id,
        "body": sent.body.decode(),
        "signature": sent.signature,
        "status": sent.status,
        "answer": sent.answer.decode(errors="replace"),
        "error": sent.error,
    }
