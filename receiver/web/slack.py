"""`POST /slack/interactions`: what people click in Slack, verified, stored, and answered within Slack's three seconds.

Nothing is asked of Runflow or of Slack meanwhile: the pipeline sees to that. An answer that is not 200 is shown to the person
who clicked, as a sign beside the button, and Slack does not send the click again.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import parse_qs
from uuid import UUID

import orjson
import structlog
from pydantic import BaseModel, SecretStr, StringConstraints, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from receiver.core.rating import THUMBS, Click
from receiver.core.slack_signature import is_signed
from receiver.errors import BodyTooLarge, FieldProblem, Invalid, StoreUnavailable, Unauthorized
from receiver.store import ratings
from receiver.store.database import Database
from receiver.web.bodies import read_bytes
from receiver.web.operations import Answer, Operation, Parameter

PATH = "/slack/interactions"
MOST_BYTES = 1024 * 1024
"""A click comes with the whole message."""
LONGEST = 2.5
"""Seconds until it is given up that the click can be stored: Slack waits for three."""

_TELL_EVERY = 1.0
_TIME = "X-Slack-Request-Timestamp"
_SIGNATURE = "X-Slack-Signature"
_VALUE = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}:[0-9]{1,9}:[a-z0-9_.-]{1,64}"

log = structlog.get_logger()


def _as(pattern: str) -> Any:
    return StringConstraints(pattern=f"^{pattern}$")


class _Person(BaseModel):
    id: Annotated[str, _as("[UW][A-Z0-9]{1,30}")]


class _Action(BaseModel):
    action_id: str
    value: Annotated[str, _as(_VALUE)]
    action_ts: Annotated[str, _as(r"[0-9]{1,10}\.[0-9]{6}")]

    def clicked_at(self) -> datetime:
        seconds, micros = self.action_ts.split(".")
        return datetime.fromtimestamp(int(seconds), UTC).replace(microsecond=int(micros))


class _Container(BaseModel):
    channel_id: Annotated[str, _as("[CGD][A-Z0-9]{1,30}")]
    message_ts: Annotated[str, _as(r"[0-9]{1,10}\.[0-9]{6}")]


class _Clicked(BaseModel):
    """As much of a `block_actions` payload as matters. (docs.slack.dev/reference/interaction-payloads/block_actions-payload)"""

    user: _Person
    container: _Container
    actions: list[_Action]

    def clicks(self) -> Iterator[Click]:
        place = f"{self.container.channel_id}:{self.container.message_ts}"
        for action in self.actions:
            evaluation_id, revision, sink = action.value.split(":")
            yield Click(
                UUID(evaluation_id),
                int(revision),
                self.user.id,
                THUMBS[action.action_id],
                action.clicked_at(),
                sink,
                place,
            )


class SlackClicks:
    """The endpoint. `signing_secret` may be exchanged while it runs; without one nobody is believed."""

    def __init__(self, database: Database, signing_secret: SecretStr | None, ring: Callable[[], None]) -> None:
        self.signing_secret = signing_secret
        self._database = database
        self._ring = ring
        self._turned_away = 0
        self._told_at = -math.inf

    def operations(self) -> Sequence[Operation]:
        """Its part of the route table."""
        parameters = (
            Parameter(_TIME, "Seconds since 1970; at most five minutes from now.", {"type": "string"}, "header", required=True),
            Parameter(
                _SIGNATURE, "`v0=` and the hex of the HMAC-SHA256 of `v0:TIME:BODY`, made with the app's signing secret.",
                {"type": "string"}, "header", required=True,
            ),
        )  # fmt: skip
        return (
            Operation(
                "take_slack_click", "POST", PATH, self.take, "A click on 👍 or 👎 in Slack",
                description="A form with the field `payload`, as Slack sends it. Answered when the click is stored.",
                tag="callbacks",
                parameters=parameters,
                answers=(Answer(200, "Stored, or nothing that concerns us."),),
                errors=(Unauthorized, BodyTooLarge, Invalid, StoreUnavailable),
            ),
        )  # fmt: skip

    async def take(self, request: Request) -> Response:
        """Verifies and stores it. Raises `Unauthorized`, `Invalid`, `StoreUnavailable` and `BodyTooLarge`."""
        if self.signing_secret is None:
            raise Unauthorized("no click is believed here: SLACK_SIGNING_SECRET is not set", scheme=_SIGNATURE)
        body = await read_bytes(request, MOST_BYTES)
        self._verify(request, body, self.signing_secret.get_secret_value())
        clicks = _clicks(body)
        try:
            async with asyncio.timeout(LONGEST):
                for click in clicks:
                    await self._store(click)
        except TimeoutError:
            raise StoreUnavailable("database", "the click could not be stored in time") from None
        return Response()

    def _verify(self, request: Request, body: bytes, secret: str) -> None:
        times, signatures = (
            [value for name, value in request.headers.raw if name == wanted.lower().encode()]
            for wanted in (_TIME, _SIGNATURE)
        )
        if not is_signed(secret, times, signatures, body, self._database.now()):
            self._tell_of_a_stranger()
            raise Unauthorized(
                "the signature is missing, old or not made with the secret known here", scheme=_SIGNATURE
            )

    def _tell_of_a_stranger(self) -> None:
        """At most once a second: a flood of them must not fill the log."""
        self._turned_away += 1
        if time.monotonic() - self._told_at >= _TELL_EVERY:
            self._told_at = time.monotonic()
            log.warning(
                "click.turned_away", reason="its signature or its time is not good", turned_away=self._turned_away
            )

    async def _store(self, click: Click) -> None:
        is_new = await self._database.write(ratings.rate, click, self._database.now())
        log.info("click.stored", evaluation_id=str(click.evaluation_id), sink=click.sink, is_new=is_new)
        self._ring()


def _clicks(body: bytes) -> list[Click]:
    """Those on our buttons; what else an app may be sent concerns us not. Raises `Invalid`."""
    payload = _payload(body)
    if payload.get("type") != "block_actions":
        return []
    actions = payload.get("actions")
    ours = [each for each in actions if _is_ours(each)] if isinstance(actions, list) else []
    if not ours:
        return []
    try:
        return list(_Clicked.model_validate({**payload, "actions": ours}).clicks())
    except ValidationError as error:
        raise Invalid([FieldProblem(".".join(map(str, each["loc"])), each["msg"]) for each in error.errors()]) from None


def _is_ours(action: object) -> bool:
    return isinstance(action, dict) and action.get("action_id") in THUMBS


def _payload(body: bytes) -> dict[str, Any]:
    try:
        [text] = parse_qs(body.decode(), max_num_fields=10)["payload"]
        payload = orjson.loads(text)
    except (ValueError, KeyError):
        payload = None
    if not isinstance(payload, dict):
        raise Invalid([FieldProblem("payload", "must be given once, in a form, as a JSON object")])
    return payload
