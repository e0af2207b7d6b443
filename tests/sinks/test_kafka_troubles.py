"""`kafka`: what each trouble of a cluster comes to, and that the sink goes on by itself when it is over."""

import asyncio
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from receiver.sinks.base import Again, Done, Down, Outcome, SinkError
from receiver.sinks.kafka import KafkaSink
from tests.sinks.destinations import PASSWORD
from tests.sinks.gap import Gap, pass_on
from tests.sinks.kafka_side import NOT_YOUR_CLUSTER, NOT_YOURS, THROTTLED, UNKNOWN_TOPIC, KafkaCluster
from tests.sinks.messages import message
from tests.sinks.servers import LONG, Connection, TcpServer, connected, nobody_listens


async def outcome_of(sink: KafkaSink, number: int = 1) -> Outcome:
    """What one message comes to."""
    async with asyncio.timeout(LONG):
        [outcome] = await sink.send([message(number)])
    return outcome


async def done_in_the_end(sink: KafkaSink, number: int) -> None:
    """Sends it until it is taken, as the pipeline does."""
    async with asyncio.timeout(LONG):
        while not isinstance(await outcome_of(sink, number), Done):
            pass


async def test_a_topic_that_is_not_there_pauses_the_sink_until_it_is(kafka: KafkaCluster) -> None:
    """It is named, by a check as well."""
    topic = kafka.topic()
    kafka.tell("topic-error", topic, UNKNOWN_TOPIC)
    sink = kafka.sink(topic, timeout=1)
    outcome = await outcome_of(sink)
    with pytest.raises(SinkError) as caught:
        await sink.check()
    kafka.tell("topic-error", topic, 0)
    await done_in_the_end(sink, 1)
    await sink.close()

    assert outcome == Down(f"the topic {topic} is not there")
    assert str(caught.value) == f"the topic {topic} is not there"
    assert len(kafka.records(topic)) == 1


async def test_a_topic_that_we_may_not_write_to_pauses_the_sink_until_we_may(kafka: KafkaCluster) -> None:
    """The producer would remember the refusal for minutes: another takes its place."""
    topic = kafka.topic()
    sink = kafka.sink(topic)
    kafka.tell("errors", "Produce", NOT_YOURS)
    refused = await outcome_of(sink)
    await done_in_the_end(sink, 1)
    await sink.close()

    assert refused == Down(f"our user may not write to the topic {topic}, or it is not there")
    assert len(kafka.records(topic)) == 1


async def test_a_user_that_may_not_write_idempotently_pauses_the_sink_until_it_may(kafka: KafkaCluster) -> None:
    """This ends the producer for good: another takes its place."""
    topic = kafka.topic()
    sink = kafka.sink(topic)
    kafka.tell("errors", "InitProducerId", NOT_YOUR_CLUSTER)
    refused = await outcome_of(sink)
    await done_in_the_end(sink, 1)
    await sink.close()

    assert isinstance(refused, Down)
    assert "IDEMPOTENT_WRITE" in refused.reason
    assert len(kafka.records(topic)) == 1


async def test_throttled_is_down(kafka: KafkaCluster) -> None:
    """A quota that is used up; by the way most of them are told, a delay, the client waits by itself."""
    sink = kafka.sink(kafka.topic())
    kafka.tell("errors", "Produce", THROTTLED)
    outcome = await outcome_of(sink)
    await sink.close()

    assert outcome == Down("it has had too much")


async def test_a_broker_that_goes_away_is_down_at_once_and_what_waited_does_not_go_out_later(
    kafka: KafkaCluster,
) -> None:
    """While it is away, and with many under way as it goes; afterwards each message stands there once."""
    topic = kafka.topic()
    sink = kafka.sink(topic)
    await done_in_the_end(sink, 1)
    kafka.tell("down")
    try:
        started = asyncio.get_running_loop().time()
        away = await asyncio.gather(*(outcome_of(sink, number) for number in range(2, 10)))
        away += [await outcome_of(sink, 2)]
        with pytest.raises(SinkError, match="cannot connect: refused"):
            await sink.check()
        took = asyncio.get_running_loop().time() - started
    finally:
        kafka.tell("up")
    await asyncio.gather(*(done_in_the_end(sink, number) for number in range(2, 10)))
    await sink.close()

    assert {type(outcome) for outcome in away} == {Down}
    assert took < LONG  # which one attempt alone may take
    assert sorted(record.headers["id"] for record in kafka.records(topic)) == [
        message(number).key for number in range(1, 10)
    ]


async def test_a_restart_between_two_messages_costs_no_attempt(kafka: KafkaCluster) -> None:
    """The connection is of before the restart: that is noticed, at the latest at the first message."""
    topic = kafka.topic()
    sink = kafka.sink(topic)
    await done_in_the_end(sink, 1)
    kafka.tell("down")
    kafka.tell("up")
    outcome = await outcome_of(sink, 2)
    await done_in_the_end(sink, 3)
    await sink.close()

    assert isinstance(outcome, Done | Down)
    assert len(kafka.records(topic)) == (3 if isinstance(outcome, Done) else 2)


async def test_a_producer_that_is_spent_while_idle_is_closed(kafka: KafkaCluster) -> None:
    """In a thread, by whoever needs a new one: dropped, it would be closed by the event loop."""
    sink = kafka.sink(kafka.topic())
    await done_in_the_end(sink, 1)
    spent = sink._session
    assert spent is not None
    spent._ear.is_lost = True
    await done_in_the_end(sink, 2)
    assert (spent._is_closed, sink._session is not spent) == (True, True)
    await sink.close()


async def test_a_broker_that_hangs_holds_up_no_longer_than_the_timeout(kafka: KafkaCluster) -> None:
    """Again; and once it goes on, so does the sink."""
    topic = kafka.topic()
    sink = kafka.sink(topic, timeout=1)
    await done_in_the_end(sink, 1)
    kafka.tell("slow", 60_000)
    try:
        hanging = await outcome_of(sink, 2)
    finally:
        kafka.tell("slow", 0)
    await done_in_the_end(sink, 3)
    await sink.close()

    assert hanging == Again("no answer in time")
    assert message(3).key in [record.headers["id"] for record in kafka.records(topic)]


async def test_a_sink_that_is_closed_lets_nobody_wait(kafka: KafkaCluster) -> None:
    """What is under way is given up, and does not go out."""
    topic = kafka.topic()
    sink = kafka.sink(topic)
    await done_in_the_end(sink, 1)
    kafka.tell("down")
    try:
        waiting = asyncio.create_task(outcome_of(sink, 2))
        await asyncio.sleep(0)
        await sink.close()
        outcome = await waiting
    finally:
        kafka.tell("up")

    assert isinstance(outcome, Again | Down)
    assert [record.headers["id"] for record in kafka.records(topic)] == [message(1).key]


async def test_nobody_there_is_said_plainly(kafka: KafkaCluster) -> None:
    """A port where nobody is."""
    with nobody_listens() as port:
        sink = kafka.sink("t", bootstrap_servers=f"127.0.0.1:{port}")
        outcome = await outcome_of(sink)
        await sink.close()

    assert outcome == Down("cannot connect: refused")


@pytest.fixture
def own_kafka() -> Iterator[KafkaCluster]:
    """A broker that says that it is to be found elsewhere."""
    cluster = KafkaCluster()
    yield cluster
    cluster.end()


async def test_tls_is_spoken_with_a_certificate_of_ours_and_theirs_is_verified(
    own_kafka: KafkaCluster, authority: trustme.CA, tmp_path: Path
) -> None:
    """Done with the authority's file and our own; without either, Down."""
    topic = own_kafka.topic()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    ours = authority.issue_cert("us.example.org")
    ours.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    ours.private_key_pem.write_to_path(tmp_path / "key.pem")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    ca, ours_too = (
        {"tls_ca": str(tmp_path / "ca.pem")},
        {
            "tls_cert": str(tmp_path / "cert.pem"),
            "tls_key": str(tmp_path / "key.pem"),
        },
    )
    outcomes = []
    async with Gap(own_kafka.port, tls=server) as gap:
        own_kafka.tell("advertise", gap.port)
        for files in ({**ca, **ours_too}, ours_too, ca):
            sink = own_kafka.sink(topic, bootstrap_servers=f"127.0.0.1:{gap.port}", tls=True, **files)
            outcomes.append(await outcome_of(sink))
            await sink.close()

    assert [type(outcome) for outcome in outcomes] == [Done, Down, Down]
    assert outcomes[1] == Down("TLS failed: its certificate is not good, or ours is not")


@pytest.mark.parametrize("option", ["tls_ca", "tls_cert"])
async def test_a_file_that_is_not_there_is_down_and_named(kafka: KafkaCluster, option: str) -> None:
    """By a check as well; it is read at each new connection, so it may come."""
    files = {"tls_cert": "nowhere.pem", "tls_key": "nowhere.pem"} if option == "tls_cert" else {option: "nowhere.pem"}
    sink = kafka.sink("t", tls=True, **files)
    outcome = await outcome_of(sink)
    with pytest.raises(SinkError, match=option):
        await sink.check()
    await sink.close()

    assert isinstance(outcome, Down)
    assert option in outcome.reason


_API_VERSIONS, _SASL_HANDSHAKE, _SASL_AUTHENTICATE = 18, 17, 36


async def gatekeeper(client: Connection, broker: Connection) -> None:
    """Asks for user `app` with password `right` by SASL PLAIN, which the cluster itself does not; then passes on.

    (kafka.apache.org/protocol, the first version of each request)
    """
    while True:
        frame = await _frame(client)
        api, version, number = struct.unpack(">hhi", frame[:8])
        if api == _API_VERSIONS and version > 0:
            await _answer(client, number, struct.pack(">hi", 35, 0))  # to be asked in the first version
        elif api == _API_VERSIONS:
            await broker.say(struct.pack(">i", len(frame)) + frame)
            said = await _frame(broker)
            [count] = struct.unpack(">i", said[6:10])
            more = struct.pack(">hhhhhh", _SASL_HANDSHAKE, 0, 1, _SASL_AUTHENTICATE, 0, 0)
            await _answer(client, number, said[4:6] + struct.pack(">i", count + 2) + said[10:] + more)
        elif api == _SASL_HANDSHAKE:
            await _answer(client, number, struct.pack(">hih", 0, 1, 5) + b"PLAIN")
        elif api == _SASL_AUTHENTICATE:
            good = frame.endswith(b"\0app\0right")
            await _answer(client, number, struct.pack(">hhi", 0 if good else 58, -1, 0))
            if good:
                await pass_on(client, broker)
            return


async def _frame(connection: Connection) -> bytes:
    [length] = struct.unpack(">i", await connection.reader.readexactly(4))
    return await connection.reader.readexactly(length)


async def _answer(connection: Connection, number: int, content: bytes) -> None:
    await connection.say(struct.pack(">ii", 4 + len(content), number) + content)


async def test_user_and_password_are_given_and_wrong_ones_pause_the_sink(own_kafka: KafkaCluster) -> None:
    """By SASL PLAIN. The reason does not show them."""
    topic = own_kafka.topic()

    async def converse(client: Connection) -> None:
        async with connected(own_kafka.port) as broker:
            await gatekeeper(client, broker)

    async with TcpServer(converse) as server:
        own_kafka.tell("advertise", server.port)
        given = {"bootstrap_servers": f"127.0.0.1:{server.port}", "sasl_mechanism": "PLAIN", "username": "app"}
        wrong = own_kafka.sink(topic, password=PASSWORD, **given)
        refused = await outcome_of(wrong)
        assert isinstance(refused, Down)
        with pytest.raises(SinkError) as caught:
            await wrong.check()
        reasons = [refused.reason, str(caught.value)]
        right = own_kafka.sink(topic, password="right", **given)
        taken = await outcome_of(right)
        await wrong.close()
        await right.close()

    assert isinstance(taken, Done)
    assert reasons == ["it does not take our credentials, or not in this way"] * 2
