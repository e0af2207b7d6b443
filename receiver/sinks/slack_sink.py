"""The sink `slack`: which message is posted for what it is given, and what to try when Slack does not take it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from slack_sdk.models.blocks import SectionBlock

from receiver.core.envelope import Message
from receiver.core.rating import Rating
from receiver.core.verdict import Verdict
from receiver.sinks import slack_blocks, slack_digest
from receiver.sinks.base import Done, Never, Outcome, SinkError, read_in_slices
from receiver.sinks.slack import SlackOptions
from receiver.sinks.slack_blocks import text_object
from receiver.sinks.slack_bot import Bot
from receiver.sinks.slack_buttons import rating_blocks
from receiver.sinks.slack_text import plain
from receiver.sinks.slack_webhook import Webhook

MOST_IN_A_DIGEST = 500
_WHISPERED = 1000


class Way(Protocol):
    """How a message gets into a channel."""

    def deadline(self) -> float:
        """When an attempt that starts now must be over, in the event loop's time."""
        ...

    async def post(self, content: dict[str, Any], deadline: float, follows: str | None = None) -> Outcome:
        """What became of it; `follows` is what an earlier Done had as its `thread`."""
        ...

    async def change(self, place: str, content: dict[str, Any]) -> Outcome:
        """Puts other content into a message that is there."""
        ...

    async def whisper(self, place: str, person: str, content: dict[str, Any]) -> Outcome:
        """Shows a message to one person, where that message stands."""
        ...

    async def check(self) -> str: ...

    async def close(self) -> None: ...


class SlackSink:
    """One message by itself, several as a digest, whose outcome is that of each. Slack cannot drop repeats."""

    def __init__(self, options: SlackOptions, public_url: str | None) -> None:
        self._way = _way(options)
        self._options = options
        self._public_url = public_url
        self.batch = MOST_IN_A_DIGEST if options.digest else 1

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """One post, or another one where Slack refuses the first as it is."""
        if self.batch == 1 or len(messages) == 1:
            return [await self._one(message) for message in messages]
        return await self._digest(messages)

    async def _one(self, message: Message) -> Outcome:
        deadline = self._way.deadline()
        return await self._with_or_without_image(
            message.verdict, (), lambda content: self._way.post(content, deadline, message.follows)
        )

    async def _with_or_without_image(
        self, verdict: Verdict, ratings: Sequence[Rating], send: Callable[[dict[str, Any]], Awaitable[Outcome]]
    ) -> Outcome:
        """An image that Slack cannot fetch spoils the message (slackapi/python-slack-sdk#1782); signed addresses expire."""
        content = self._content(verdict, ratings)
        outcome = await send(content)
        if isinstance(outcome, Never) and slack_blocks.has_image(content):
            outcome = await send(self._content(verdict, ratings, with_image=False))
        return outcome

    def _content(self, verdict: Verdict, ratings: Sequence[Rating], *, with_image: bool = True) -> dict[str, Any]:
        can_be_rated = self._options.buttons and verdict.origin != "sample"  # of which Runflow knows nothing
        more = rating_blocks(verdict, self._options.name, ratings) if can_be_rated else ()
        return slack_blocks.payload(verdict, public_url=self._public_url, with_image=with_image, more=more)

    async def _digest(self, messages: Sequence[Message]) -> list[Outcome]:
        deadline = self._way.deadline()
        await read_in_slices(messages)
        verdicts = [message.verdict for message in messages]
        outcome = await self._way.post(slack_digest.digest(verdicts, public_url=self._public_url), deadline)
        if isinstance(outcome, Never):  # whatever it is about one of them, the others are not to be dead letters for it
            outcome = await self._way.post(slack_digest.bare(verdicts), deadline)
        return [_told_in_a_digest(outcome, message) for message in messages]

    async def show(self, place: str, verdict: Verdict, ratings: Sequence[Rating]) -> Outcome:
        """Writes the message anew, with who rated."""
        return await self._with_or_without_image(verdict, ratings, lambda content: self._way.change(place, content))

    async def whisper(self, place: str, person: str, text: str) -> Outcome:
        """As plain text, which makes no markup of whatever it quotes."""
        shown = plain(text, _WHISPERED)
        return await self._way.whisper(
            place, person, slack_blocks.message(shown, [SectionBlock(text=text_object(shown))])
        )

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
