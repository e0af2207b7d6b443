"""`slack` as a bot: what each answer of the Web API means, threads, the check; the token is shown nowhere."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError

from receiver.sinks.base import Again, Done, Down, Never, Sink, SinkError
from receiver.sinks.slack import SlackOptions
from tests.sinks.messages import message
from tests.sinks.servers import LONG
from tests.sinks.slack_side import CHANNEL, TOKEN, Posted, SlackServer


def options(server: SlackServer, **changes: Any) -> SlackOptions:
    """A bot there."""
    given = {"name": "it", "channel": CHANNEL, "token": TOKEN, "api_url": server.api_url, "timeout": LONG}
    return SlackOptions.model_validate(given | changes)


@pytest.fixture
async def server() -> AsyncIterator[SlackServer]:
    """A workspace in which the app is well."""
    async with SlackServer() as server:
        yield server


@pytest.fixture
async def sink(server: SlackServer) -> AsyncIterator[Sink]:
    """A sink that leads there."""
    sink = options(server).open("https://here.example")
    yield sink
    await sink.close()


async def test_a_message_is_posted_and_named(server: SlackServer, sink: Sink) -> None:
    """Done names the message, by which later ones follow it."""
    [outcome] = await sink.send([message()])

    [posted] = server.slack.messages
    assert outcome == Done(f"{CHANNEL}:{posted.ts}", f"{CHANNEL}:{posted.ts}")
    assert posted.content["channel"] == CHANNEL
    assert posted.text.startswith("Not passed, 70%")


async def test_what_follows_goes_into_the_thread(server: SlackServer, sink: Sink) -> None:
    """Of the first message, also when it follows one that itself followed."""
    root = await _thread(sink, None)
    assert await _thread(sink, root) == root
    assert await _thread(sink, root) == root

    first, *rest = server.slack.messages
    assert [each.thread for each in rest] == [first.ts, first.ts]


async def _thread(sink: Sink, follows: str | None) -> str | None:
    sent = message()
    sent.follows = follows
    [outcome] = await sink.send([sent])
    assert isinstance(outcome, Done)
    return outcome.thread


async def test_a_thread_that_is_gone_is_begun_anew(server: SlackServer, sink: Sink) -> None:
    """Slack posts into the channel without a word where the first message was deleted, or says that there is no thread."""
    root = await _thread(sink, None)
    server.slack.delete(server.slack.messages[0].ts)
    second = await _thread(sink, root)
    server.slack.refuse("thread_not_found")
    third = await _thread(sink, second)

    assert len({root, second, third}) == 3
    assert [each.thread for each in server.slack.messages] == [None, None]


async def test_a_thread_in_another_channel_is_none_here(server: SlackServer, sink: Sink) -> None:
    """The sink's channel was changed meanwhile."""
    await _thread(sink, "C0OTHER0000:1700000000.000100")

    assert "thread_ts" not in server.slack.messages[0].content


async def test_a_digest_is_one_post_and_keeps_the_threads_that_there_are(server: SlackServer, sink: Sink) -> None:
    """What has a thread goes on there later; what has none goes on in the digest's."""
    sent = [message(1), message(2), message(3)]
    sent[1].follows = f"{CHANNEL}:1600000000.000100"
    outcomes = await sink.send(sent)

    [posted] = server.slack.messages
    here = f"{CHANNEL}:{posted.ts}"
    assert outcomes == [Done(here, here), Done(here, sent[1].follows), Done(here, here)]
    assert posted.text.startswith("3 more not passed")
    assert posted.thread is None


@pytest.mark.parametrize(
    ("word", "kind", "told"),
    [
        ("invalid_auth", Down, "it does not know the token"),
        ("token_revoked", Down, "install the app anew"),
        ("account_inactive", Down, "install it anew"),
        ("channel_not_found", Down, "there is no channel of this id"),
        ("not_in_channel", Down, "invite it there"),
        ("is_archived", Down, "the channel is archived"),
        ("restricted_action", Down, "the workspace does not allow it"),
        ("ratelimited", Down, "too many messages"),
        ("msg_too_long", Never, "does not take this message"),
        ("invalid_blocks", Never, "does not take this message"),
        ("internal_error", Again, "internal_error"),
        ("something_new", Again, "something_new"),
    ],
)
async def test_slacks_words_are_understood(server: SlackServer, sink: Sink, word: str, kind: type, told: str) -> None:
    """200 with `ok: false` is no; the reason has Slack's word and what it means."""
    server.slack.refuse(word)
    [outcome] = await sink.send([message(generated_image_url=None)])

    assert isinstance(outcome, kind)
    assert isinstance(outcome, Again | Never | Down)
    assert word in outcome.reason
    assert told in outcome.reason


async def test_a_missing_scope_is_named(server: SlackServer, sink: Sink) -> None:
    """By Slack."""
    server.slack.scopes = "channels:read"
    [outcome] = await sink.send([message()])

    assert outcome == Down(
        "Slack answered missing_scope: the token lacks a scope; add it to the app and install it anew (chat:write)"
    )


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"", Again),
        (200, b"ok", Again),
        (200, b"[]", Again),
        (200, b'{"ok":"true"}', Again),
        (200, b'{"ok":false}', Again),
        (200, b'{"ok":false,"error":"<script>hunter2"}', Again),
        (200, b'{"ok":true}', Done),
        (500, b'{"ok":true}', Again),
        (503, b"<html>", Again),
        (404, b"<html>", Down),
        (302, b"", Down),
        (400, b"", Never),
    ],
)
async def test_an_answer_that_is_none_of_slacks(
    server: SlackServer, sink: Sink, status: int, body: bytes, kind: type
) -> None:
    """Only 200 with `ok: true` is yes."""
    server.slack.answers.append((status, body, {}))
    [outcome] = await sink.send([message(generated_image_url=None)])

    assert isinstance(outcome, kind)
    assert "hunter2" not in repr(outcome)


async def test_a_limit_pauses_the_sink_for_as_long_as_slack_asks(server: SlackServer, sink: Sink) -> None:
    """429 with `Retry-After`."""
    server.slack.answers.append((429, b'{"ok":false,"error":"ratelimited"}', {"Retry_After": "30"}))
    [outcome] = await sink.send([message()])

    assert outcome == Down("Slack answered ratelimited: too many messages", 30)


async def test_an_image_that_slack_cannot_fetch_does_not_cost_the_message(server: SlackServer, sink: Sink) -> None:
    """It is posted without."""
    server.slack.unfetchable = "storage.runflow.io"
    [outcome] = await sink.send([message()])

    assert isinstance(outcome, Done)
    assert [block["type"] for block in server.slack.messages[0].content["blocks"]].count("image") == 0


async def test_a_long_answer_is_read_whole(server: SlackServer, sink: Sink) -> None:
    """Slack repeats the message in it, with all that it made of it."""
    answer = {"ok": True, "channel": CHANNEL, "ts": "1.2", "message": {"text": "x" * 100_000}}
    server.slack.answers.append((200, json.dumps(answer).encode(), {}))

    assert await sink.send([message()]) == [Done(f"{CHANNEL}:1.2", f"{CHANNEL}:1.2")]


@pytest.mark.parametrize(
    ("scopes", "channel", "found"),
    [
        ("chat:write", {"is_member": True}, "Slack takes the token; the channel was not tried"),
        ("chat:write,channels:read", {"is_member": True}, "Slack takes the token; the channel is there"),
        ("chat:write,chat:write.public,channels:read", {"is_member": False}, "the channel is there"),
    ],
)
async def test_a_check_asks_who_we_are_and_about_the_channel(
    server: SlackServer, sink: Sink, scopes: str, channel: dict[str, Any], found: str
) -> None:
    """Nothing is posted, and what could not be asked is said to be not tried."""
    server.slack.scopes, server.slack.channels[CHANNEL] = scopes, channel

    assert found in await sink.check()
    assert server.slack.messages == []


@pytest.mark.parametrize(
    ("scopes", "channel", "told"),
    [
        ("", {"is_member": True}, None),
        ("users:read", {"is_member": True}, "lacks the scope chat:write"),
        ("chat:write,channels:read", {"is_member": False}, "the app is not in the channel"),
        (
            "chat:write,chat:write.public,channels:read",
            {"is_member": False, "is_private": True},
            "the app is not in the channel",
        ),
        ("chat:write,channels:read", {"is_member": True, "is_archived": True}, "the channel is archived"),
        ("chat:write,channels:read", None, "channel_not_found"),
    ],
)
async def test_a_check_says_what_is_wrong(
    server: SlackServer, sink: Sink, scopes: str, channel: dict[str, Any] | None, told: str | None
) -> None:
    """The missing scope by its name, the channel by what it is."""
    server.slack.scopes = scopes
    if channel is None:
        server.slack.channels.clear()
    else:
        server.slack.channels[CHANNEL] = channel
    if told is None:
        await sink.check()
        return
    with pytest.raises(SinkError, match=told):
        await sink.check()


async def test_a_check_with_a_wrong_token(server: SlackServer) -> None:
    """In plain words, without the token."""
    sink = options(server, token="xoxb-wrong-hunter2").open(None)
    with pytest.raises(SinkError) as caught:
        await sink.check()
    await sink.close()

    assert str(caught.value) == "Slack answered invalid_auth: it does not know the token"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "needs either url, of an incoming webhook, or channel, for a bot"),
        ({"url": "https://hooks.slack.com/x", "channel": CHANNEL, "token": TOKEN}, "needs either url"),
        ({"url": "https://hooks.slack.com/x", "token": TOKEN}, "token and buttons are for a bot"),
        ({"url": "https://hooks.slack.com/x", "buttons": True}, "token and buttons are for a bot"),
        ({"channel": CHANNEL}, "set SLACK_BOT_TOKEN, or token"),
        ({"channel": "#quality", "token": TOKEN}, "must be a channel's id, such as C0123456789"),
        ({"channel": CHANNEL, "token": "hunter2"}, "must be a bot's token, which begins with xoxb-"),
        ({"channel": CHANNEL, "token": TOKEN, "api_url": "http://slack.example/api"}, "must be https://"),
        ({"channel": CHANNEL, "token": TOKEN, "digest_longest": 1}, "digest_longest must not be less"),
    ],
)
def test_options_that_do_not_go_together_are_refused(given: dict[str, Any], told: str) -> None:
    """With what would be right, and without a token."""
    with pytest.raises(ValidationError) as caught:
        SlackOptions.model_validate({"name": "it", **given})

    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_test_s_slack_refuses_what_slack_refuses() -> None:
    """The other side of these tests checks something."""
    workspace = SlackServer().slack
    blocks: list[dict[str, Any]] = [
        {"type": "sektion"},
        {"type": "section"},
        {"type": "header", "text": {"type": "mrkdwn", "text": "x"}},
        {"type": "header", "text": {"type": "plain_text", "text": "x" * 151}},
        {"type": "section", "text": {"type": "plain_text", "text": "x" * 3001}},
        {"type": "section", "text": {"type": "plain_text", "text": " "}},
        {"type": "context", "elements": []},
    ]
    refused = 0
    for block in blocks:
        with pytest.raises(Exception, match="invalid_blocks"):
            workspace.post({"text": "x", "blocks": [block]})
        refused += 1
    with pytest.raises(Exception, match="invalid_blocks"):
        workspace.post({"text": "x", "blocks": [{"type": "divider"}] * 51})
    assert refused == len(blocks)
    assert isinstance(workspace.post({"text": "x", "blocks": [{"type": "divider"}]}), Posted)
