"""`redis`: what stands in the stream, how repeats are dropped, and what each trouble of a server comes to."""

import asyncio
import json
import signal
import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import ValidationError
from redis.asyncio import Redis

from receiver.sinks.base import Again, Done, Down, Outcome, SinkError
from receiver.sinks.redis import RedisOptions, RedisSink
from tests.sinks.destinations import PASSWORD
from tests.sinks.messages import evaluation_id, message
from tests.sinks.servers import LONG, Connection, RedisServer, TcpServer

STREAM = "runflow.verdicts"


def sink_to(url: str, **changes: Any) -> RedisSink:
    """A sink that adds to a stream there."""
    return RedisSink(
        RedisOptions.model_validate({"name": "it", "url": url, "stream": STREAM, "timeout": LONG, **changes})
    )


@asynccontextmanager
async def redis_at(url: str) -> AsyncIterator[Any]:
    """A client of the test's own; typed loosely, as the library types what it answers."""
    async with Redis.from_url(url, decode_responses=True) as client:
        yield client


async def ids(url: str, stream: str = STREAM) -> list[str]:
    """The `id` of each entry of the stream."""
    async with redis_at(url) as client:
        return [fields["id"] for _, fields in await client.xrange(stream)]


@pytest.fixture
async def stream(redis_url: str) -> AsyncIterator[str]:
    """A stream that nobody else uses, on the shared server."""
    name = f"test.{uuid.uuid4()}"
    yield name
    async with redis_at(redis_url) as client:
        await client.delete(name, *[key async for key in client.scan_iter(f"{{{name}}}:seen:*")])


async def test_an_entry_has_key_type_and_envelope(redis_url: str, stream: str) -> None:
    """Three fields; the outcome names the entry."""
    sink = sink_to(redis_url, stream=stream)
    [outcome] = await sink.send([message(revision=2, replay_id="r1")])
    await sink.close()

    sent = message(revision=2, replay_id="r1")
    async with redis_at(redis_url) as client:
        [(entry, fields)] = await client.xrange(stream)
    assert outcome == Done(entry)
    assert fields == {
        "id": f"{sent.id}:r1",
        "type": "io.runflow.evaluation.revised",
        "event": sent.cloud_event.decode(),
    }


async def test_a_repeat_from_another_process_adds_nothing(redis_url: str, stream: str) -> None:
    """50 senders of one message at once: one entry, and all are told its id."""
    sinks = [sink_to(redis_url, stream=stream) for _ in range(50)]
    outcomes = [outcome for [outcome] in await asyncio.gather(*(sink.send([message()]) for sink in sinks))]
    for sink in sinks:
        await sink.close()

    assert await ids(redis_url, stream) == [message().key]
    assert len(set(outcomes)) == 1
    assert isinstance(outcomes[0], Done)


async def test_a_message_is_remembered_as_long_as_is_set(redis_url: str, stream: str) -> None:
    """The key that remembers shares the stream's hash slot, holds the entry's id, and ends by itself."""
    sink = sink_to(redis_url, stream=stream, remember=1234)
    [outcome] = await sink.send([message()])
    await sink.close()

    remembering = f"{{{stream}}}:seen:{message().key}"
    async with redis_at(redis_url) as client:
        assert outcome == Done(await client.get(remembering))
        assert 1200 < await client.ttl(remembering) <= 1234
        await client.delete(remembering)


async def test_a_message_that_is_forgotten_is_added_again(redis_url: str, stream: str) -> None:
    """After that time a repeat is an entry of its own."""
    sink = sink_to(redis_url, stream=stream)
    await sink.send([message()])
    async with redis_at(redis_url) as client:
        await client.delete(f"{{{stream}}}:seen:{message().key}")
    await sink.send([message()])
    await sink.close()

    assert await ids(redis_url, stream) == [message().key] * 2


@pytest.mark.parametrize(("maxlen", "kept"), [(None, range(250, 251)), (100, range(100, 250))])
async def test_the_stream_is_trimmed_where_a_length_is_set(
    redis_url: str, stream: str, maxlen: int | None, kept: range
) -> None:
    """About so many entries, the newest; Redis drops whole nodes of 100."""
    sink = sink_to(redis_url, stream=stream, maxlen=maxlen)
    for start in range(1, 251, 50):
        await sink.send([message(number) for number in range(start, start + 50)])
    await sink.close()

    found = await ids(redis_url, stream)
    assert len(found) in kept
    assert found[-1] == message(250).key


async def test_a_key_of_another_type_is_down_and_left_alone(redis_url: str, stream: str) -> None:
    """For the outcome and for the check; and once it has gone, the same message is added."""
    sink = sink_to(redis_url, stream=stream)
    async with redis_at(redis_url) as client:
        await client.set(stream, "text")
        outcomes = await sink.send([message(1), message(2)])
        with pytest.raises(SinkError, match=f"the key {stream} holds a string, not a stream"):
            await sink.check()
        assert await client.getdel(stream) == "text"
    again = await sink.send([message(1), message(2)])
    await sink.close()

    assert [type(outcome) for outcome in outcomes] == [Down, Down]
    assert isinstance(outcomes[0], Down)
    assert outcomes[0].reason.startswith("WRONGTYPE")
    assert [type(outcome) for outcome in again] == [Done, Done]


async def test_one_bad_message_does_not_spoil_a_batch(redis_url: str, stream: str) -> None:
    """Each message of a batch has an outcome of its own."""
    sink = sink_to(redis_url, stream=stream)
    async with redis_at(redis_url) as client:
        await client.lpush(f"{{{stream}}}:seen:{message(2).key}", "in the way")
        outcomes = await sink.send([message(1), message(2), message(3)])
    await sink.close()

    assert [type(outcome) for outcome in outcomes] == [Done, Down, Done]
    assert await ids(redis_url, stream) == [message(1).key, message(3).key]


async def test_a_stream_that_can_take_no_more_ids_is_told(redis_url: str, stream: str) -> None:
    """An error without a code that we know comes again, and what failed is not remembered as done."""
    sink = sink_to(redis_url, stream=stream)
    async with redis_at(redis_url) as client:
        await client.xadd(stream, {"a": "b"}, id=f"{2**64 - 1}-{2**64 - 1}")
        [outcome] = await sink.send([message()])
        await client.delete(stream)
    [again] = await sink.send([message()])
    await sink.close()

    assert outcome == Again("it answered with an error (ERR)")
    assert isinstance(again, Done)


async def test_a_check_says_whether_the_stream_is_there(redis_url: str, stream: str) -> None:
    """And makes nothing."""
    sink = sink_to(redis_url, stream=stream)
    found = [await sink.check()]
    await sink.send([message()])
    found.append(await sink.check())
    await sink.close()

    assert found == [f"answers; the stream {stream} is not there yet", f"answers; the stream {stream} is there"]


async def test_it_goes_on_by_itself_after_a_restart(own_redis: RedisServer) -> None:
    """SIGKILL and start again: Down while it is away, then Done on the connection's successor, and repeats still dropped."""
    await own_redis.start()
    sink = sink_to(own_redis.url)
    before = await sink.send([message(1)])
    own_redis.kill()
    away = await sink.send([message(2)])
    await own_redis.start()
    after = await sink.send([message(2), message(1)])
    await sink.close()

    assert away == [Down("no connection, or a broken one")]
    assert [type(outcome) for outcome in after] == [Done, Done]
    assert after[1] == before[0]
    assert await ids(own_redis.url) == [message(1).key, message(2).key]


async def test_a_restart_between_two_messages_costs_no_attempt(own_redis: RedisServer) -> None:
    """The pooled connection is of before the restart: that is noticed, and the message goes on a new one."""
    await own_redis.start()
    sink = sink_to(own_redis.url)
    await asyncio.gather(*(sink.send([message(number)]) for number in range(1, 6)))
    own_redis.kill()
    await own_redis.start()
    outcomes = await asyncio.gather(*(sink.send([message(number)]) for number in range(6, 11)))
    await sink.close()

    assert [type(outcome) for [outcome] in outcomes] == [Done] * 5
    assert len(await ids(own_redis.url)) == 10


async def test_under_load_through_restarts_every_message_arrives_once(own_redis: RedisServer) -> None:
    """Killed and started again in the middle of batches: in the end each message is there, and none twice."""
    await own_redis.start()
    sink = sink_to(own_redis.url)
    numbers = list(range(1, 401))

    async def send_until_done(batch: list[int]) -> None:
        while batch:
            outcomes = await sink.send([message(number) for number in batch])
            batch = [number for number, outcome in zip(batch, outcomes, strict=True) if not isinstance(outcome, Done)]

    async with asyncio.timeout(2 * LONG), asyncio.TaskGroup() as group:
        for start in range(0, 400, 20):
            group.create_task(send_until_done(numbers[start : start + 20]))
        for _ in range(3):
            own_redis.kill()
            await own_redis.start()
    await sink.close()

    found = await ids(own_redis.url)
    assert sorted(found) == sorted(message(number).key for number in numbers)


async def test_a_server_that_hangs_holds_up_no_longer_than_the_timeout(own_redis: RedisServer) -> None:
    """Stopped in the middle: again; and once it goes on, a late answer is not taken for another's."""
    await own_redis.start()
    sink = sink_to(own_redis.url, timeout=0.5)
    await sink.send([message(1)])
    own_redis.signal(signal.SIGSTOP)
    hanging = await sink.send([message(2)])
    with pytest.raises(SinkError, match="no answer in time"):
        await sink.check()
    own_redis.signal(signal.SIGCONT)
    await sink.close()
    patient = sink_to(own_redis.url)
    after = await patient.send([message(3), message(2)])
    await patient.close()

    assert hanging == [Again("no answer in time")]
    assert [type(outcome) for outcome in after] == [Done, Done]
    async with redis_at(own_redis.url) as client:
        entries = {fields["id"]: entry for entry, fields in await client.xrange(STREAM)}
    assert after == [Done(entries[message(3).key]), Done(entries[message(2).key])]


async def test_the_same_sink_goes_on_after_a_hang(own_redis: RedisServer) -> None:
    """The connection that hung is given up, with those that lay idle beside it."""
    await own_redis.start()
    sink = sink_to(own_redis.url, timeout=2)
    await asyncio.gather(*(sink.send([message(number)]) for number in range(1, 4)))
    own_redis.signal(signal.SIGSTOP)
    hanging = await sink.send([message(4)])
    own_redis.signal(signal.SIGCONT)
    async with asyncio.timeout(LONG):
        while not isinstance((await sink.send([message(5)]))[0], Done):
            pass
    await sink.close()

    assert hanging == [Again("no answer in time")]
    assert message(5).key in await ids(own_redis.url)


async def outcome_of_a_server_that(converse: Any, **changes: Any) -> Outcome:
    """What one message comes to at a server that is no Redis, or behaves badly."""
    async with asyncio.timeout(LONG), TcpServer(converse) as server:
        sink = sink_to(f"redis://127.0.0.1:{server.port}/0", **changes)
        [outcome] = await sink.send([message()])
        await sink.close()
    return outcome


async def test_a_server_that_accepts_and_says_nothing_is_bounded() -> None:
    """No greeting, no answer: the timeout ends it."""
    assert await outcome_of_a_server_that(Connection.hang, timeout=0.2) == Again("no answer in time")


async def test_connections_that_are_cut_are_down() -> None:
    """Cut at once, each time: the server takes no connections."""

    async def cut(connection: Connection) -> None:
        await connection.reader.read(10)
        connection.reset()

    assert await outcome_of_a_server_that(cut) == Down("no connection, or a broken one")


async def test_another_protocol_is_no_redis() -> None:
    """An HTTP server on that port."""

    async def speak_http(connection: Connection) -> None:
        await connection.say("HTTP/1.1 400 Bad Request\r\n\r\n")
        await connection.hang()

    outcome = await outcome_of_a_server_that(speak_http)

    assert isinstance(outcome, Again | Down)


REFUSALS = {
    "NOAUTH Authentication required.": "NOAUTH",
    "WRONGPASS invalid username-password pair": "WRONGPASS",
    "NOPERM User x has no permissions to run the 'xadd' command": "NOPERM",
    "ERR The user executing the script can't run this command or subcommand script: f, on @user_script:2.": "NOPERM",
    "OOM command not allowed when used memory > 'maxmemory'. script: f, on @user_script:3.": "OOM",
    "ERR Error running script (call to f_1): @user_script:3: @user_script: 3: -OOM command not allowed": "OOM",
    "ERR Error running script (call to f_1): @user_script:3: WRONGTYPE Operation against a key": "WRONGTYPE",
    "READONLY You can't write against a read only replica.": "READONLY",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.": "MISCONF",
    "NOREPLICAS Not enough good replicas to write.": "NOREPLICAS",
    "LOADING Redis is loading the dataset in memory": "LOADING",
    "BUSY Redis is busy running a script.": "BUSY",
    "MOVED 3999 127.0.0.1:6381": "MOVED",
    "CLUSTERDOWN The cluster is down": "CLUSTERDOWN",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": "MASTERDOWN",
}


@pytest.mark.parametrize("error", REFUSALS)
async def test_an_error_that_is_the_servers_own_is_down(error: str) -> None:
    """Whatever the release: new ones begin with the code, old ones bury it in the script's error."""

    async def refuse(connection: Connection) -> None:
        while sent := await connection.reader.read(65536):
            commands = sent.count(b"EVAL") + sent.count(b"CLIENT") + sent.count(b"SELECT")
            await connection.say(f"-{error}\r\n" * commands)

    outcome = await outcome_of_a_server_that(refuse)

    assert isinstance(outcome, Down)
    assert outcome.reason.startswith(f"{REFUSALS[error]}: ")


async def test_a_password_that_is_missing_or_wrong_is_down(own_redis: RedisServer) -> None:
    """By a real server; the reason shows neither the right password nor the wrong one."""
    await own_redis.start("--requirepass", "right")
    address = f"127.0.0.1:{own_redis.port}/0"
    reasons = []
    for credentials in ("", f":{PASSWORD}@", f"nobody:{PASSWORD}@"):
        sink = sink_to(f"redis://{credentials}{address}")
        [outcome] = await sink.send([message()])
        assert isinstance(outcome, Down)
        with pytest.raises(SinkError) as caught:
            await sink.check()
        reasons += [outcome.reason, str(caught.value)]
        await sink.close()
    good = sink_to(f"redis://:right@{address}")
    [done] = await good.send([message()])
    await good.close()

    assert isinstance(done, Done)
    assert reasons == ["NOAUTH: it wants a password"] * 2 + ["WRONGPASS: it does not know our user or password"] * 4


@pytest.mark.parametrize("missing", ["-xadd", "-set", "-get", "-eval"])
async def test_a_user_without_a_right_adds_nothing_and_pauses_the_sink(own_redis: RedisServer, missing: str) -> None:
    """Whichever command is not allowed, tries do not fill the stream; once it is, the message is added once."""
    await own_redis.start()
    async with redis_at(own_redis.url) as client:
        await client.execute_command("ACL", "SETUSER", "app", "on", ">p", "~*", "+@all", missing)
        sink = sink_to(f"redis://app:p@127.0.0.1:{own_redis.port}/0")
        outcomes = [(await sink.send([message()]))[0] for _ in range(3)]
        added = await ids(own_redis.url)
        await client.execute_command("ACL", "SETUSER", "app", "+@all")
        async with asyncio.timeout(LONG):
            while not isinstance((await sink.send([message()]))[0], Done):
                pass
        await sink.close()

    assert [type(outcome) for outcome in outcomes] == [Down] * 3
    assert isinstance(outcomes[0], Down)
    assert outcomes[0].reason.startswith("NOPERM")
    assert added == []
    assert await ids(own_redis.url) == [message().key]


async def test_a_memory_that_is_full_pauses_the_sink_and_loses_nothing(own_redis: RedisServer) -> None:
    """Over `maxmemory` without eviction: Down; with room again, the same message is added."""
    await own_redis.start("--maxmemory-policy", "noeviction")
    sink = sink_to(own_redis.url)
    async with redis_at(own_redis.url) as client:
        await client.config_set("maxmemory", 1)
        [full] = await sink.send([message()])
        await client.config_set("maxmemory", 0)
    [room] = await sink.send([message()])
    await sink.close()

    assert full == Down("OOM: its memory is full")
    assert isinstance(room, Done)
    assert await ids(own_redis.url) == [message().key]


async def test_a_replica_is_down(own_redis: RedisServer) -> None:
    """It takes no writes."""
    await own_redis.start()
    sink = sink_to(own_redis.url)
    async with redis_at(own_redis.url) as client:
        await client.replicaof("127.0.0.1", 1)
        [outcome] = await sink.send([message()])
    await sink.close()

    assert outcome == Down("READONLY: it is a replica that takes no writes")


async def test_tls_is_spoken_and_certificates_are_verified(
    own_redis: RedisServer, authority: trustme.CA, tmp_path: Path
) -> None:
    """`rediss://` with the authority's file is done; without it, Down."""
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    await own_redis.start()
    port = await _tls_in_front_of(own_redis.port, tmp_path / "server.pem")
    async with port as server:
        address = f"rediss://127.0.0.1:{server.port}/0"
        trusting = sink_to(f"{address}?ssl_ca_certs={tmp_path}/ca.pem")
        strict = sink_to(address)
        outcomes = [*await trusting.send([message(1)]), *await strict.send([message(2)])]
        await trusting.close()
        await strict.close()

    assert [type(outcome) for outcome in outcomes] == [Done, Down]
    assert await ids(own_redis.url) == [message(1).key]


async def _tls_in_front_of(port: int, certificate: Path) -> TcpServer:
    """Takes TLS off, as a Redis that was built with it does by itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def relay(connection: Connection) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        back = asyncio.create_task(_pump(reader, connection.writer))
        try:
            await _pump(connection.reader, writer)
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            writer.close()
            await writer.wait_closed()

    return TcpServer(relay, tls=context)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def test_the_number_of_the_database_is_heeded(own_redis: RedisServer) -> None:
    """`/1` is not `/0`."""
    await own_redis.start()
    sink = sink_to(f"redis://127.0.0.1:{own_redis.port}/1")
    await sink.send([message()])
    await sink.close()

    assert await ids(own_redis.url) == []
    assert await ids(f"redis://127.0.0.1:{own_redis.port}/1") == [message().key]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("url", f"http://{PASSWORD}/"),
        ("url", f"unix:///{PASSWORD}"),
        ("url", f"redis:///{PASSWORD}"),
        ("url", f"redis://:{PASSWORD}@host:port"),
        ("url", f"redis://:{PASSWORD}@[host"),
        ("url", f"redis://:{PASSWORD}@host/one"),
        ("url", f"redis://:{PASSWORD}@host/0/1"),
        ("url", f"redis://:{PASSWORD}@host/0?db=1"),
        ("url", f"redis://:{PASSWORD}@host/0?ssl_ca_certs=/ca.pem"),
        ("url", f"rediss://:{PASSWORD}@host/0?ssl_cert_reqs=none"),
        ("url", f"rediss://:{PASSWORD}@host/0?unknown="),
        ("stream", ""),
        ("stream", "{a}b"),
        ("stream", "a b"),
        ("maxlen", 0),
        ("remember", 0),
        ("unknown", PASSWORD),
    ],
)
def test_a_wrong_option_is_refused_by_name_and_not_shown(option: str, value: object) -> None:
    """The error names the option and does not repeat what was given."""
    with pytest.raises(ValidationError) as caught:
        RedisOptions.model_validate({"name": "it", "url": "redis://host", "stream": "s", option: value})

    [error] = caught.value.errors(include_input=False, include_url=False)
    assert error["loc"] == (option,)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://host/",
        "redis://host:6380/15",
        "redis://user:p%40ss@host/0",
        "redis://[::1]:6379/0",
        "rediss://host/0?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
    ],
)
async def test_a_right_address_is_taken(url: str) -> None:
    """And the library can read it too."""
    await sink_to(url).close()


async def test_what_the_messages_say_can_be_read_back(redis_url: str, stream: str) -> None:
    """A consumer's view: `event` is JSON, its `subject` the evaluation."""
    sink = sink_to(redis_url, stream=stream)
    await sink.send([message(7)])
    await sink.close()

    async with redis_at(redis_url) as client:
        [[_, entries]] = await client.xread({stream: "0"})
    assert json.loads(entries[0][1]["event"])["subject"] == str(evaluation_id(7))
