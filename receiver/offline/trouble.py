"""The answers, or none, that faults give to requests under `/v1/evaluations` in place of the right one."""

from typing import TypeVar
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from receiver.offline.answers import NoAnswer, gone, refusal
from receiver.offline.faults import Faults, RequestFault
from receiver.offline.listener import RESET

Some = TypeVar("Some", bound=RequestFault)


async def trouble(faults: Faults, request: Request, evaluation_id: UUID | None) -> Response | None:
    """What a fault answers, after the wait of `slow`; None if the right answer is to be given."""
    if not request.url.path.startswith("/v1/evaluations"):
        return None

    def hit(fault: Some | None) -> Some | None:
        hits = fault is not None and fault.method == request.method and fault.take(evaluation_id)
        return fault if hits else None

    if hit(faults.hanging):
        await gone(request.receive)
        return NoAnswer()
    if hit(faults.reset):
        getattr(request.state, RESET)()
        await gone(request.receive)
        return NoAnswer()
    if slow := hit(faults.slow):
        await gone(request.receive, within=slow.seconds)
    if limited := hit(faults.rate_limited):
        headers = {} if limited.retry_after is None else {"Retry-After": str(limited.retry_after)}
        return refusal(429, "RATE_LIMITED", "too many requests", headers=headers)
    if broken := hit(faults.server_error):
        return refusal(broken.status, "INTERNAL_ERROR", "something broke")
    if garbage := hit(faults.garbage):
        return Response(garbage.body, media_type="text/html")
    return None
