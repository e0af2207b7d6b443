"""`http`: posts each message as structured CloudEvents JSON, signed by the Standard Webhooks scheme.

(github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md#32-structured-content-mode,
github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md)
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, SecretStr

from receiver.core.envelope import CONTENT_TYPE, Message
from receiver.sinks.base import Done, Never, Outcome
from receiver.sinks.connecting import TlsOptions
from receiver.sinks.posting import Answer, Poster, judge, web_address

DRAIN_SECONDS = 1.0
"""The status decides; the body is waited for only so that the connection can be used again."""

_SECRET = re.compile(r"whsec_([A-Za-z0-9+/]+)={0,2}")
_KEY_BYTES = range(24, 65)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_NOT_TO_SET = frozenset(
    {"content-type", "content-length", "content-encoding", "transfer-encoding", "connection", "host", "expect", "te",
     "upgrade", "accept-encoding"}
)  # fmt: skip


def _signing_secret(secret: SecretStr) -> SecretStr:
    match = _SECRET.fullmatch(secret.get_secret_value())
    digits = len(match[1]) if match else 0
    if digits % 4 == 1 or digits * 3 // 4 not in _KEY_BYTES:
        raise ValueError(
            "must be whsec_ and the base64 of 24 to 64 random bytes, as printed by: "
            'echo "whsec_$(head -c 32 /dev/urandom | base64)"'
        )
    return secret


def _headers(headers: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
    seen: set[str] = set()
    for name, value in headers.items():
        lower = name.lower()
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a header")
        if lower in _NOT_TO_SET or lower.startswith("webhook-"):
            raise ValueError(f"{name} is set by the sink itself")
        if lower in seen:
            raise ValueError(f"{name} is given twice")
        if not _HEADER_VALUE.fullmatch(value.get_secret_value()):
            raise ValueError(f"the value of {name} must be printable ASCII without spaces around it")
        seen.add(lower)
    return headers


class HttpOptions(TlsOptions):
    """Where the messages are posted, and how they are signed."""

    asks_for_tls: ClassVar[str] = "https://"

    type: Literal["http"] = "http"
    url: Annotated[SecretStr, AfterValidator(web_address)] = Field(
        description="The http or https address. It is never shown beyond scheme, host and port."
    )
    secret: Annotated[SecretStr, AfterValidator(_signing_secret)] = Field(
        description="`whsec_` and the base64 of 24 to 64 bytes: the key of the Standard Webhooks signature."
    )
    headers: Annotated[Mapping[str, SecretStr], AfterValidator(_headers)] = Field(
        default={}, description="Further headers, such as `Authorization`. Their values are never shown."
    )
    max_bytes: int | None = Field(
        default=None, gt=0, description="A larger message is a dead letter that says its size. No limit if not given."
    )

    @property
    def needs_tls(self) -> bool:
        """As the address says."""
        return self.url.get_secret_value().lower().startswith("https:")

    def open(self, _public_url: str | None, /) -> "HttpSink":
        """The sink; messages hold no link to us."""
        return HttpSink(self)


class HttpSink:
    """Any 2xx is done. The receiving side drops repeats by `webhook-id`, which is the same for every retry."""

    batch: ClassVar[int] = 1

    def __init__(self, options: HttpOptions, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since 1970: a signature carries its time."""
        from standardwebhooks import Webhook

        self._signer = Webhook(options.secret.get_secret_value())
        self._headers = {name.lower(): value.get_secret_value() for name, value in options.headers.items()}
        self._max_bytes = options.max_bytes
        self._clock = clock
        self._poster = Poster(
            options.url,
            timeout=options.timeout,
            connections=options.concurrency,
            patience=DRAIN_SECONDS,
            tls=options,
        )

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Posts them one after the other."""
        return [await self._send(message) for message in messages]

    async def _send(self, message: Message) -> Outcome:
        size = len(message.cloud_event)
        if self._max_bytes is not None and size > self._max_bytes:
            return Never(f"the message has {size} bytes, more than max_bytes = {self._max_bytes}")
        headers = {**self._headers, **self._signed(message)}
        answer = await self._poster.post(message.cloud_event, headers, self._poster.deadline())
        if not isinstance(answer, Answer):
            return answer
        if answer.status == 413:
            return Never(f"answered 413: the message has {size} bytes, more than it takes")
        return Done() if 200 <= answer.status < 300 else judge(answer)

    def _signed(self, message: Message) -> dict[str, str]:
        now = int(self._clock())
        signature = self._signer.sign(message.key, datetime.fromtimestamp(now, UTC), message.cloud_event.decode())
        return {
            "content-type": CONTENT_TYPE,
            "webhook-id": message.key,
            "webhook-timestamp": str(now),
            "webhook-signature": signature,
        }

    async def check(self) -> str:
        """Connects and sends nothing: any request might have an effect."""
        await self._poster.reach()
        return f"connected to {self._poster.origin}; nothing was posted"

    async def close(self) -> None:
        """Closes the connections."""
        await self._poster.close()
