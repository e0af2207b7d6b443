"""Slack's Web API: one call, and what its answer means. An answer is 200 and says in its body whether it is good.

(docs.slack.dev/reference/methods/chat.postMessage#errors, docs.slack.dev/apis/web-api/rate-limits)
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from pydantic import SecretStr

from receiver.sinks.base import Again, Down, Never
from receiver.sinks.posting import Answer, Poster, judge

CHAT_WRITE: Final = "chat:write"
_BODY_BYTES = 1024 * 1024
"""The answer to a post repeats the message."""
_WORD = re.compile(r"[a-z0-9_]{1,64}")
_SCOPES = re.compile(r"[a-z0-9:._,-]{1,200}")

NO_THREAD: Final = frozenset(
    {"thread_not_found", "invalid_thread_ts", "cannot_reply_to_message", "restricted_action_thread_locked",
     "restricted_action_non_threadable_channel"}
)  # fmt: skip
"""The message is well, but cannot stand in this thread."""
_NOT_THIS_MESSAGE = frozenset(
    {"msg_too_long", "msg_blocks_too_long", "invalid_blocks", "invalid_blocks_format", "no_text", "invalid_arguments",
     "invalid_json", "json_not_object", "too_many_attachments", "metadata_too_large", "message_not_found",
     "cant_update_message", "edit_window_closed", "is_inactive", "user_not_in_channel"}
)  # fmt: skip
_NOT_ALLOWED = "the workspace does not allow it"
_TOO_MANY = "too many messages"
_NOT_US: Final[Mapping[str, str]] = {
    "invalid_auth": "it does not know the token",
    "not_authed": "it does not know the token",
    "token_revoked": "the token was revoked; install the app anew",
    "token_expired": "the token has expired; install the app anew",
    "account_inactive": "the app was taken out of the workspace; install it anew",
    "not_allowed_token_type": "it is not a bot's token, which begins with xoxb-",
    "missing_scope": "the token lacks a scope; add it to the app and install it anew",
    "channel_not_found": "there is no channel of this id that the app can see; a private one must invite it",
    "not_in_channel": "the app is not in the channel; invite it there",
    "is_archived": "the channel is archived",
    "no_permission": _NOT_ALLOWED,
    "ekm_access_denied": _NOT_ALLOWED,
    "access_denied": _NOT_ALLOWED,
    "accesslimited": _NOT_ALLOWED,
    "team_access_not_granted": _NOT_ALLOWED,
    "enterprise_is_restricted": _NOT_ALLOWED,
    "org_login_required": _NOT_ALLOWED,
    "restricted_action": _NOT_ALLOWED,
    "restricted_action_read_only_channel": _NOT_ALLOWED,
    "restricted_action_thread_only_channel": _NOT_ALLOWED,
    "messages_tab_disabled": _NOT_ALLOWED,
    "ratelimited": _TOO_MANY,
    "rate_limited": _TOO_MANY,
    "message_limit_exceeded": _TOO_MANY,
}


class Reply(NamedTuple):
    """A good answer. `scopes` are those of the token."""

    content: dict[str, Any]
    scopes: frozenset[str]


class Unthreaded(NamedTuple):
    """The message cannot stand in the thread that it was meant for."""


Said = Reply | Unthreaded | Again | Never | Down
"""What a call comes to."""


class SlackApi:
    """Calls methods of the Web API as one bot. Nothing that it says shows the token."""

    def __init__(self, url: str, token: SecretStr, *, timeout: float, connections: int) -> None:
        self._token = token
        self._poster = Poster(
            SecretStr(url), timeout=timeout, connections=connections, patience=timeout, body_bytes=_BODY_BYTES
        )
        self.deadline = self._poster.deadline

    async def call(self, method: str, arguments: Mapping[str, Any], deadline: float) -> Said:
        """Calls a method that writes. Raises nothing that a network can cause."""
        return await self._call(method, json.dumps(arguments).encode(), "application/json; charset=utf-8", deadline)

    async def ask(self, method: str, **arguments: str) -> Said:
        """Calls a method that reads: such take no JSON."""
        return await self._call(
            method, urlencode(arguments).encode(), "application/x-www-form-urlencoded", self.deadline()
        )

    async def _call(self, method: str, body: bytes, media: str, deadline: float) -> Said:
        headers = {"authorization": f"Bearer {self._token.get_secret_value()}", "content-type": media}
        answer = await self._poster.post(body, headers, deadline, path=method)
        if isinstance(answer, Answer):
            return _read(answer)
        return answer._replace(reason=f"Slack: {answer.reason}")

    async def close(self) -> None:
        """Closes the connections."""
        await self._poster.close()


def _read(answer: Answer) -> Said:
    content = _content(answer.body)
    if content.get("ok") is True and answer.status == 200:
        scopes = answer.headers.get("x-oauth-scopes", "")
        return Reply(content, frozenset(each.strip() for each in scopes.split(",") if each.strip()))
    word = content.get("error")
    if not isinstance(word, str) or not _WORD.fullmatch(word):
        if 200 <= answer.status < 300:
            return Again(f"Slack answered {answer.status} without ok", answer.after)
        outcome = judge(answer)
        return outcome._replace(reason=f"Slack: {outcome.reason}")
    return _refusal(word, content, answer.after)


def _refusal(word: str, content: Mapping[str, Any], after: float | None) -> Unthreaded | Again | Never | Down:
    if word in NO_THREAD:
        return Unthreaded()
    if word in _NOT_US:
        return Down(f"Slack answered {word}: {_NOT_US[word]}{_needed(content)}", after)
    if word in _NOT_THIS_MESSAGE:
        return Never(f"Slack answered {word}: it does not take this message")
    return Again(f"Slack answered {word}", after)


def _needed(content: Mapping[str, Any]) -> str:
    """The scope that is missing, where Slack names it."""
    needed = content.get("needed")
    return f" ({needed})" if isinstance(needed, str) and _SCOPES.fullmatch(needed) else ""


def _content(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
