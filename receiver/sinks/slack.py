"""`slack`: posts a readable message for each verdict to an incoming webhook, whose address is a password, shown nowhere.

(docs.slack.dev/messaging/sending-messages-using-incoming-webhooks)
"""

import json
import re
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, SecretStr

from receiver.core.envelope import Message
from receiver.httpclient import URL
from receiver.sinks.base import Again, Done, Down, Never, Outcome, SinkError, SinkOptions
from receiver.sinks.posting import Answer, Poster, judge, web_address

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_WORD = re.compile(r"[a-z_]{1,64}")

_NOT_THIS_MESSAGE = frozenset(
    {"invalid_payload", "invalid_blocks", "invalid_blocks_format", "no_text", "too_many_attachments", "msg_too_long",
     "missing_text_or_fallback_or_attachments"}
)  # fmt: skip
_NOT_THIS_WEBHOOK = {
    "no_service": "the webhook is switched off or its address is wrong",
    "no_service_id": "the webhook's address is not whole",
    "no_active_hooks": "the webhook is switched off",
    "no_team": "the webhook's workspace is not there",
    "team_disabled": "the workspace is disabled",
    "invalid_token": "the webhook's address is wrong",
    "channel_not_found": "its channel is not there",
    "channel_is_archived": "its channel is archived",
    "user_not_found": "the person it writes to is not there",
    "action_prohibited": "the workspace does not allow it",
    "posting_to_general_channel_denied": "the workspace does not allow it in its general channel",
    "rate_limited": "too many messages",
}
"""What Slack says in an answer's body, whatever its status; any other word may pass by itself (`rollup_error`)."""


def _slack_address(address: SecretStr) -> SecretStr:
    url = URL(web_address(address).get_secret_value())
    if url.scheme != "https" and url.host not in _LOOPBACK:
        raise ValueError("must be https://, for the address is a password; http:// is for this machine only")
    return address


class SlackOptions(SinkOptions):
    """Which incoming webhook. Slack takes about one message a second for each."""

    type: Literal["slack"] = "slack"
    url: Annotated[SecretStr, AfterValidator(_slack_address)] = Field(
        description="The incoming webhook's address, a password. It is never shown."
    )
    # Slack fetches the image before it answers, for up to ten seconds.
    timeout: float = Field(default=20, gt=0, le=300, description="Seconds that one attempt may take.")
    concurrency: int = Field(default=1, ge=1, le=100, description="Attempts under way at once, in each process.")
    rate: float | None = Field(default=1, gt=0, description="Most messages a second, over all processes.")

    def open(self, public_url: str | None, /) -> "SlackSink":
        """The sink; with `public_url`, each message links to the whole verdict there."""
        return SlackSink(self, public_url)


class SlackSink:
    """Done is a 200 whose body says `ok`. Slack cannot drop repeats."""

    batch: ClassVar[int] = 1

    def __init__(self, options: SlackOptions, public_url: str | None) -> None:
        from receiver.sinks import slack_blocks

        self._blocks = slack_blocks
        self._public_url = public_url
        self._poster = Poster(
            options.url, timeout=options.timeout, connections=options.concurrency, patience=options.timeout
        )

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Posts them one after the other."""
        return [await self._send(message) for message in messages]

    async def _send(self, message: Message) -> Outcome:
        deadline = self._poster.deadline()
        content = self._blocks.payload(message.verdict, public_url=self._public_url)
        outcome = await self._post(content, deadline)
        if isinstance(outcome, Never) and self._blocks.has_image(content):
            # An image that Slack cannot fetch spoils the whole message (slackapi/python-slack-sdk#1782); signed
            # addresses expire.
            content = self._blocks.payload(message.verdict, public_url=self._public_url, with_image=False)
            outcome = await self._post(content, deadline)
        return outcome

    async def _post(self, content: object, deadline: float) -> Outcome:
        body = json.dumps(content).encode()
        answer = await self._poster.post(body, {"content-type": "application/json; charset=utf-8"}, deadline)
        return read_answer(answer) if isinstance(answer, Answer) else _named(answer)

    async def check(self) -> str:
        """Connects and sends nothing: whatever is posted appears in the channel."""
        try:
            await self._poster.reach()
        except SinkError as error:
            raise SinkError(f"Slack: {error}") from error
        return "connected to Slack; nothing was posted, so the webhook itself was not tried"

    async def close(self) -> None:
        """Closes the connections."""
        await self._poster.close()


def read_answer(answer: Answer) -> Outcome:
    """What Slack's answer means: its body's word where it is known, else the status."""
    word = answer.body.decode("ascii", "replace").strip()
    if answer.status == 200 and word == "ok":
        return Done()
    if word in _NOT_THIS_WEBHOOK:
        return Down(f"Slack answered {answer.status} {word}: {_NOT_THIS_WEBHOOK[word]}", answer.after)
    if word in _NOT_THIS_MESSAGE:
        return Never(f"Slack answered {answer.status} {word}: it does not take this message")
    if 200 <= answer.status < 300:
        said = word if _WORD.fullmatch(word) else "without ok"
        return Again(f"Slack answered {answer.status} {said}", answer.after)
    return _named(judge(answer))


def _named(outcome: Again | Never | Down) -> Outcome:
    return outcome._replace(reason=f"Slack: {outcome.reason}")
