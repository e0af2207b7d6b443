"""`slack`: a readable message for each verdict, and one for all that follow closely.

It goes by an incoming webhook (`slack_webhook`) or as a bot (`slack_bot`, which speaks by `slack_api`); what it says is
written by `slack_blocks`, `slack_digest` and `slack_buttons`.
"""

import re
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from receiver.sinks.base import Gathering, Sink, SinkOptions
from receiver.sinks.posting import safe_address

_CHANNEL = re.compile(r"[CGD][A-Z0-9]{7,20}")
_TOKEN = re.compile(r"xox[a-z]([.-][!-~]+)+")


def _channel(channel: str) -> str:
    if not _CHANNEL.fullmatch(channel):
        raise ValueError("must be a channel's id, such as C0123456789: it stands at the end of the channel's details")
    return channel


def _token(token: SecretStr) -> SecretStr:
    if not _TOKEN.fullmatch(token.get_secret_value()):
        raise ValueError(
            "must be a bot's token, which begins with xoxb-; it is SLACK_BOT_TOKEN where the sink has none"
        )
    return token


class SlackOptions(SinkOptions):
    """Which incoming webhook, or which channel for the bot. Slack takes about one message a second for each."""

    type: Literal["slack"] = "slack"
    url: Annotated[SecretStr, AfterValidator(safe_address)] | None = Field(
        default=None, description="The incoming webhook's address, a password. It is never shown."
    )
    channel: Annotated[str, AfterValidator(_channel)] | None = Field(
        default=None, description="In place of `url`: the id of the channel that the bot writes to."
    )
    token: Annotated[SecretStr, AfterValidator(_token)] | None = Field(
        default=None, description="The bot's token; `SLACK_BOT_TOKEN` if not given. It is never shown."
    )
    buttons: bool = Field(
        default=False,
        description="Whether the bot's messages have buttons to rate with. On by itself where `SLACK_SIGNING_SECRET` and"
        " `RUNFLOW_API_KEY` are given.",
    )
    thread_for: float = Field(
        default=168,
        ge=0,
        le=24 * 365,
        description="Hours for which later messages of the bot's about the same `client_ref` go into one thread.",
    )
    api_url: str = Field(default="https://slack.com/api", description="Slack's Web API.")
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

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.url is None) == (self.channel is None):
            raise ValueError("needs either url, of an incoming webhook, or channel, for a bot")
        if self.channel is None and (self.token is not None or self.buttons):
            raise ValueError("token and buttons are for a bot, which needs channel in place of url")
        if self.channel is not None and self.token is None:
            raise ValueError("channel needs the bot's token: set SLACK_BOT_TOKEN, or token")
        safe_address(SecretStr(self.api_url))
        return self

    @property
    def threads(self) -> timedelta | None:
        """A webhook tells nothing by which a message could be followed."""
        return timedelta(hours=self.thread_for) if self.channel is not None and self.thread_for else None

    @property
    def gathering(self) -> Gathering | None:
        """As the options of digests say."""
        if not self.digest:
            return None
        seconds = (self.digest_within, self.digest_gather, self.digest_longest)
        return Gathering(self.digest_after, *(timedelta(seconds=each) for each in seconds))

    def open(self, public_url: str | None, /) -> Sink:
        """The sink; with `public_url`, each message links to the whole verdict there."""
        from receiver.sinks.slack_sink import SlackSink

        return SlackSink(self, public_url)
