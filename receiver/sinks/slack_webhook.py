"""Slack by an incoming webhook, whose address is a password, shown nowhere.

(docs.slack.dev/messaging/sending-messages-using-incoming-webhooks)
"""

import json
import re
from typing import Any

from pydantic import SecretStr

from receiver.sinks.base import Again, Done, Down, Never, Outcome, SinkError
from receiver.sinks.posting import Answer, Poster, judge

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

_CANNOT = Never("a webhook cannot do this; a bot can")


class Webhook:
    """Done is a 200 whose body says `ok`. Nothing is told of the message that was made."""

    def __init__(self, url: SecretStr, *, timeout: float, connections: int) -> None:
        self._poster = Poster(url, timeout=timeout, connections=connections, patience=timeout)
        self.deadline = self._poster.deadline

    async def post(self, content: dict[str, Any], deadline: float, _follows: str | None = None) -> Outcome:
        """What became of it."""
        body = json.dumps(content).encode()
        answer = await self._poster.post(body, {"content-type": "application/json; charset=utf-8"}, deadline)
        return read_answer(answer) if isinstance(answer, Answer) else _named(answer)

    async def change(self, _place: str, _content: dict[str, Any]) -> Outcome:
        """A webhook cannot."""
        return _CANNOT

    async def whisper(self, _place: str, _person: str, _content: dict[str, Any]) -> Outcome:
        """A webhook cannot."""
        return _CANNOT

    async def check(self) -> str:
        """Connects and sends nothing."""
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
