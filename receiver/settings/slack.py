"""What of the environment is for sinks of Slack: the shortcut of a webhook, a bot's token, what signs its clicks."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from pydantic import SecretStr

from receiver.sinks.base import SinkOptions
from receiver.sinks.slack import SlackOptions

SLACK: Final = "slack"


class Slack(NamedTuple):
    """`can_rate`: what people click is believed, and Runflow could be told."""

    shortcut: SecretStr | None = None
    token: SecretStr | None = None
    can_rate: bool = False

    def completed(self, table: Any) -> Any:
        """A table of `[[sinks]]`; one of a bot's has what it takes from here where it does not say it itself."""
        if not isinstance(table, dict) or table.get("type") != SLACK or "channel" not in table:
            return table
        token = {} if self.token is None else {"token": self.token}
        return {**token, "buttons": self.can_rate, **table}


def slack_remarks(
    sinks: Iterable[SinkOptions], token: SecretStr | None, signing_secret: SecretStr | None, api_key: SecretStr | None
) -> Iterator[str]:
    """Lines about what is given for a bot and leads to nothing."""
    bots = [sink for sink in sinks if isinstance(sink, SlackOptions) and sink.channel is not None]
    if token is not None and not bots:
        yield f"SLACK_BOT_TOKEN: has no effect, for no sink of type {SLACK} has a channel"
    if signing_secret is not None and not any(sink.buttons for sink in bots):
        why = "RUNFLOW_API_KEY is missing" if bots and api_key is None else f"no sink of type {SLACK} has buttons"
        yield f"SLACK_SIGNING_SECRET: has no effect, for {why}"
    for sink in bots:
        if sink.buttons and signing_secret is None:
            yield f"sink {sink.name}: has buttons, whose clicks are refused: SLACK_SIGNING_SECRET is missing"
