"""Slack by a bot: messages into one channel, later ones about the same into its thread; a message that is changed, or that
one person sees.

A message is named by its channel and its `ts`, as `C0123:1700000000.000100`.
"""

from typing import Any

from pydantic import SecretStr

from receiver.sinks.base import Again, Done, Down, Never, Outcome, SinkError
from receiver.sinks.slack_api import CHAT_WRITE, Reply, Said, SlackApi, Unthreaded


class Bot:
    """Done is an answer that says `ok` and names the message."""

    def __init__(self, channel: str, url: str, token: SecretStr, *, timeout: float, connections: int) -> None:
        self._channel = channel
        self._api = SlackApi(url, token, timeout=timeout, connections=connections)
        self.deadline = self._api.deadline

    async def post(self, content: dict[str, Any], deadline: float, follows: str | None = None) -> Outcome:
        """What became of it. It goes into the thread of `follows`, if that is in this channel and still there."""
        arguments = {**content, "channel": self._channel}
        channel, _, thread = (follows or "").partition(":")
        reply: Said = Unthreaded()
        if thread and channel == self._channel:
            reply = await self._api.call("chat.postMessage", {**arguments, "thread_ts": thread}, deadline)
        if isinstance(reply, Unthreaded):
            reply = await self._api.call("chat.postMessage", arguments, deadline)
        return _posted(reply)

    async def change(self, place: str, content: dict[str, Any]) -> Outcome:
        """Puts other content into a message that is there."""
        channel, _, ts = place.partition(":")
        arguments = {**content, "channel": channel, "ts": ts}
        return _outcome(await self._api.call("chat.update", arguments, self.deadline()))

    async def whisper(self, place: str, person: str, content: dict[str, Any]) -> Outcome:
        """Shows a message to one person alone, in the channel of that message."""
        arguments = {**content, "channel": place.partition(":")[0], "user": person}
        return _outcome(await self._api.call("chat.postEphemeral", arguments, self.deadline()))

    async def check(self) -> str:
        """Asks Slack who we are, what we may and, if that may be asked, about the channel."""
        who = await self._api.ask("auth.test")
        if not isinstance(who, Reply):
            raise SinkError(_why(who))
        if who.scopes and CHAT_WRITE not in who.scopes:
            raise SinkError(f"Slack: the token lacks the scope {CHAT_WRITE}; add it to the app and install it anew")
        return f"Slack takes the token; {await self._check_channel(who.scopes)}"

    async def _check_channel(self, scopes: frozenset[str]) -> str:
        if not scopes & {"channels:read", "groups:read"}:
            return "the channel was not tried, which needs the scope channels:read, or --send-test"
        reply = await self._api.ask("conversations.info", channel=self._channel)
        if isinstance(reply, Reply):
            return _found(reply.content.get("channel", {}), "chat:write.public" in scopes)
        if "missing_scope" in _why(reply):  # a private channel, say
            return "the channel was not tried, which needs the scope groups:read, or --send-test"
        raise SinkError(_why(reply))

    async def close(self) -> None:
        """Closes the connections."""
        await self._api.close()


def _posted(reply: Said) -> Outcome:
    if not isinstance(reply, Reply):
        return _outcome(reply)
    channel, ts = reply.content.get("channel"), reply.content.get("ts")
    if not (isinstance(channel, str) and isinstance(ts, str)):
        return Done()
    # Where the thread's first message was deleted, Slack posts into the channel without a word of it, but for leaving this
    # out (slack-go/slack#1571).
    message = reply.content.get("message")
    thread = message.get("thread_ts") if isinstance(message, dict) else None
    return Done(f"{channel}:{ts}", f"{channel}:{thread if isinstance(thread, str) else ts}")


def _outcome(reply: Said) -> Outcome:
    if isinstance(reply, Reply):
        return Done()
    return Again("Slack cannot keep it in its thread") if isinstance(reply, Unthreaded) else reply


def _found(channel: object, posts_anywhere: bool) -> str:
    known = channel if isinstance(channel, dict) else {}
    if known.get("is_archived"):
        raise SinkError("Slack: the channel is archived")
    may_stay_outside = posts_anywhere and not known.get("is_private")
    if known.get("is_member") is False and not may_stay_outside:
        raise SinkError("Slack: the app is not in the channel; invite it there")
    return "the channel is there and takes its messages"


def _why(refused: Said) -> str:
    return refused.reason if isinstance(refused, Again | Never | Down) else "Slack does not answer as it should"
