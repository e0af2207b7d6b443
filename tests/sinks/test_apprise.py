"""`apprise`: what people read, what each trouble comes to, and that no secret of an address is shown anywhere."""

import asyncio
import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from receiver.core.matching import Filter
from receiver.core.verdict import Action, Judge
from receiver.errors import SettingsError
from receiver.sinks.apprise import AppriseOptions, AppriseSink, written
from receiver.sinks.base import Again, Done, Down, Never, Outcome, SinkError
from receiver.sinks.slack_blocks import payload
from tests.sinks.destinations import PASSWORD
from tests.sinks.messages import failed_verdict, full_verdict, message
from tests.sinks.servers import LONG, Connection, Request, WebServer, answering, nobody_listens, until

SECRET_ADDRESSES = (
    f"discord://123456789012345678/{PASSWORD * 4}",
    f"slack://T1JJ3T3L2/A1BRTD4JD/{PASSWORD}{PASSWORD}{PASSWORD}abc",
    f"mailto://user:{PASSWORD}@gmail.com",
    f"tgram://123456789:{PASSWORD}_{PASSWORD}/12315544",
)


def sink_to(address: str, **changes: Any) -> AppriseSink:
    """A sink that leads there."""
    return AppriseSink(AppriseOptions.model_validate({"name": "it", "url": address, "timeout": LONG, **changes}), None)


async def test_title_and_text_say_what_slack_says_without_markup() -> None:
    """Every text of Slack's blocks is there, and the image's address where Slack has a link."""
    verdict = full_verdict()
    title, body = written(verdict, None)

    texts = []
    for block in payload(verdict, public_url=None)["blocks"]:
        parts = [block.get("text"), *block.get("fields", ()), *block.get("elements", ())]
        texts += [part["text"].replace("\n", ": ", 1) if part in block.get("fields", ()) else part["text"]
                  for part in parts if part]  # fmt: skip
    assert texts[0] == title
    assert len(texts) > 8
    assert [text for text in texts[1:] if text not in body and not text.endswith("|The image>")] == []
    assert f"Image: {verdict.generated_image_url}" in body


def test_text_from_runflow_is_shown_as_it_is_but_for_mentions_and_what_is_not_seen() -> None:
    """No entities, no mentions, no controls."""
    _, body = written(full_verdict(client_ref="a & <b> @everyone \u202e\x07", top_issues=[]), None)

    assert "Client reference: a & <b> @\u200beveryone\n" in body


def test_a_failure_and_a_link() -> None:
    """From the callback alone; an image whose address is not https is left out."""
    title, body = written(failed_verdict(generated_image_url="data:image/png;base64,AA"), "https://r.example.org/")

    assert title.startswith("Evaluation failed")
    assert "Image:" not in body
    assert body.endswith(
        f"The whole verdict (asks for a token): https://r.example.org/v1/verdicts/{failed_verdict().evaluation_id}"
    )


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"overall_passed": True}, "success"),
        ({"overall_passed": False}, "failure"),
        ({"overall_passed": None}, "info"),
        ({"event": "evaluation.failed"}, "warning"),
    ],
)
async def test_the_service_is_told_how_it_went(changes: dict[str, Any], kind: str) -> None:
    """For its colours and symbols."""
    async with WebServer() as server:
        await sink_to(f"json://127.0.0.1:{server.port}").send([message(**changes)])

    assert json.loads(server.requests[0].body)["type"] == kind


@pytest.mark.parametrize(
    "address",
    [
        "json://127.0.0.1:{}/",
        "xml://127.0.0.1:{}/",
        "form://127.0.0.1:{}/",
        "gotify://127.0.0.1:{}/token123456",
        "ntfy://127.0.0.1:{}/topic",
        "mmost://127.0.0.1:{}/token1234",
        "apprise://127.0.0.1:{}/token",
    ],
)
async def test_services_of_many_kinds_are_given_the_text(address: str) -> None:
    """Each in its own way."""
    async with WebServer() as server:
        [outcome] = await sink_to(address.format(server.port)).send([message(client_ref="order-1")])

    assert outcome == Done()
    assert b"order-1" in server.requests[-1].body


async def test_a_text_that_is_too_long_is_cut_rather_than_refused() -> None:
    """Unless the address says otherwise."""
    judges = [Judge(name="j", passed=False, reasoning="x" * 900)] * 5
    long = message(judges=judges, action=Action(improved_prompt="y" * 3000))
    async with WebServer() as server:
        await sink_to(f"gotify://127.0.0.1:{server.port}/token123456").send([long])
        assert len(server.requests) == 1
        await sink_to(f"mmost://127.0.0.1:{server.port}/token1234").send([long])
        assert len(server.requests) == 2
        await sink_to(f"mmost://127.0.0.1:{server.port}/token1234?overflow=split").send([long])
        assert len(server.requests) > 3


STATUSES = {
    400: Never,
    401: Down,
    403: Down,
    404: Down,
    410: Down,
    429: Down,
    302: Down,
    408: Again,
    500: Again,
    503: Again,
}


async def test_what_a_service_answers_decides_and_the_service_is_named() -> None:
    """As for `http`; a service whose name is not the address's word."""
    async with WebServer() as server:
        sink = sink_to(f"json://127.0.0.1:{server.port}")
        outcomes: list[Outcome] = []
        for status in STATUSES:
            server.behaviour = answering(status)
            outcomes += await sink.send([message()])
        gotify = sink_to(f"gotify://127.0.0.1:{server.port}/token123456")
        server.behaviour = answering(401)
        [refused] = await gotify.send([message()])

    assert [type(outcome) for outcome in outcomes] == list(STATUSES.values())
    assert outcomes[1] == Down("JSON: answered 401: it does not know our credentials")
    assert refused == Down("Gotify: answered 401: it does not know our credentials")


async def test_a_service_that_is_silent_or_cuts_is_bounded_and_the_sink_goes_on() -> None:
    """No answer in time is again; a broken connection is down."""

    async def silent(_: Request, connection: Connection) -> None:
        await connection.hang()

    async def cut(_: Request, connection: Connection) -> None:
        connection.reset()

    async with WebServer() as server:
        sink = sink_to(f"json://127.0.0.1:{server.port}", timeout=0.5)
        outcomes: list[Outcome] = []
        for behaviour in (silent, cut, answering()):
            server.behaviour = behaviour
            async with asyncio.timeout(LONG):
                outcomes += await sink.send([message()])

    assert outcomes == [Again("JSON: no answer in time"), Down("JSON: no connection, or a broken one"), Done()]


async def test_a_service_that_is_silent_holds_up_no_end_of_the_process() -> None:
    """Nobody waits for a thread that waits for an answer."""

    async def silent(_: Request, connection: Connection) -> None:
        await connection.hang()

    async with WebServer(silent) as server:
        attempt = asyncio.create_task(sink_to(f"json://127.0.0.1:{server.port}").send([message()]))
        await until(lambda: bool(server.requests))
        attempt.cancel()
        await asyncio.gather(attempt, return_exceptions=True)
        assert [each for each in threading.enumerate() if each.name == "apprise" and not each.daemon] == []
        assert [each for each in threading.enumerate() if each.name == "apprise"] != []


async def test_a_check_connects_where_it_can_and_sends_nothing() -> None:
    """Where it cannot, it says so."""
    async with WebServer() as server:
        found = await sink_to(f"json://127.0.0.1:{server.port}").check()
    with nobody_listens() as port, pytest.raises(SinkError, match="JSON: cannot connect: refused"):
        await sink_to(f"json://127.0.0.1:{port}").check()

    assert found == "connected to JSON; nothing was sent, so the address itself was not tried"
    assert server.requests == []
    assert "cannot be tried without a message" in await sink_to("mailto://user:pass@gmail.com").check()


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """All that reaches the root's handlers, at every level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    monkeypatch.setattr(logging.getLogger(), "level", 1)
    monkeypatch.setattr(logging.getLogger("apprise"), "level", 1)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("address", SECRET_ADDRESSES)
async def test_no_secret_of_an_address_is_shown_or_logged(address: str, logged: io.StringIO) -> None:
    """Not by Apprise either, whatever the level; nor where the address is wrong."""
    options = AppriseOptions(name="it", url=address)
    sink = sink_to(address)
    with pytest.raises(SettingsError) as caught:
        sink_to(address.partition("://")[0] + f"://{PASSWORD}:{PASSWORD}")
    logging.getLogger("another").info("is heard")

    assert "is heard" in logged.getvalue()
    shown = [repr(options), options.model_dump_json(), repr(sink), str(caught.value), logged.getvalue()]
    assert [text for text in shown if PASSWORD in text] == []


@pytest.mark.parametrize("address", [f"nothing-like-it-{PASSWORD}", "", "discord://", f"no such: //{PASSWORD}"])
def test_what_is_no_address_is_refused_without_showing_it(address: str) -> None:
    """By the options."""
    with pytest.raises(ValidationError) as caught:
        AppriseOptions(name="it", url=address)

    assert "one address of Apprise's" in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_an_address_that_apprise_does_not_know_is_a_wrong_setting() -> None:
    """One line, with the sink's name."""
    with pytest.raises(SettingsError) as caught:
        sink_to(f"unknown://{PASSWORD}")

    assert str(caught.value) == "sink it: url is no address that Apprise can use: see appriseit.com/services"


def test_an_address_with_several_recipients_is_a_wrong_setting() -> None:
    """Where one refuses, each retry would go to the others again."""
    with pytest.raises(SettingsError) as caught:
        sink_to(f"tgram://123456789:{PASSWORD}abcdefghijklmnopqrstuvwxyz/1111/2222")

    assert str(caught.value) == "sink it: url names several recipients: give each of them a sink of its own"


def test_it_is_slow_by_default() -> None:
    """Most services take about a message a second."""
    options = AppriseOptions(name="it", url="json://h", match=(Filter(overall_passed=["false"]),))

    assert (options.rate, options.concurrency, options.timeout) == (1, 1, 20)
