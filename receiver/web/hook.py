"""`POST /webhook/runflow`: method, size, signature, body, in this order; the answer when the callback is durable.

A plain ASGI application: Starlette's request and response objects would cost as much as the HMAC and the parsing together.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from receiver.core.callback import EvaluationEvent, Meaning, NotUnderstood, OtherEvent, as_json, origin_of, understand
from receiver.core.signature import HEADER, Keyring
from receiver.errors import BodyTooLarge, MethodNotAllowed, ReceiverError, StoreUnavailable, Unauthorized
from receiver.pipeline.intake import Intake
from receiver.store.intake import Arrival, EventArrival, OtherArrival, Taken
from receiver.web.answers import DEFECT_ANSWER, error_answer, json_answer

PATH = "/webhook/runflow"

_BAD_SIGNATURE = "Runflow-Signature is missing, malformed, repeated or not made with a secret known here"
_REQUEST_ID = b"runflow-request-id"
_LONGEST_REQUEST_ID = 200
_TELL_EVERY = 1.0
"""Seconds between two log lines about requests that were turned away: a flood of them must not fill the log."""

log = structlog.get_logger()


class Head(NamedTuple):
    """What the hook looks at of a request's headers. `length` as it was declared, in bytes."""

    signatures: list[bytes]
    request_id: str | None
    length: int | None


class Delivered(NamedTuple):
    """A request to the hook, read whole but not believed yet."""

    body: bytes
    signatures: list[bytes]
    request_id: str | None


class Reply(NamedTuple):
    """An answer to a callback: its status, its body, which is JSON, and its headers but for type and length."""

    status: int
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()


Respond = Callable[[Reply], None]


class Hook:
    """The endpoint. `keyring` may be exchanged while it runs; `turned_away` counts by the code of the answer."""

    def __init__(self, intake: Intake, keyring: Keyring, *, body_bytes: int, now: Callable[[], datetime]) -> None:
        self.keyring = keyring
        self.turned_away: dict[str, int] = {}
        self.body_bytes = body_bytes
        self._told_at = -_TELL_EVERY
        self._intake = intake
        self._now = now

    def take(self, delivered: Delivered, respond: Respond) -> None:
        """Verifies and stores what was delivered. `respond` is called once: at once, or when it is durable."""
        try:
            self._take(delivered, respond)
        except Exception as error:  # noqa: BLE001 (whatever it is, the caller has an answer)
            respond(self._refusal(error))

    def _take(self, delivered: Delivered, respond: Respond) -> None:
        body, signatures, request_id = delivered
        label = self.keyring.label_of_signer(body, signatures)
        if label is None:
            raise Unauthorized(_BAD_SIGNATURE, scheme="Runflow-Signature")
        meaning = understand(body)
        arrival: Arrival
        if isinstance(meaning, EvaluationEvent):
            key, event = meaning
            arrival = EventArrival(key, event, body, origin_of(key), label, request_id, self._now())
        else:
            arrival = _aside(meaning, delivered, label, self._now())
        self._intake.accept(arrival, partial(self._settle, meaning, arrival, respond))

    def _settle(self, meaning: Meaning, arrival: Arrival, respond: Respond, outcome: Taken | Exception) -> None:
        """Answers a callback of which it is known whether it was stored."""
        if isinstance(outcome, Exception):
            respond(self._refusal(outcome))
        elif not isinstance(meaning, EvaluationEvent):
            respond(_answer_to_other(meaning, arrival.request_id))
        elif outcome is Taken.NEW:
            respond(Reply(202, b'{"result":"accepted","evaluation_id":%b}' % as_json(meaning.evaluation_id)))
        else:
            respond(Reply(200, b'{"result":"duplicate","evaluation_id":%b}' % as_json(meaning.evaluation_id)))

    def _refusal(self, error: BaseException) -> Reply:
        if not isinstance(error, ReceiverError):
            log.error("callback.defect", exc_info=error)
            return _answer(DEFECT_ANSWER)
        self._count(error)
        return _answer(error_answer(error))

    def _count(self, error: ReceiverError) -> None:
        code = error.reason if isinstance(error, StoreUnavailable) else type(error).__name__
        self.turned_away[code] = self.turned_away.get(code, 0) + 1
        elapsed = time.monotonic()
        if elapsed - self._told_at >= _TELL_EVERY:
            self._told_at = elapsed
            log.warning("callback.turned_away", reason=str(error), turned_away=dict(self.turned_away))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. (ASGI)"""
        answer = await self._answer(scope, receive)
        if answer is not None:
            length = b"%d" % len(answer.body)
            headers = [(b"content-type", b"application/json"), (b"content-length", length), *answer.headers]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, receive: Receive) -> Reply | None:
        """The answer, or None if the caller hung up."""
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("POST")
            delivered = await _read(scope["headers"], receive, self.body_bytes)
        except ReceiverError as error:
            return self._refusal(error)
        if delivered is None:
            return None
        replied: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.take(delivered, partial(_pass_on, replied))
        return await replied


def _pass_on(replied: "asyncio.Future[Reply]", reply: Reply) -> None:
    if not replied.done():  # the request may have been cancelled meanwhile
        replied.set_result(reply)


def _aside(meaning: OtherEvent | NotUnderstood, delivered: Delivered, label: str, now: datetime) -> OtherArrival:
    rest = (delivered.body, label, delivered.request_id, now)
    if isinstance(meaning, OtherEvent):
        return OtherArrival("ignored", meaning.event, None, *rest)
    return OtherArrival("quarantined", None, meaning.why, *rest)


def _answer_to_other(meaning: OtherEvent | NotUnderstood, request_id: str | None) -> Reply:
    if isinstance(meaning, OtherEvent):
        log.info("callback.ignored", kind=meaning.event[:64], request_id=request_id)
        return _answer(json_answer({"result": "ignored", "event": meaning.event}))
    log.error("callback.quarantined", why=meaning.why, request_id=request_id, remedy="receiver quarantine list")
    return Reply(202, b'{"result":"quarantined"}')


def _answer(response: Response) -> Reply:
    headers = [header for header in response.raw_headers if header[0] not in (b"content-type", b"content-length")]
    return Reply(response.status_code, bytes(response.body), headers)


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> Head:
    """What the hook looks at; names are in lower case."""
    signatures: list[bytes] = []
    request_id = length = None
    for name, value in headers:
        if name == HEADER:
            signatures.append(value)
        elif name == _REQUEST_ID:
            request_id = value[:_LONGEST_REQUEST_ID].decode("latin-1")
        elif name == b"content-length":
            length = int(value)
    return Head(signatures, request_id, length)


async def _read(headers: Iterable[tuple[bytes, bytes]], receive: Receive, limit: int) -> Delivered | None:
    """The whole request, or None if the caller hung up. Raises `BodyTooLarge`."""
    signatures, request_id, length = read_head(headers)
    if length is not None and length > limit:
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
