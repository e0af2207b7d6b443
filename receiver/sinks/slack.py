"""`slack`: a readable message for each verdict, and one for all that follow closely, by an incoming webhook.

Each is a post by `slack_webhook`, of what `slack_blocks` and `slack_digest` write.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from receiver.core.envelope import Message
from receiver.sinks.base import Gathering, Never, Outcome, SinkOptions
from receiver.sinks.posting import safe_address

MOST_IN_A_DIGEST = 500


class SlackOptions(SinkOptions):
    """Which incoming webhook. Slack takes about one message a second for each."""

    type: Literal["slack"] = "slack"
    url: Annotated[SecretStr, AfterValidator(safe_address)] = Field(
        description="The incoming webhook's address, a password. It is never shown."
    )
    digest: bool = Field(default=True, description="Whether verdicts that follow closely become one message.")
    digest_after: int = Field(
        default=1, ge=1, le=100, description="So many messages within `digest_within` go by themselves."
    )
    digest_within: float = Field(default=60, gt=0, le=3600, description="Seconds in which they are counted.")
    digest_gather: float = Field(default=30, gt=0, le=3600, description="Seconds for which a first digest gathers.")
    digest_longest: float = Field(
        default=600, gt=0, le=3600, description="Seconds that it rises to: each in a row gathers for twice as long."
    )
    # Slack fetches the image before it answers, for up to ten seconds.
    timeout: float = Field(default=20, gt=0, le=300, description="Seconds that one attempt may take.")
    concurrency: int = Field(default=1, ge=1, le=100, description="Attempts under way at once, in each process.")
    rate: float | None = Field(default=1, gt=0, description="Most messages a second, over all processes.")

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.digest_longest < self.digest_gather:
            raise ValueError("digest_longest must not be less than digest_gather")
        return self

    @property
    def gathering(self) -> Gathering | None:
        """As the options of digests say."""
        if not self.digest:
            return None
        seconds = (self.digest_within, self.digest_gather, self.digest_longest)
        return Gathering(self.digest_after, *(timedelta(seconds=each) for each in seconds))

    def open(self, public_url: str | None, /) -> "SlackSink":
        """The sink; with `public_url`, each message links to the whole verdict there."""
        from receiver.sinks.slack_webhook import Webhook

        return SlackSink(Webhook(self.url, timeout=self.timeout, connections=self.concurrency), self, public_url)


class Way(Protocol):
    """How a message gets into a channel."""

    def deadline(self) -> float:
        """When an attempt that starts now must be over, in the event loop's time."""
        ...

    async def post(self, content: dict[str, Any], deadline: float) -> Outcome: ...

    async def check(self) -> str: ...

    async def close(self) -> None: ...


class SlackSink:
    """One message by itself, several as a digest, whose outcome is that of each. Slack cannot drop repeats."""

    def __init__(self, way: Way, options: SlackOptions, public_url: str | None) -> None:
        from receiver.sinks import slack_blocks, slack_digest

        self._blocks = slack_blocks
        self._digests = slack_digest
        self._way = way
        self._public_url = public_url
        self.batch = MOST_IN_A_DIGEST if options.digest else 1

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """One post, or another one where Slack refuses the first as it is."""
        if self.batch == 1 or len(messages) == 1:
            return [await self._one(message) for message in messages]
        outcome = await self._digest(messages)
        return [outcome] * len(messages)

    async def _one(self, message: Message) -> Outcome:
        deadline = self._way.deadline()
        content = self._blocks.payload(message.verdict, public_url=self._public_url)
        outcome = await self._way.post(content, deadline)
        if isinstance(outcome, Never) and self._blocks.has_image(content):
            # An image that Slack cannot fetch spoils the whole message (slackapi/python-slack-sdk#1782); signed
            # addresses expire.
            content = self._blocks.payload(message.verdict, public_url=self._public_url, with_image=False)
            outcome = await self._way.post(content, deadline)
        return outcome

    async def _digest(self, messages: Sequence[Message]) -> Outcome:
        deadline = self._way.deadline()
        verdicts = [message.verdict for message in messages]
        outcome = await self._way.post(self._digests.digest(verdicts, public_url=self._public_url), deadline)
        if isinstance(outcome, Never):  # whatever it is about one of them, the others are not to be dead letters for it
            outcome = await self._way.post(self._digests.bare(verdicts), deadline)
        return outcome

    async def check(self) -> str:
        """Has no effect: whatever is posted appears in the channel."""
        return await self._way.check()

    async def close(self) -> None:
        """Closes the connections."""
        await self._way.close()
