"""The sink `slack`: which message is posted for what it is given, and what to try when Slack does not take it."""

from collections.abc import Sequence
from typing import Any, Protocol

from receiver.core.envelope import Message
from receiver.sinks import slack_blocks, slack_digest
from receiver.sinks.base import Done, Never, Outcome, SinkError
from receiver.sinks.slack import SlackOptions
from receiver.sinks.slack_bot import Bot
from receiver.sinks.slack_webhook import Webhook

MOST_IN_A_DIGEST = 500


class Way(Protocol):
    """How a message gets into a channel."""

    def deadline(self) -> float:
        """When an attempt that starts now must be over, in the event loop's time."""
        ...

    async def post(self, content: dict[str, Any], deadline: float, follows: str | None = None) -> Outcome:
        """What became of it; `follows` is what an earlier Done had as its `thread`."""
        ...

    async def check(self) -> str: ...

    async def close(self) -> None: ...


class SlackSink:
    """One message by itself, several as a digest, whose outcome is that of each. Slack cannot drop repeats."""

    def __init__(self, options: SlackOptions, public_url: str | None) -> None:
        self._way = _way(options)
        self._public_url = public_url
        self.batch = MOST_IN_A_DIGEST if options.digest else 1

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """One post, or another one where Slack refuses the first as it is."""
        if self.batch == 1 or len(messages) == 1:
            return [await self._one(message) for message in messages]
        return await self._digest(messages)

    async def _one(self, message: Message) -> Outcome:
        deadline = self._way.deadline()
        content = slack_blocks.payload(message.verdict, public_url=self._public_url)
        outcome = await self._way.post(content, deadline, message.follows)
        if isinstance(outcome, Never) and slack_blocks.has_image(content):
            # An image that Slack cannot fetch spoils the whole message (slackapi/python-slack-sdk#1782); signed
            # addresses expire.
            content = slack_blocks.payload(message.verdict, public_url=self._public_url, with_image=False)
            outcome = await self._way.post(content, deadline, message.follows)
        return outcome

    async def _digest(self, messages: Sequence[Message]) -> list[Outcome]:
        deadline = self._way.deadline()
        verdicts = [message.verdict for message in messages]
        outcome = await self._way.post(slack_digest.digest(verdicts, public_url=self._public_url), deadline)
        if isinstance(outcome, Never):  # whatever it is about one of them, the others are not to be dead letters for it
            outcome = await self._way.post(slack_digest.bare(verdicts), deadline)
        return [_told_in_a_digest(outcome, message) for message in messages]

    async def check(self) -> str:
        """Has no effect: whatever is posted appears in the channel."""
        return await self._way.check()

    async def close(self) -> None:
        """Closes the connections."""
        await self._way.close()


def _told_in_a_digest(outcome: Outcome, message: Message) -> Outcome:
    """It has no message of its own; what has a thread already keeps that, and what has none goes on in the digest's."""
    if isinstance(outcome, Done) and message.follows is not None:
        return outcome._replace(thread=message.follows)
    return outcome


def _way(options: SlackOptions) -> Way:
    timeout, connections = options.timeout, options.concurrency
    if options.url is not None:
        return Webhook(options.url, timeout=timeout, connections=connections)
    if options.channel is None or options.token is None:
        raise SinkError("neither url nor channel")  # options as they are validated have one of them
    return Bot(options.channel, options.api_url, options.token, timeout=timeout, connections=connections)
