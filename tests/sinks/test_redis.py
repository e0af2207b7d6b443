"""`redis`: what stands in the stream, how repeats are dropped, and which options are taken."""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator

import pytest
from pydantic import ValidationError

from receiver.sinks.base import Again, Done, Down, SinkError
from receiver.sinks.redis import RedisOptions
from tests.sinks.destinations import PASSWORD
from tests.sinks.messages import evaluation_id, message
from tests.sinks.redis_side import STREAM, ids, redis_at, sink_to
from tests.sinks.servers import Connection, RedisServer, TcpServer


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


async def test_the_script_is_sent_once(own_redis: RedisServer) -> None:
    """A batch is one call, by the script's hash; a server that has forgotten the script is told it again."""
    await own_redis.start()
    sink = sink_to(own_redis.url)
    async with redis_at(own_redis.url) as client:
        for number in range(4):
            if number == 2:
                await client.script_flush()
            outcomes = await sink.send([message(3 * number + each) for each in range(3)])
            assert [type(outcome) for outcome in outcomes] == [Done] * 3
        calls = {name: about["calls"] for name, about in (await client.info("commandstats")).items()}
    await sink.close()

    assert (calls["cmdstat_evalsha"], calls["cmdstat_eval"], calls["cmdstat_xadd"]) == (4, 2, 12)
    assert await ids(own_redis.url) == [message(number).key for number in range(12)]


async def test_one_message_twice_in_a_batch(redis_url: str, stream: str) -> None:
    """It is added once, and both have its id."""
    sink = sink_to(redis_url, stream=stream)
    one, other, again = await sink.send([message(1), message(2), message(1)])
    await sink.close()

    assert one == again != other
    assert await ids(redis_url, stream) == [message(1).key, message(2).key]


async def test_an_older_server_refuses_idmp_by_name(own_redis: RedisServer) -> None:
    """Its version is asked for, which every user may; the sink is paused, so that a newer server takes the messages."""
    await own_redis.start()
    sink = sink_to(own_redis.url, repeats="idmp")
    [outcome] = await sink.send([message()])
    assert isinstance(outcome, Down)
    assert re.fullmatch(
        r'repeats = "idmp" needs Redis 8.6 or newer, and this is redis 7\.[\d.]+; leave it out for the script',
        outcome.reason,
    )
    with pytest.raises(SinkError, match=r"needs Redis 8\.6"):
        await sink.check()
    await sink.close()
    assert await ids(own_redis.url) == []


@pytest.mark.parametrize(
    ("server", "version", "is_taken"),
    [
        ("redis", "8.6.0", True),
        ("redis", "8.10.1", True),
        ("redis", "9.0", True),
        ("redis", "8.4.9", False),
        ("valkey", "9.1.0", False),
    ],
)
async def test_what_idmp_sends(server: str, version: str, is_taken: bool) -> None:
    """To a stand-in that answers as a newer Redis: the command as redis.io has it. No real one has been tried."""
    heard: list[list[bytes]] = []

    async def converse(connection: Connection) -> None:
        while count := await connection.reader.readline():
            command = []
            for _ in range(int(count[1:])):
                size = int((await connection.reader.readline())[1:])
                command.append((await connection.reader.readexactly(size + 2))[:-2])
            heard.append(command)
            hello = "".join(f"${len(each)}\r\n{each}\r\n" for each in ("server", server, "version", version))
            answers = {b"HELLO": f"*4\r\n{hello}", b"XADD": "$3\r\n1-1\r\n"}
            await connection.say(answers.get(command[0], "+OK\r\n"))

    async with TcpServer(converse) as there:
        sink = sink_to(f"redis://127.0.0.1:{there.port}/0", repeats="idmp", maxlen=10)
        outcomes = await sink.send([message(1), message(2)])
        await sink.close()
    sent = [command for command in heard if command[0] == b"XADD"]
    assert [type(outcome) for outcome in outcomes] == ([Done] if is_taken else [Down]) * 2
    assert [command[:10] for command in sent] == [
        [b"XADD", STREAM.encode(), b"IDMP", b"runflow-receiver", key, b"MAXLEN", b"~", b"10", b"*", b"id"]
        for key in (message(1).key.encode(), message(2).key.encode())
        if is_taken
    ]


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


async def test_what_the_messages_say_can_be_read_back(redis_url: str, stream: str) -> None:
    """A consumer's view: `event` is JSON, its `subject` the evaluation."""
    sink = sink_to(redis_url, stream=stream)
    await sink.send([message(7)])
    await sink.close()

    async with redis_at(redis_url) as client:
        [[_, entries]] = await client.xread({stream: "0"})
    assert json.loads(entries[0][1]["event"])["subject"] == str(evaluation_id(7))


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
        ("url", f"redis://:{PASSWORD}@host:0"),
        ("url", f"redis://:{PASSWORD}#1@host"),
        ("url", f"redis://:{PASSWORD}/1@host"),
        ("url", f"redis://:{PASSWORD}@a..b"),
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
        ("repeats", "idmpauto"),
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


def test_the_streams_own_memory_has_its_own_span() -> None:
    """Two options that would contradict each other are refused together."""
    with pytest.raises(ValidationError, match="remember goes with repeats = script"):
        RedisOptions.model_validate(
            {"name": "it", "url": "redis://host", "stream": "s", "repeats": "idmp", "remember": 5}
        )


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
