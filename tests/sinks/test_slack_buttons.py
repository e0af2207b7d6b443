"""👍 and 👎 below a message: what they carry, who rated, and that neither breaks a limit or makes a mention of a text."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.rating import Rating
from receiver.core.verdict import Verdict
from receiver.sinks.base import Board, Done, Never
from receiver.sinks.slack import SlackOptions
from receiver.sinks.slack_blocks import payload
from receiver.sinks.slack_buttons import MOST_NAMED, rating_blocks
from tests.sinks.any_verdict import ANY_TEXT, VERDICTS
from tests.sinks.messages import evaluation_id, full_verdict, message
from tests.sinks.servers import LONG
from tests.sinks.slack_side import CHANNEL, TOKEN, SlackServer, check_content, check_harmless, texts

PUBLIC_URL = "https://receiver.example"


def shown(*ratings: Rating) -> tuple[list[str], str]:
    """The labels of the buttons, and who is shown to have rated."""
    blocks = [block.to_dict() for block in rating_blocks(full_verdict(), "slack", ratings)]
    return [each["text"]["text"] for each in blocks[0]["elements"]], "".join(texts(blocks[1:]))


def test_before_anybody_rated() -> None:
    """Two buttons, which carry what is rated and where."""
    assert shown() == (["👍", "👎"], "")
    [actions] = [block.to_dict() for block in rating_blocks(full_verdict(revision=3), "slack", [])]
    assert {each["value"] for each in actions["elements"]} == {f"{evaluation_id(1)}:3:slack"}


def test_who_rated_is_shown() -> None:
    """On each side, in order; it can be taken back."""
    told = shown(Rating("U1", True), Rating("U2", False), Rating("W3", True))
    assert told == (["👍", "👎", "Take back"], "👍 <@U1>, <@W3>   👎 <@U2>")


def test_of_many_only_some_are_named() -> None:
    """The rest is counted."""
    _, told = shown(*(Rating(f"U{number}", True) for number in range(MOST_NAMED + 7)))
    assert told.count("<@U") == MOST_NAMED
    assert told.endswith(", 7 more")


@given(VERDICTS, st.lists(st.builds(Rating, st.just("U1A") | ANY_TEXT, st.booleans()), max_size=60))
def test_whatever_is_rated_by_whomever_the_message_is_harmless(verdict: Verdict, ratings: list[Rating]) -> None:
    """Only what is a person's id becomes a mention."""
    content = payload(verdict, public_url=PUBLIC_URL, more=rating_blocks(verdict, "x" * 64, ratings))

    check_content(content)
    check_harmless(content, PUBLIC_URL)


def bot(server: SlackServer, **changes: Any) -> SlackOptions:
    given = {
        "name": "it",
        "channel": CHANNEL,
        "token": TOKEN,
        "api_url": server.api_url,
        "timeout": LONG,
        "buttons": True,
    }
    return SlackOptions.model_validate(given | changes)


async def test_buttons_are_there_only_where_they_lead_somewhere() -> None:
    """Not in a sample's message, of which Runflow knows nothing, nor where they are switched off."""
    async with SlackServer() as server:
        for changes, sample in (({}, "callback"), ({}, "sample"), ({"buttons": False}, "callback")):
            sink = bot(server, **changes).open(None)
            await sink.send([message(origin=sample)])
            await sink.close()
        kinds = [[block["type"] for block in posted.content["blocks"]] for posted in server.slack.messages]

    assert ["actions" in each for each in kinds] == [True, False, False]


async def test_a_message_is_changed_and_a_person_told() -> None:
    """The same message with who rated; an image that Slack cannot fetch any more is left out; what is quoted is no markup."""
    async with SlackServer() as server:
        sink = bot(server).open(None)
        assert isinstance(sink, Board)
        [outcome] = await sink.send([message()])
        assert isinstance(outcome, Done)
        assert outcome.remote_id is not None
        server.slack.unfetchable = "storage.runflow.io"
        changed = await sink.show(outcome.remote_id, full_verdict(), [Rating("U1", True)])
        told = await sink.whisper(outcome.remote_id, "U1", "no <!channel>")
        await sink.close()

    [posted] = server.slack.messages
    assert (changed, told, posted.edits) == (Done(), Done(), 1)
    assert "👍 <@U1>" in posted.text
    assert "image" not in [block["type"] for block in posted.content["blocks"]]
    assert [(each.user, each.text) for each in server.slack.whispers] == [("U1", "no &lt;!channel&gt;")]


@pytest.mark.parametrize("word", ["message_not_found", "cant_update_message"])
async def test_a_message_that_is_gone_cannot_be_changed(word: str) -> None:
    """Somebody deleted it."""
    async with SlackServer() as server:
        sink = bot(server).open(None)
        assert isinstance(sink, Board)
        server.slack.refuse(word, 2)
        outcome = await sink.show(f"{CHANNEL}:1.2", full_verdict(), [])
        await sink.close()

    assert isinstance(outcome, Never)
