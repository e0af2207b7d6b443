"""`kafka`: what stands in the topic, what becomes of repeats, and which options are taken."""

import asyncio
import json

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event
from pydantic import ValidationError

from receiver.sinks.base import Again, Done, Never, Outcome, SinkError
from receiver.sinks.kafka import KafkaOptions
from tests.sinks.destinations import PASSWORD
from tests.sinks.kafka_side import BAD_RECORD, ODD, TOO_LARGE, KafkaCluster
from tests.sinks.messages import evaluation_id, message


async def test_a_record_is_keyed_by_its_evaluation_and_holds_the_envelope(kafka: KafkaCluster) -> None:
    """The outcome says where it stands."""
    topic = kafka.topic()
    sink = kafka.sink(topic)
    outcomes = await sink.send([message(1), message(2, replay_id="r1")])
    await sink.close()

    first, second = kafka.records(topic)
    assert outcomes == [Done(f"{topic}[0]@0"), Done(f"{topic}[0]@1")]
    assert first.key == str(evaluation_id(1))
    assert first.value == message(1).cloud_event
    assert first.headers == {
        "content-type": "application/cloudevents+json; charset=utf-8",
        "id": message(1).key,
        "type": "io.runflow.evaluation.completed",
    }
    assert second.headers["id"] == f"{message(2).id}:r1"


async def test_the_librarys_own_reader_finds_the_same_event_in_both_modes(kafka: KafkaCluster) -> None:
    """Whichever way it is written; the reader adds the key as an attribute."""
    topic = kafka.topic()
    sent = message(1, client_ref="é ﷽ \n")
    for mode in ("structured", "binary"):
        sink = kafka.sink(topic, mode=mode)
        await sink.send([sent])
        await sink.close()

    structured, binary = kafka.records(topic)
    assert "ce_id" not in structured.headers
    assert "ce_id" in binary.headers
    for record in (structured, binary):
        headers = {name: value.encode() for name, value in record.headers.items()}
        event = from_kafka_event(KafkaMessage(headers, record.key, record.value))
        texts = {name: str(value) for name, value in event.get_attributes().items()}
        assert texts.pop("partitionkey") == str(evaluation_id(1))
        assert texts.pop("time") == str(sent.verdict.completed_at)
        assert texts == {name: text for name, text in sent.attributes.items() if name != "time"}
        assert event.get_data() == sent.verdict.model_dump(mode="json")


async def test_a_message_that_is_sent_twice_stands_there_twice_with_one_id(kafka: KafkaCluster) -> None:
    """As the page says: a consumer drops repeats, by the header."""
    topic = kafka.topic()
    sink = kafka.sink(topic)
    await sink.send([message()])
    await sink.send([message()])
    await sink.close()

    assert [record.headers["id"] for record in kafka.records(topic)] == [message().key] * 2


async def test_a_message_over_max_bytes_is_a_dead_letter_and_the_others_arrive(kafka: KafkaCluster) -> None:
    """It says its size."""
    topic = kafka.topic()
    sink = kafka.sink(topic, max_bytes=10_000)
    large = message(2, generation_prompt="x" * 10_000)
    outcomes = await sink.send([message(1), large, message(3)])
    await sink.close()

    assert outcomes[1] == Never(
        f"the message has {len(large.cloud_event)} bytes, more than max_bytes or the topic's max.message.bytes"
    )
    assert [record.key for record in kafka.records(topic)] == [str(evaluation_id(1)), str(evaluation_id(3))]


async def test_what_the_broker_does_not_take_is_a_dead_letter_and_an_odd_error_is_tried_again(
    kafka: KafkaCluster,
) -> None:
    """Each is named, and the sink goes on."""
    topic = kafka.topic()
    sink = kafka.sink(topic)
    outcomes: list[Outcome] = []
    for error in (TOO_LARGE, BAD_RECORD, ODD):
        kafka.tell("errors", "Produce", error)
        outcomes += await sink.send([message()])
    [good] = await sink.send([message()])
    await sink.close()

    size = len(message().cloud_event)
    assert outcomes == [
        Never(f"the message has {size} bytes, more than max_bytes or the topic's max.message.bytes"),
        Never("INVALID_RECORD: the topic does not take it"),
        Again("it answered with an error (INVALID_REQUEST)"),
    ]
    assert isinstance(good, Done)


async def test_what_is_too_large_spoils_nothing_beside_it(kafka: KafkaCluster) -> None:
    """A broker refuses what was sent as one as a whole: a large message is sent by itself."""
    sink = kafka.sink(kafka.topic())
    await sink.send([message(1)])
    kafka.tell("errors", "Produce", TOO_LARGE)
    outcomes = await sink.send([message(1, generation_prompt="x" * 70_000), *(message(n) for n in range(2, 9))])
    await sink.close()

    assert [type(outcome) for outcome in outcomes] == [Never] + [Done] * 7


async def test_a_check_names_the_topic(kafka: KafkaCluster) -> None:
    """With how many partitions it has."""
    topic = kafka.topic()
    sink = kafka.sink(topic)

    assert await sink.check() == f"answers; the topic {topic} has 1 partition; whether we may write was not tried"
    await sink.close()


async def test_a_check_does_not_make_the_topic(kafka: KafkaCluster) -> None:
    """Where a broker makes one for whoever asks to write."""
    sink = kafka.sink("not.made")
    for _ in range(2):
        with pytest.raises(SinkError, match=r"the topic not\.made is not there"):
            await sink.check()
    await sink.close()


async def test_compressed_messages_are_read_as_they_were(kafka: KafkaCluster) -> None:
    """By every consumer, whichever way it is."""
    topic = kafka.topic()
    sinks = [kafka.sink(topic, compression=each) for each in ("gzip", "snappy", "lz4", "zstd")]
    await asyncio.gather(*(sink.send([message()]) for sink in sinks))
    await asyncio.gather(*(sink.close() for sink in sinks))

    assert {json.loads(record.value)["id"] for record in kafka.records(topic)} == {message().id}
    assert len(kafka.records(topic)) == 4


GIVEN = {"name": "it", "bootstrap_servers": "a.example.org:9092, b.example.org", "topic": "runflow.verdicts"}
SASL = {"sasl_mechanism": "SCRAM-SHA-512", "username": "app", "password": PASSWORD}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bootstrap_servers": "[::1]:9092"},
        {"bootstrap_servers": "127.0.0.1"},
        {"tls": True},
        {"tls": True, "tls_ca": "ca.pem"},
        {"tls": True, "tls_cert": "c.pem", "tls_key": "k.pem"},
        SASL,
        {**SASL, "tls": True, "mode": "binary", "compression": "zstd", "max_bytes": 10_000_000},
    ],
)
def test_good_options_are_taken(changes: dict[str, object]) -> None:
    """As Kafka's users write them."""
    assert KafkaOptions.model_validate({**GIVEN, **changes}).topic == "runflow.verdicts"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bootstrap_servers": ""}, "must be host"),
        ({"bootstrap_servers": "kafka://a:9092"}, "without a scheme"),
        ({"bootstrap_servers": f"app:{PASSWORD}@a:9092"}, "without a password"),
        ({"bootstrap_servers": "a:0"}, "must be host"),
        ({"bootstrap_servers": "a:99999"}, "must be host"),
        ({"bootstrap_servers": "a,,b"}, "must be host"),
        ({"topic": "a b"}, "pattern"),
        ({"topic": "a" * 250}, "pattern"),
        ({"mode": "other"}, "structured"),
        ({"compression": "rar"}, "gzip"),
        ({"max_bytes": 10}, "1000"),
        ({"tls_ca": "ca.pem"}, "tls = true"),
        ({"tls": True, "tls_key": "k.pem"}, "tls_cert, which is not given"),
        ({"sasl_mechanism": "PLAIN"}, "go together"),
        ({"username": "app", "password": PASSWORD}, "go together"),
        ({**SASL, "sasl_mechanism": "GSSAPI"}, "PLAIN"),
    ],
)
def test_wrong_options_are_refused_without_showing_them(changes: dict[str, object], said: str) -> None:
    """What would be right is said."""
    with pytest.raises(ValidationError) as caught:
        KafkaOptions.model_validate({**GIVEN, **changes})

    assert said in str(caught.value)
    assert PASSWORD not in str(caught.value)
