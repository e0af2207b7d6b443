"""`sqs`: what stands in a queue, what each trouble comes to, and which options are taken."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from receiver.sinks.base import Again, Done, Down, Never, Outcome, SinkError
from receiver.sinks.sqs import MOST_BYTES, SqsOptions, SqsSink
from tests.sinks.destinations import PASSWORD
from tests.sinks.messages import evaluation_id, message
from tests.sinks.servers import LONG, Connection, Request, WebServer, answering, nobody_listens, response
from tests.sinks.sqs_side import Queue, SqsServer


@pytest.fixture
def fifo(sqs: SqsServer) -> Iterator[Queue]:
    """A FIFO queue."""
    with sqs.queue(fifo=True) as queue:
        yield queue


@pytest.fixture
def standard(sqs: SqsServer) -> Iterator[Queue]:
    """A standard queue."""
    with sqs.queue() as queue:
        yield queue


async def test_a_message_has_the_envelope_and_attributes_and_the_outcome_its_id(standard: Queue) -> None:
    """In a standard queue."""
    sink = standard.sink()
    [outcome] = await sink.send([message(replay_id="r1")])
    await sink.close()

    [received] = standard.taken_out()
    assert received.body == message(replay_id="r1").cloud_event.decode()
    assert received.attributes == {
        "content-type": "application/cloudevents+json; charset=utf-8",
        "id": f"{message().id}:r1",
        "type": "io.runflow.evaluation.completed",
    }
    assert received.group is None
    assert isinstance(outcome, Done)
    assert len(outcome.remote_id or "") == 36


async def test_characters_that_sqs_does_not_take_are_escaped(standard: Queue) -> None:
    """All others stay as they are."""
    text = "é \x01 \x7f \ufffd \ufffe \uffff 🙂"
    sink = standard.sink()
    await sink.send([message(client_ref=text)])
    await sink.close()

    [received] = standard.taken_out()
    assert json.loads(received.body)["data"]["client_ref"] == text
    assert not re.search("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", received.body)


async def test_a_fifo_queue_drops_repeats_and_keeps_each_evaluation_in_order(fifo: Queue) -> None:
    """By the message's key; the group is the evaluation."""
    sink = fifo.sink()
    for _ in range(3):
        outcomes = await sink.send([message(1), message(1, revision=2), message(2), message(1)])
        assert [type(outcome) for outcome in outcomes] == [Done] * 4
    await sink.close()

    received = fifo.taken_out()
    assert [(each.attributes["id"], each.group) for each in received] == [
        (message(1).key, str(evaluation_id(1))),
        (message(1, revision=2).key, str(evaluation_id(1))),
        (message(2).key, str(evaluation_id(2))),
    ]


async def test_a_standard_queue_drops_no_repeats(standard: Queue) -> None:
    """A consumer can, by the attribute."""
    sink = standard.sink()
    await sink.send([message(), message()])
    await sink.close()

    assert [each.attributes["id"] for each in standard.taken_out()] == [message().key] * 2


async def test_a_message_over_the_limit_is_a_dead_letter_and_the_others_arrive(standard: Queue) -> None:
    """It says its size."""
    sink = standard.sink()
    outcomes = await sink.send([message(1), message(2, generation_prompt="x" * MOST_BYTES), message(3)])
    await sink.close()

    assert [type(outcome) for outcome in outcomes] == [Done, Never, Done]
    assert isinstance(outcomes[1], Never)
    assert outcomes[1].reason.endswith(f" bytes, more than max_bytes = {MOST_BYTES}")
    assert len(standard.taken_out()) == 2


async def test_a_message_over_the_queues_own_limit_is_a_dead_letter_and_the_others_arrive(sqs: SqsServer) -> None:
    """The queue refuses all of a batch for it: each is sent by itself then."""
    with sqs.queue(MaximumMessageSize="8192") as queue:
        sink = queue.sink()
        outcomes = await sink.send([message(1), message(2, generation_prompt="x" * 8192), message(3)])
        await sink.close()

        assert [type(outcome) for outcome in outcomes] == [Done, Never, Done]
        assert {each.attributes["id"] for each in queue.taken_out()} == {message(1).key, message(3).key}


async def test_messages_that_are_too_large_together_go_in_several_requests(standard: Queue) -> None:
    """Ten of a third of the limit each."""
    sink = standard.sink()
    outcomes = await sink.send([message(number, generation_prompt="x" * (MOST_BYTES // 3)) for number in range(10)])
    await sink.close()

    assert [type(outcome) for outcome in outcomes] == [Done] * 10
    assert len(standard.taken_out()) == 10


async def test_a_queue_that_is_not_there_pauses_the_sink_and_is_named(standard: Queue) -> None:
    """By a check as well."""
    standard.remove()
    sink = standard.sink()
    [outcome] = await sink.send([message()])
    with pytest.raises(SinkError) as caught:
        await sink.check()
    await sink.close()

    reason = f"there is no queue {sink._options.queue}"
    assert outcome == Down(reason)
    assert str(caught.value) == reason


async def test_a_check_says_what_the_queue_is(fifo: Queue, standard: Queue) -> None:
    """And with it what becomes of repeats."""
    found = []
    for queue in (fifo, standard):
        sink = queue.sink()
        found.append(await sink.check())
        await sink.close()

    assert "FIFO, drops repeats for 5 minutes; MaximumMessageSize " in found[0]
    assert "standard, does not drop repeats; MaximumMessageSize " in found[1]


async def test_no_credentials_is_down(standard: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is a profile that is not there."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    reasons = []
    for sink in (standard.sink(), standard.sink(profile="nobody")):
        [outcome] = await sink.send([message()])
        assert isinstance(outcome, Down)
        reasons.append(outcome.reason)
        await sink.close()

    assert reasons == [
        "there are no credentials for AWS, or not all that are needed",
        "there is no profile nobody in the configuration of AWS",
    ]


def answer_of(code: str, status: int = 400) -> bytes:
    """An error as SQS answers it (the JSON protocol)."""
    body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": f"secret {PASSWORD}"}).encode()
    return response(status, body, content_type="application/x-amz-json-1.0")


def sink_to(endpoint: str, **changes: Any) -> SqsSink:
    """A sink to a queue there."""
    given = {"name": "it", "queue_url": f"{endpoint}/1/verdicts", "region": "eu-west-1", "endpoint_url": endpoint}
    return SqsSink(SqsOptions.model_validate({**given, "timeout": LONG, **changes}))


@pytest.fixture
async def stage(aws: None) -> Any:
    """A server that a test tells what to say, and a sink to it."""
    async with WebServer() as server:
        sink = sink_to(f"http://127.0.0.1:{server.port}")
        yield server, sink
        await sink.close()


REFUSALS = {
    "AccessDeniedException": "our credentials do not allow it: they need sqs:SendMessage on the queue verdicts",
    "InvalidClientTokenId": "it does not know our credentials",
    "UnrecognizedClientException": "it does not know our credentials",
    "SignatureDoesNotMatch": "it does not know our credentials",
    "ExpiredTokenException": "our credentials have expired, or our clock is wrong",
    "RequestThrottled": "it has had too much",
    "ThrottlingException": "it has had too much",
    "OverLimit": "it has had too much",
    "KmsThrottled": "it has had too much",
    "KmsAccessDenied": "the queue's key in KMS cannot be used, or not by us",
    "QueueDoesNotExist": "there is no queue verdicts",
    "AWS.SimpleQueueService.NonExistentQueue": "there is no queue verdicts",
}


async def test_an_error_that_is_not_the_messages_is_down_and_shows_no_text_of_theirs(stage: Any) -> None:
    """Whichever it is; and the sink goes on."""
    server, sink = stage
    for code, reason in REFUSALS.items():
        server.behaviour = _saying(answer_of(code))
        assert await sink.send([message(1), message(2)]) == [Down(reason)] * 2


async def test_other_errors_are_the_messages_or_may_pass(stage: Any) -> None:
    """By code, else by status."""
    server, sink = stage
    outcomes: list[Outcome] = []
    for code, status in (
        ("InvalidMessageContents", 400),
        ("InternalFailure", 500),
        ("Odd", 400),
        ("ServiceUnavailable", 503),
        ("", 503),
        ("", 429),
    ):
        server.behaviour = _saying(answer_of(code, status))
        outcomes += await sink.send([message()])

    assert [type(outcome) for outcome in outcomes] == [Never, Again, Again, Down, Down, Down]
    assert PASSWORD not in str(outcomes)


async def test_each_message_of_a_batch_has_its_own_outcome(stage: Any) -> None:
    """Taken, refused, throttled, failed, and one of which nothing is said."""
    server, sink = stage
    answer = {
        "Successful": [{"Id": "0", "MessageId": "m0"}],
        "Failed": [
            {"Id": "1", "Code": "InvalidMessageContents", "SenderFault": True},
            {"Id": "2", "Code": "RequestThrottled", "SenderFault": True},
            {"Id": "3", "Code": "InternalError", "SenderFault": False},
        ],
    }
    server.behaviour = answering(200, json.dumps(answer).encode(), content_type="application/x-amz-json-1.0")
    outcomes = await sink.send([message(number) for number in range(5)])

    assert outcomes == [
        Done("m0"),
        Never("InvalidMessageContents: it has characters that SQS does not take"),
        Down("it has had too much"),
        Again("it answered with an error (InternalError)"),
        Again("nothing was said of it"),
    ]


GOOD = answering(
    200, json.dumps({"Successful": [{"Id": "0", "MessageId": "m"}]}).encode(), content_type="application/x-amz-json-1.0"
)


async def test_a_connection_that_is_cut_is_down_and_the_sink_goes_on(stage: Any) -> None:
    """Before an answer, and in the middle of it."""
    server, sink = stage
    outcomes: list[Outcome] = []
    for behaviour in (_cut, _half, GOOD):
        server.behaviour = behaviour
        outcomes += await sink.send([message()])

    assert outcomes == [Down("no connection, or a broken one")] * 2 + [Done("m")]


async def test_no_answer_in_time_is_again_and_the_sink_goes_on(aws: None) -> None:
    """However long it would take."""
    async with WebServer(GOOD) as server:
        sink = sink_to(f"http://127.0.0.1:{server.port}", timeout=0.5)
        await _until_done(sink)  # the client is made by then, which takes its time
        server.behaviour = _silent
        async with asyncio.timeout(LONG):
            [outcome] = await sink.send([message()])
        server.behaviour = GOOD
        await _until_done(sink)
        await sink.close()

    assert outcome == Again("no answer in time")


async def test_what_was_taken_one_by_one_stays_taken_when_the_time_is_up(aws: None) -> None:
    """A batch is refused as a whole, the first of it is taken by itself, and then SQS is silent."""
    async with WebServer(GOOD) as server:
        sink = sink_to(f"http://127.0.0.1:{server.port}", timeout=2)
        await _until_done(sink)
        answers = iter([_saying(answer_of("InvalidMessageContents")), GOOD])

        async def in_turn(request: Request, connection: Connection) -> None:
            await next(answers, _silent)(request, connection)

        server.behaviour = in_turn
        outcomes = await sink.send([message(number) for number in range(3)])
        await sink.close()

    assert outcomes == [Done("m"), *[Again("no answer in time")] * 2]


async def _until_done(sink: SqsSink) -> None:
    async with asyncio.timeout(LONG):
        while not isinstance((await sink.send([message()]))[0], Done):
            pass


async def _cut(_: Request, connection: Connection) -> None:
    connection.reset()


async def _half(_: Request, connection: Connection) -> None:
    await connection.say("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
    connection.reset()


async def _silent(_: Request, connection: Connection) -> None:
    await connection.hang()


def _saying(answer: bytes) -> Any:
    async def say(_: Request, connection: Connection) -> None:
        await connection.say(answer)

    return say


async def test_nobody_there_is_down(aws: None) -> None:
    """By a check as well."""
    with nobody_listens() as port:
        sink = sink_to(f"http://127.0.0.1:{port}")
        outcomes = await sink.send([message(1), message(2)])
        with pytest.raises(SinkError, match="cannot connect: refused"):
            await sink.check()
        await sink.close()

    assert outcomes == [Down("cannot connect: refused")] * 2


@pytest.mark.parametrize(
    ("queue_url", "region"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/verdicts.fifo", "eu-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/verdicts", "cn-north-1"),
        ("https://eu-west-1.queue.amazonaws.com/123456789012/verdicts", "eu-west-1"),
        ("https://queue.amazonaws.com/123456789012/verdicts", "us-east-1"),
        ("http://localhost:4566/000000000000/verdicts", None),
    ],
)
def test_the_region_is_in_the_queues_address(queue_url: str, region: str | None) -> None:
    """Unless it is given, or the address is not of AWS."""
    assert SqsOptions(name="it", queue_url=queue_url).found_region == region
    assert SqsOptions(name="it", queue_url=queue_url, region="us-west-2").found_region == "us-west-2"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"queue_url": "verdicts"}, "must be an http"),
        ({"queue_url": "https://sqs.eu-west-1.amazonaws.com/"}, "queue's name"),
        ({"queue_url": f"https://a:{PASSWORD}@h/1/q"}, "without user and password"),
        ({"endpoint_url": "sqs.local"}, "must be an http"),
        ({"endpoint_url": "http://h:0"}, "must be an http"),
        ({"region": "Frankfurt am Main"}, "pattern"),
        ({"max_bytes": 10}, "1024"),
        ({"max_bytes": MOST_BYTES + 1}, str(MOST_BYTES)),
        ({"access_key": PASSWORD}, "access_key"),
    ],
)
def test_wrong_options_are_refused_without_showing_them(changes: dict[str, object], said: str) -> None:
    """What would be right is said."""
    with pytest.raises(ValidationError) as caught:
        SqsOptions.model_validate({"name": "it", "queue_url": "https://h/1/q", **changes})

    assert said in str(caught.value)
    assert PASSWORD not in str(caught.value)
