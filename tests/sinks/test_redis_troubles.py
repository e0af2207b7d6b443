"""`redis`: what each trouble of a server comes to, and that the sink goes on by itself when it is over."""

import asyncio
import signal
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from receiver.sinks.base import Again, Done, Down, Outcome, SinkError
from tests.sinks.destinations import PASSWORD
from tests.sinks.gap import Gap
from tests.sinks.messages import message
from tests.sinks.redis_side import STREAM, ids, redis_at, sink_to
from tests.sinks.servers import LONG, Connection, RedisServer, TcpServer
from tests.sinks.troubles import keys, until_done


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

    assert away == [Down("cannot connect: refused")]
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
    async with asyncio.timeout(2 * LONG), asyncio.TaskGroup() as group:
        for start in range(0, 400, 20):
            group.create_task(until_done(sink, *range(start, start + 20)))
        for _ in range(3):
            own_redis.kill()
            await own_redis.start()
    await sink.close()

    assert sorted(await ids(own_redis.url)) == sorted(keys(*range(400)))


def test_resets_under_load_are_the_connections_own_trouble(own_redis: RedisServer) -> None:
    """On uvloop, as the service runs, where a write to a connection that was reset just now is an error of another kind."""

    async def reset_again_and_again() -> tuple[set[Outcome], list[str]]:
        await own_redis.start()
        async with Gap(own_redis.port) as gap:
            sink = sink_to(f"redis://127.0.0.1:{gap.port}/0")
            outcomes: set[Outcome] = set()
            for round_ in range(50):
                sending = [asyncio.create_task(sink.send([message(10 * round_ + number)])) for number in range(10)]
                for _ in range(round_ % 20):
                    await asyncio.sleep(0)
                while not all(each.done() for each in sending):  # once is not enough: the client tries again by itself
                    gap.reset()
                    await asyncio.sleep(0)
                outcomes.update(outcome for each in await asyncio.gather(*sending) for outcome in each)
            await until_done(sink, *range(500))
            await sink.close()
        return {outcome for outcome in outcomes if not isinstance(outcome, Done)}, await ids(own_redis.url)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        troubles, found = runner.run(reset_again_and_again())

    assert troubles == {Down("no connection, or a broken one")}
    assert sorted(found) == sorted(keys(*range(500)))


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
    await until_done(sink, 5)
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


async def test_an_old_servers_refusal_of_a_password_is_down() -> None:
    """Before Redis 6 it had no code."""

    async def refuse(connection: Connection) -> None:
        while await connection.reader.read(65536):
            await connection.say("-ERR invalid password\r\n")

    assert await outcome_of_a_server_that(refuse) == Down("it does not know our user or password")


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
        await until_done(sink, 1)
        await sink.close()

    assert [type(outcome) for outcome in outcomes] == [Down] * 3
    assert isinstance(outcomes[0], Down)
    assert outcomes[0].reason.startswith("NOPERM")
    assert added == []
    assert await ids(own_redis.url) == [message().key]


async def test_the_rights_that_are_asked_for_suffice(own_redis: RedisServer) -> None:
    """No more than the page on sinks names, on the stream and the keys that remember."""
    await own_redis.start()
    rights = ["+get", "+set", "+xadd", "+eval", "+type", "+ping", f"~{STREAM}", f"~{{{STREAM}}}:seen:*"]
    async with redis_at(own_redis.url) as client:
        await client.execute_command("ACL", "SETUSER", "app", "on", ">p", *rights)
    sink = sink_to(f"redis://app:p@127.0.0.1:{own_redis.port}/0", maxlen=1000)
    [outcome] = await sink.send([message()])
    found = await sink.check()
    await sink.close()

    assert isinstance(outcome, Done)
    assert found == f"answers; the stream {STREAM} is there"


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
    own_redis: RedisServer, authority: trustme.CA, tls: ssl.SSLContext, tmp_path: Path
) -> None:
    """`rediss://` with the authority's file is done; without it, Down."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    await own_redis.start()
    async with Gap(own_redis.port, tls=tls) as gap:  # as a Redis that was built with it takes it off by itself
        address = f"rediss://127.0.0.1:{gap.port}/0"
        trusting = sink_to(f"{address}?ssl_ca_certs={tmp_path}/ca.pem")
        strict = sink_to(address)
        outcomes = [*await trusting.send([message(1)]), *await strict.send([message(2)])]
        await trusting.close()
        await strict.close()

    assert [type(outcome) for outcome in outcomes] == [Done, Down]
    assert await ids(own_redis.url) == [message(1).key]
