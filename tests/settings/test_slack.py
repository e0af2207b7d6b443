"""What of the environment is for a bot of Slack's: its token, whether its messages have buttons, what leads to nothing."""

from collections.abc import Callable

import pytest
from pydantic import SecretStr

from receiver.errors import SettingsError
from receiver.settings import Settings
from receiver.sinks.slack import SlackOptions

Load = Callable[..., Settings]

BOT = '[[sinks]]\nname = "a"\ntype = "slack"\nchannel = "C0123456789"\n'
HOOK = '[[sinks]]\nname = "b"\ntype = "slack"\nurl = "https://hooks.slack.com/services/T/B/x"\n'
TOKEN = {"SLACK_BOT_TOKEN": "xoxb-1-hunter2"}
SIGNED = {"SLACK_SIGNING_SECRET": "8f742231"}
KEY = {"RUNFLOW_API_KEY": "rf_live_x"}


def bot(settings: Settings) -> SlackOptions:
    """The first sink."""
    sink = settings.sinks[0]
    assert isinstance(sink, SlackOptions)
    return sink


def test_the_token_is_that_of_the_environment(load: Load) -> None:
    """Unless the sink has its own; a webhook has none."""
    settings = load(TOKEN, BOT + HOOK)
    assert bot(settings).token == SecretStr("xoxb-1-hunter2")
    hook = settings.sinks[1]
    assert isinstance(hook, SlackOptions)
    assert hook.token is None
    assert bot(load(TOKEN, BOT + 'token = "xoxb-2-own"')).token == SecretStr("xoxb-2-own")


@pytest.mark.parametrize("given", [{}, {"SLACK_BOT_TOKEN": "hunter2"}])
def test_a_token_that_is_missing_or_wrong_is_told(load: Load, given: dict[str, str]) -> None:
    """With the name of the environment, and not what it holds."""
    with pytest.raises(SettingsError, match=r"sinks\[0\].*SLACK_BOT_TOKEN") as caught:
        load(given, BOT)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "more", "has"),
    [
        (SIGNED | KEY, "", True),
        (SIGNED, "", False),
        (KEY, "", False),
        (SIGNED | KEY, "buttons = false", False),
        ({}, "buttons = true", True),
    ],
)
def test_buttons_are_there_where_clicks_could_lead_somewhere(
    load: Load, given: dict[str, str], more: str, has: bool
) -> None:
    """By themselves with both, or as the sink says."""
    assert bot(load(TOKEN | given, BOT + more)).buttons is has


@pytest.mark.parametrize(
    ("given", "toml", "told"),
    [
        (TOKEN, HOOK, ["SLACK_BOT_TOKEN: has no effect, for no sink of type slack has a channel"]),
        (SIGNED | KEY, HOOK, ["SLACK_SIGNING_SECRET: has no effect, for no sink of type slack has buttons"]),
        (TOKEN | SIGNED, BOT, ["SLACK_SIGNING_SECRET: has no effect, for RUNFLOW_API_KEY is missing"]),
        (
            TOKEN,
            BOT + "buttons = true",
            ["sink a: has buttons, whose clicks are refused: SLACK_SIGNING_SECRET is missing"],
        ),
        (TOKEN | SIGNED | KEY, BOT, []),
        (TOKEN, BOT, []),
    ],
)
def test_what_leads_to_nothing_is_told(load: Load, given: dict[str, str], toml: str, told: list[str]) -> None:
    """As a warning: it is not wrong, but likely not meant."""
    assert list(load(given, toml).warnings) == told


def test_no_secret_is_shown(load: Load) -> None:
    """Neither in the settings nor in a sink."""
    settings = load(TOKEN | SIGNED | KEY, BOT)
    assert not any(secret in repr(settings) + repr(settings.sinks) for secret in ("hunter2", "8f742231"))
    assert {"xoxb-1-hunter2", "8f742231"} <= set(settings.plain_secrets())
