"""`POST /slack/interactions`: only what Slack signed is believed, and a click is stored before it is answered."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from receiver.sinks.slack_blocks import payload
from receiver.sinks.slack_buttons import rating_blocks
from receiver.store.tables import ratings
from receiver.web import slack
from tests.sinks.messages import evaluation_id, full_verdict
from tests.sinks.slack_side import CHANNEL, Posted, click, signed_by_slack
from tests.web.logged import Lines
from tests.web.receivers import Receiver, serving, settings_for
from tests.web.wire import Answer, Header

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
POSTED = Posted(
    "1700000000.000100", payload(full_verdict(), public_url=None, more=rating_blocks(full_verdict(), "out", []))
)
FORM = ("Content-Type", "application/x-www-form-urlencoded")


@pytest.fixture
async def receiver(database: str, tmp_path: Path, lines: Lines) -> AsyncIterator[Receiver]:
    """One that knows the signing secret, on each kind of database."""
    async with serving(settings_for(database, tmp_path, SLACK_SIGNING_SECRET=SECRET)) as running:
        yield running
    assert SECRET not in lines.text


@pytest.fixture
async def on_sqlite(sqlite: str, tmp_path: Path, lines: Lines) -> AsyncIterator[Receiver]:
    """The same on SQLite alone."""
    async with serving(settings_for(sqlite, tmp_path, SLACK_SIGNING_SECRET=SECRET)) as running:
        yield running


def now() -> float:
    return datetime.now(UTC).timestamp()


async def post(receiver: Receiver, body: bytes, *more: Header, at: float | None = None) -> Answer:
    """As Slack posts it; with other headers if they are given."""
    headers = more or [*signed_by_slack(body, SECRET, now() if at is None else at).items()]
    return await receiver.ask("POST", slack.PATH, [FORM, *headers], body)


async def test_a_click_is_stored_and_answered(receiver: Receiver) -> None:
    """200 without a body: Slack shows nothing, and the message is changed later."""
    at = now()
    answer = await post(receiver, click(POSTED, "rate_down", person="U0ANNA", at=at))

    assert (answer.status, answer.body) == (200, b"")
    [row] = await receiver.rows(ratings)
    assert (row.evaluation_id, row.revision, row.person) == (evaluation_id(1), 1, "U0ANNA")
    assert (row.is_positive, row.sink, row.place, row.state) == (False, "out", f"{CHANNEL}:{POSTED.ts}", "due")
    assert abs(row.clicked_at.timestamp() - at) < 1e-5
    assert receiver.service._bells.rings["ratings"] == 1


async def test_the_same_click_again_is_harmless(receiver: Receiver) -> None:
    """One row, of the newest click."""
    first, second = now() - 2, now() - 1
    for action, at in (("rate_up", first), ("rate_up", first), ("rate_down", second), ("rate_up", first)):
        assert (await post(receiver, click(POSTED, action, at=at))).status == 200
    assert [row.is_positive for row in await receiver.rows(ratings)] == [False]


@pytest.mark.parametrize("wrong", ["secret", "body", "old", "early", "none", "twice", "time", "bytes", "number"])
async def test_what_slack_did_not_sign_is_turned_away(on_sqlite: Receiver, wrong: str) -> None:
    """401 and nothing stored, whatever is wrong with it."""
    body = click(POSTED, "rate_up", at=now())
    good = signed_by_slack(body, SECRET, now())
    time, signature = good["X-Slack-Request-Timestamp"], good["X-Slack-Signature"]
    headers: list[Header] = {
        "secret": [*signed_by_slack(body, "another", now()).items()],
        "body": [*signed_by_slack(body + b" ", SECRET, now()).items()],
        "old": [*signed_by_slack(body, SECRET, now() - 301).items()],
        "early": [*signed_by_slack(body, SECRET, now() + 310).items()],
        "none": [("X-Other", "1")],
        "twice": [*good.items(), *good.items()],
        "time": [("X-Slack-Request-Timestamp", str(int(time) + 1)), ("X-Slack-Signature", signature)],
        "bytes": [("X-Slack-Request-Timestamp", time), ("X-Slack-Signature", "v0=é")],
        "number": [("X-Slack-Request-Timestamp", "yesterday"), ("X-Slack-Signature", signature)],
    }[wrong]
    answer = await post(on_sqlite, body, *headers)

    assert (answer.status, answer.json["code"]) == (401, "UNAUTHORIZED")
    assert await on_sqlite.count(ratings) == 0


def changed(**changes: Any) -> bytes:
    """A payload with other parts."""
    content = {
        "type": "block_actions",
        "user": {"id": "U0ANNA"},
        "container": {"channel_id": CHANNEL, "message_ts": POSTED.ts},
        "actions": [
            {"action_id": "rate_up", "value": f"{evaluation_id(1)}:1:out", "action_ts": "1700000000.000001"},
        ],
    }
    return urlencode({"payload": json.dumps(content | changes)}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"payload=",
        b"payload={}&payload={}",
        b"payload=[]",
        b"payload=%ff",
        b"other=1",
        b"&" * 100,
        b"payload=" + b"[" * 100_000,
        changed(user={"id": "U1> <!channel>"}),
        changed(user=None),
        changed(container={"channel_id": CHANNEL}),
        changed(container={"channel_id": "C1", "message_ts": "1"}),
        changed(actions=[{"action_id": "rate_up", "value": "x", "action_ts": "1.000001"}]),
        changed(actions=[{"action_id": "rate_up", "value": f"{evaluation_id(1)}:1:OUT", "action_ts": "1.000001"}]),
        changed(actions=[{"action_id": "rate_up", "value": f"{evaluation_id(1)}:1:out", "action_ts": "nan"}]),
    ],
)
async def test_what_is_not_understood_is_told(on_sqlite: Receiver, body: bytes) -> None:
    """Signed, and all the same none of our clicks: 422 in the shape of every error."""
    answer = await post(on_sqlite, body)

    assert (answer.status, answer.json["code"]) == (422, "VALIDATION_ERROR")
    assert answer.json["errors"]
    assert await on_sqlite.count(ratings) == 0


@pytest.mark.parametrize(
    "body",
    [
        changed(type="view_submission"),
        changed(type="shortcut"),
        changed(actions=[]),
        changed(actions=[{"action_id": "of-another-button"}, 7, None]),
        changed(actions={"action_id": "rate_up"}),
    ],
)
async def test_what_concerns_us_not_is_answered_and_passed_over(on_sqlite: Receiver, body: bytes) -> None:
    """Other things that an app is sent."""
    assert (await post(on_sqlite, body)).status == 200
    assert await on_sqlite.count(ratings) == 0


async def test_a_body_over_the_limit(on_sqlite: Receiver) -> None:
    """413 before anything is read of it."""
    assert (await post(on_sqlite, b"x" * (slack.MOST_BYTES + 1))).status == 413


async def test_a_click_that_cannot_be_stored_in_time_is_refused(
    on_sqlite: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 within Slack's three seconds, so that the person sees that it did not count."""
    never = asyncio.Event()

    async def hangs(*_: object) -> None:
        await never.wait()

    monkeypatch.setattr(slack, "LONGEST", 0.05)
    monkeypatch.setattr(on_sqlite.service.database, "write", hangs)
    answer = await post(on_sqlite, click(POSTED, "rate_up", at=now()))

    assert (answer.status, answer.json["code"]) == (503, "UNAVAILABLE")


async def test_without_the_secret_nobody_is_believed(sqlite: str, tmp_path: Path) -> None:
    """401 that says why, until a reload brings the secret; 405 for other methods."""
    async with serving(settings_for(sqlite, tmp_path)) as running:
        answer = await post(running, click(POSTED, "rate_up", at=now()))
        assert (answer.status, answer.json["message"]) == (
            401,
            "no click is believed here: SLACK_SIGNING_SECRET is not set",
        )
        await running.service.reload(settings_for(sqlite, tmp_path, SLACK_SIGNING_SECRET=SECRET))
        assert (await post(running, click(POSTED, "rate_up", at=now()))).status == 200
        assert (await running.ask("GET", slack.PATH)).status == 405
