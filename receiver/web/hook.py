"""`POST /webhook/runflow`: method, size, signature, body, in this order; the answer when the callback is durable.

A plain ASGI application: Starlette's request and response objects would cost as much as the HMAC and the parsing together.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import structlog
from starlette.types import Receive, Scope, Send

from receiver.core.callback import EvaluationEvent, NotUnderstood, OtherEvent, as_json, origin_of, understand
from receiver.core.signature import HEADER, Keyring
from receiver.errors import BodyTooLarge, MethodNotAllowed, ReceiverError, StoreUnavailable, Unauthorized
from receiver.pipeline.intake import Intake
from receiver.store.intake import EventArrival, OtherArrival, Taken
from receiver.web.answers import DEFECT_ANSWER, error_answer, json_answer
from receiver.web.examples import CALLBACK, EVALUATION
from receiver.web.operations import Answer, Operation, Parameter
from receiver.web.shapes import StoredBefore, StoredNow

PATH = "/webhook/runflow"

_BAD_SIGNATURE = "Runflow-Signature is missing, malformed, repeated or not made with a secret known here"
_REQUEST_ID = b"runflow-request-id"
_LONGEST_REQUEST_ID = 200
_TELL_EVERY = 1.0
"""Seconds between two log lines about requests that were turned away: a flood of them must not fill the log."""

log = structlog.get_logger()


class Delivered(NamedTuple):
    """A request to the hook, read whole but not believed yet."""

    body: bytes
    signatures: list[bytes]
    request_id: str | None


class Hook:
    """The endpoint. `keyring` may be exchanged while it runs; `turned_away` counts by the code of the answer."""

    def __init__(self, intake: Intake, keyring: Keyring, *, body_bytes: int, now: Callable[[], datetime]) -> None:
        self.keyring = keyring
        self.turned_away: dict[str, int] = {}
        self._told_at = -_TELL_EVERY
        self._intake = intake
        self._body_bytes = body_bytes
        self._now = now

    def operations(self) -> Sequence[Operation]:
        """Its part of the route table; it is not served by that, but before all routing."""
        signature = Parameter(
            "Runflow-Signature", "`sha256=` and the hex of the HMAC-SHA256 of the body, made with a callback secret.",
            {"type": "string"}, "header", required=True,
        )  # fmt: skip
        accepted = {"result": "accepted", "evaluation_id": EVALUATION}
        return (
            Operation(
                "take_callback", "POST", PATH, None, "Runflow's callback",
                description="Answered after it is durably stored, and never before. `receiver send` makes and signs one.",
                tag="callbacks",
                parameters=(signature,),
                body={},
                body_example=CALLBACK,
                answers=(
                    Answer(202, "Stored; or genuine, not understood and kept.", StoredNow, accepted),
                    Answer(200, "Stored before; or of another kind.", StoredBefore, accepted | {"result": "duplicate"}),
                ),
                errors=(Unauthorized, MethodNotAllowed, BodyTooLarge, StoreUnavailable),
            ),
        )  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. (ASGI)"""
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("POST")  # noqa: TRY301 (answered as what the others raise is)
            delivered = await _read(scope["headers"], receive, self._body_bytes)
            if delivered is None:
                return
            status, content = await self._take(delivered)
        except ReceiverError as error:
            self._count(error)
            await error_answer(error)(scope, receive, send)
            return
        except Exception:
            await DEFECT_ANSWER(scope, receive, send)
            raise  # the server logs it with its traceback
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _take(self, delivered: Delivered) -> tuple[int, bytes]:
        """The status and body of the answer to a request that was read."""
        body = delivered.body
        label = self.keyring.label_of_signer(body, delivered.signatures)
        if label is None:
            raise Unauthorized(_BAD_SIGNATURE, scheme="Runflow-Signature")
        meaning = understand(body)
        if not isinstance(meaning, EvaluationEvent):
            return await self._set_aside(meaning, delivered, label)
        key, event = meaning
        arrival = EventArrival(key, event, body, origin_of(key), label, delivered.request_id, self._now())
        if await self._intake.accept(arrival) is Taken.NEW:
            return 202, b'{"result":"accepted","evaluation_id":%s}' % as_json(key)
        return 200, b'{"result":"duplicate","evaluation_id":%s}' % as_json(key)

    async def _set_aside(
        self, meaning: OtherEvent | NotUnderstood, delivered: Delivered, label: str
    ) -> tuple[int, bytes]:
        rest = (delivered.body, label, delivered.request_id, self._now())
        if isinstance(meaning, OtherEvent):
            await self._intake.accept(OtherArrival("ignored", meaning.event, None, *rest))
            log.info("callback.ignored", kind=meaning.event[:64], request_id=delivered.request_id)
            return 200, bytes(json_answer({"result": "ignored", "event": meaning.event}).body)
        await self._intake.accept(OtherArrival("quarantined", None, meaning.why, *rest))
        log.error(
            "callback.quarantined", why=meaning.why, request_id=delivered.request_id, remedy="receiver quarantine list"
        )
        return 202, b'{"result":"quarantined"}'

    def _count(self, error: ReceiverError) -> None:
        code = error.reason if isinstance(error, StoreUnavailable) else type(error).__name__
        self.turned_away[code] = self.turned_away.get(code, 0) + 1
        elapsed = time.monotonic()
        if elapsed - self._told_at >= _TELL_EVERY:
            self._told_at = elapsed
            log.warning("callback.turned_away", reason=str(error), turned_away=dict(self.turned_away))


async def _read(headers: Iterable[tuple[bytes, bytes]], receive: Receive, limit: int) -> Delivered | None:
    """The whole request, or None if the caller hung up. Raises `BodyTooLarge`."""
    signatures, request_id = [], None
    for name, value in headers:
        if name == HEADER:
            signatures.append(value)
        elif name == _REQUEST_ID:
            request_id = value[:_LONGEST_REQUEST_ID].decode("latin-1")
        elif name == b"content-length" and int(value) > limit:
            raise _too_large(limit)
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        chunk: bytes = message.get("body", b"")
        body = body + chunk if body else chunk
        if len(body) > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return Delivered(body, signatures, request_id)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is over the limit of {limit} bytes")
