"""`slack`: what each answer of Slack's means, that an image may not spoil a message, and that the address stays secret."""

import asyncio
import json
from typing import Any

import pytest
from pydantic import ValidationError

from receiver.core.matching import Filter
from receiver.sinks.base import Again, Done, Down, Never, Outcome, SinkError
from receiver.sinks.slack import SlackOptions
from tests.sinks.destinations import PASSWORD
from tests.sinks.messages import evaluation_id, message
from tests.sinks.servers import LONG, Behaviour, Connection, Request, WebServer, answering, nobody_listens, response

PAUSES = {401, 403, 404, 410, 429}
MAY_PASS = {408, 425}


def options(url: str, **changes: Any) -> SlackOptions:
    """Options that lead there."""
    return SlackOptions.model_validate({"name": "it", "url": url, "timeout": LONG, **changes})


async def outcome_of(behaviour: Behaviour, *, image: bool = False, **changes: Any) -> Outcome:
    """What one message comes to at a server that behaves so. It comes to something in any case."""
    url = "https://images.example/1.png" if image else None
    async with asyncio.timeout(LONG), WebServer(behaviour) as server:
        sink = options(server.url, **changes).open(None)
        [outcome] = await sink.send([message(generated_image_url=url)])
        await sink.close()
    return outcome


def expected(status: int, body: bytes) -> type[Outcome]:
    """Done is 200 with `ok` and nothing else; the rest is as for every HTTP destination."""
    if 200 <= status < 300:
        return Done if status == 200 and body == b"ok" else Again
    if status in PAUSES or 300 <= status < 400:
        return Down
    if status in MAY_PASS or 500 <= status < 600:
        return Again
    return Never


@pytest.mark.parametrize("body", [b"ok", b"", b"<html>"])
async def test_every_status_has_its_outcome(body: bytes) -> None:
    """Every status from 200 to 599, with `ok`, with nothing and with a page in the body."""
    statuses = range(200, 600)
    waiting = iter(statuses)

    async def next_status(_: Request, connection: Connection) -> None:
        await connection.say(response(next(waiting), body))

    async with WebServer(next_status) as server:
        sink = options(server.url).open(None)
        sent = message(generated_image_url=None)
        outcomes = {status: (await sink.send([sent]))[0] for status in statuses}
        await sink.close()

    assert {status: type(outcome) for status, outcome in outcomes.items()} == {
        status: expected(status, body) for status in statuses
    }
    for outcome in outcomes.values():
        assert isinstance(outcome, Done) or "Slack" in outcome.reason
    assert server.connections == 1


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, "no_service", Down),
        (200, "invalid_token", Down),
        (200, "channel_is_archived", Down),
        (200, "invalid_payload", Never),
        (200, "something_new", Again),
        (200, "OK", Again),
        (200, "ok ok", Again),
        (200, '{"ok":false,"error":"invalid_auth"}', Again),
        (400, "invalid_payload", Never),
        (400, "invalid_blocks", Never),
        (400, "no_text", Never),
        (400, "too_many_attachments", Never),
        (400, "user_not_found", Down),
        (400, "no_team", Down),
        (403, "action_prohibited", Down),
        (403, "invalid_token", Down),
        (404, "no_service", Down),
        (404, "channel_not_found", Down),
        (410, "channel_is_archived", Down),
        (429, "rate_limited", Down),
        (500, "rollup_error", Again),
        (500, "no_service", Down),
        (302, "", Down),
    ],
)
async def test_slacks_words_are_understood(status: int, body: str, kind: type[Outcome]) -> None:
    """A body that says no is no, whatever the status; the reason has both."""
    outcome = await outcome_of(answering(status, body.encode()))

    assert isinstance(outcome, kind)
    assert isinstance(outcome, Again | Never | Down)
    assert outcome.reason.startswith("Slack")
    assert str(status) in outcome.reason


async def test_white_space_around_ok_is_ok() -> None:
    """A proxy may add a line end."""
    assert await outcome_of(answering(200, b"ok\n")) == Done()


async def test_what_a_body_says_is_shown_only_if_it_is_a_word() -> None:
    """A page that repeats the address does not bring it into a reason."""
    body = f"no such hook: /services/{PASSWORD}".encode()
    outcomes = [await outcome_of(answering(status, body)) for status in (200, 400, 404, 500)]

    assert PASSWORD not in repr(outcomes)


async def test_a_limit_pauses_the_sink_for_as_long_as_slack_asks() -> None:
    """429 with `Retry-After`."""
    outcome = await outcome_of(answering(429, b"rate_limited", Retry_After="30"))

    assert isinstance(outcome, Down)
    assert outcome.after == 30


async def hang(_: Request, connection: Connection) -> None:
    """No answer."""
    await connection.hang()


async def half_a_word(_: Request, connection: Connection) -> None:
    """A good head, and never the whole of the word that decides."""
    await connection.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no")
    await connection.hang()


async def flood(_: Request, connection: Connection) -> None:
    """A body without an end."""
    await connection.say("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n")
    while True:
        await connection.say(b"ok" * 32768)


@pytest.mark.parametrize("behaviour", [hang, half_a_word])
async def test_an_answer_that_does_not_come_is_tried_again(behaviour: Behaviour) -> None:
    """Nobody said ok in time."""
    assert isinstance(await outcome_of(behaviour, timeout=0.2), Again)


async def test_an_endless_body_is_no_ok() -> None:
    """Only its beginning is read."""
    assert await outcome_of(flood) == Again("Slack answered 200 without ok")


async def test_a_reset_is_tried_again() -> None:
    """The message may be in the channel or not."""

    async def reset(_: Request, connection: Connection) -> None:
        connection.reset()

    assert isinstance(await outcome_of(reset), Again)


async def test_an_image_that_slack_cannot_fetch_does_not_cost_the_message() -> None:
    """Refused with the image, it is posted once more without, in the same attempt."""

    async def refuse_images(request: Request, connection: Connection) -> None:
        kinds = [block["type"] for block in json.loads(request.body)["blocks"]]
        await connection.say(response(400, b"invalid_blocks") if "image" in kinds else response())

    assert await outcome_of(refuse_images, image=True) == Done()


async def test_a_message_that_is_refused_without_its_image_too_is_never_sent() -> None:
    """Twice no is no."""
    seen: list[Request] = []

    async def refuse(request: Request, connection: Connection) -> None:
        seen.append(request)
        await connection.say(response(400, b"invalid_blocks"))

    outcome = await outcome_of(refuse, image=True)

    assert outcome == Never("Slack answered 400 invalid_blocks: it does not take this message")
    assert len(seen) == 2


async def test_both_posts_together_are_bounded_by_the_timeout() -> None:
    """The second has what the first left of the time."""

    async def refuse_then_hang(request: Request, connection: Connection) -> None:
        if "image" in [block["type"] for block in json.loads(request.body)["blocks"]]:
            await connection.say(response(400, b"invalid_blocks"))
        else:
            await connection.hang()

    outcome = await outcome_of(refuse_then_hang, image=True, timeout=0.5)

    assert isinstance(outcome, Again)


async def test_the_message_is_json_about_the_verdict() -> None:
    """With a link where the service can be reached from outside."""
    async with WebServer() as server:
        sink = options(server.url).open("https://here.example")
        await sink.send([message()])
        await sink.close()

    [request] = server.requests
    content = json.loads(request.body)
    assert request.headers["content-type"] == "application/json; charset=utf-8"
    assert content["blocks"][0]["text"]["text"] == "Not passed, 70%"
    assert f"https://here.example/v1/verdicts/{evaluation_id(1)}" in request.body.decode()


async def test_an_unreachable_slack_is_told_without_its_address() -> None:
    """Neither host nor path."""
    with nobody_listens() as port:
        sink = options(f"http://127.0.0.1:{port}/services/{PASSWORD}").open(None)
        [outcome] = await sink.send([message()])
        with pytest.raises(SinkError) as caught:
            await sink.check()
        await sink.close()

    assert outcome == Down("Slack: cannot connect: refused")
    assert str(caught.value) == "Slack: cannot connect: refused"


async def test_a_check_says_that_the_webhook_itself_was_not_tried() -> None:
    """Whatever is posted would appear in the channel."""
    async with WebServer() as server:
        sink = options(server.url).open(None)
        found = await sink.check()
        await sink.close()

    assert found == "connected to Slack; nothing was posted, so the webhook itself was not tried"
    assert server.requests == []


def test_one_a_second_and_one_at_a_time_by_default() -> None:
    """Slack's own pace for an incoming webhook, and time for it to fetch the image."""
    given = SlackOptions(name="slack", url="https://hooks.slack.com/services/T/B/x")

    assert (given.rate, given.concurrency, given.timeout) == (1, 1, 20)


def test_the_shortcut_of_the_environment_can_be_built() -> None:
    """As the settings build it for SLACK_WEBHOOK_URL."""
    given = SlackOptions.model_validate(
        {
            "name": "slack",
            "type": "slack",
            "url": "https://hooks.slack.com/services/T/B/x",
            "match": [{"overall_passed": ["false"]}, {"status": "failed"}],
        }
    )

    assert given.match == (Filter(overall_passed=("false",)), Filter(status=("failed",)))


@pytest.mark.parametrize(
    "url", [f"http://hooks.slack.com/services/{PASSWORD}", f"{PASSWORD}", "", f"ftp://127.0.0.1/{PASSWORD}"]
)
def test_an_address_that_is_not_safe_is_refused_and_not_shown(url: str) -> None:
    """The address is a password: https, or this machine."""
    with pytest.raises(ValidationError) as caught:
        options(url)

    assert PASSWORD not in str(caught.value)
