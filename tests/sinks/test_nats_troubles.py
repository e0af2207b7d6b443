"""`nats`: what each trouble of a server comes to, and that the sink goes on by itself when it is over."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from receiver.sinks.base import Again, Done, Down, Outcome, Sink, SinkError
from tests.sinks.destinations import PASSWORD
from tests.sinks.gap import Gap
from tests.sinks.messages import message
from tests.sinks.nats_keys import Operator, pair
from tests.sinks.nats_side import STREAM, SUBJECT, NatsServer, ids, jetstream_at, make_stream, sink_to
from tests.sinks.servers import LONG, Connection, TcpServer
from tests.sinks.troubles import broken_under_way, keys, outcome_of, through_a_cut, until_done

BROKEN = Down("no connection, or a broken one")
REFUSED = Down("cannot connect: refused")
UNKNOWN = Down("it does not know our user, password, token or key")
USERS = "authorization {{ users = [{{ user: admin, password: admin }}, {{ user: app, password: app, {} }}] }}"

Launch = Callable[..., Awaitable[NatsServer]]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """Not started yet. It keeps what it is given through a kill."""
    server = NatsServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[Launch]:
    """Starts one with these settings, which ends with the test."""
    running: list[NatsServer] = []

    async def launched(settings: str = "", **how: Any) -> NatsServer:
        running.append(NatsServer(tmp_path, settings, **how))
        await running[-1].start()
        return running[-1]

    yield launched
    for each in running:
        each.kill()


def address(server: NatsServer, who: str = "admin:admin") -> str:
    """Its address for a user."""
    return f"nats://{who}@127.0.0.1:{server.port}"


async def test_it_goes_on_by_itself_after_a_restart(server: NatsServer) -> None:
    """SIGKILL and start again: Down while it is away, then Done, and repeats of before are still dropped."""
    await server.start()
    await make_stream(server.url)
    sink = sink_to(server.url)
    before = await sink.send([message(1)])
    server.kill()
    away = [*await sink.send([message(2)]), *await sink.send([message(2)])]
    await server.start()
    after = await sink.send([message(2), message(1)])
    await sink.close()

    assert set(away) <= {BROKEN, REFUSED}
    assert [type(outcome) for outcome in after] == [Done, Done]
    assert after[1] == before[0]
    assert await ids(server.url) == keys(1, 2)


async def test_a_restart_between_two_messages_costs_no_attempt(server: NatsServer) -> None:
    """The connection of before is gone: that is noticed, and the message goes on a new one."""
    await server.start()
    await make_stream(server.url)
    sink = sink_to(server.url)
    await sink.send([message(1)])
    server.kill()
    await server.start()
    outcomes = await asyncio.gather(*(sink.send([message(number)]) for number in range(2, 7)))
    await sink.close()

    assert [type(outcome) for [outcome] in outcomes] == [Done] * 5


async def test_under_load_through_restarts_every_message_arrives_once(server: NatsServer) -> None:
    """Killed and started again in the middle of batches: in the end each message is there, and none twice."""
    await server.start()
    await make_stream(server.url)
    sink = sink_to(server.url)
    async with asyncio.timeout(2 * LONG), asyncio.TaskGroup() as group:
        for start in range(0, 400, 20):
            group.create_task(until_done(sink, *range(start, start + 20)))
        for _ in range(3):
            server.kill()
            await server.start()
    await sink.close()

    assert sorted(await ids(server.url)) == sorted(keys(*range(400)))


async def test_a_cut_without_a_word_ends_in_the_timeout_and_is_mended_by_a_new_connection(server: NatsServer) -> None:
    """Neither what was sent into it nor what waited is lost, or there twice."""
    await server.start()
    await make_stream(server.url)
    async with Gap(server.port) as gap:
        cut, away = await through_a_cut(sink_to(f"nats://127.0.0.1:{gap.port}", timeout=0.3), gap)

    assert cut == [Again("no answer in time")] * 2
    assert away == [Down("no connection in time")] * 2
    assert sorted(await ids(server.url)) == keys(1, 2, 3)


async def test_a_server_that_hangs_holds_up_no_longer_than_the_timeout(server: NatsServer) -> None:
    """And what it took all the same, it does not take twice."""
    await server.start()
    await make_stream(server.url)
    sink = sink_to(server.url, timeout=0.3)
    await until_done(sink, 1)
    server.signal(signal.SIGSTOP)
    hanging = await sink.send([message(2)])
    server.signal(signal.SIGCONT)
    async with asyncio.timeout(LONG):
        await until_done(sink, 2)
    await sink.close()

    assert hanging == [Again("no answer in time")]
    assert await ids(server.url) == keys(1, 2)


async def test_a_server_that_is_slow_is_waited_for(server: NatsServer) -> None:
    """As long as the timeout lets."""
    await server.start()
    await make_stream(server.url)
    sink = sink_to(server.url)
    await until_done(sink, 1)
    server.signal(signal.SIGSTOP)
    sending = asyncio.create_task(sink.send([message(2)]))
    await asyncio.sleep(0.1)
    assert not sending.done()
    server.signal(signal.SIGCONT)
    [outcome] = await sending
    await sink.close()

    assert outcome == Done(f"{STREAM}:2")


async def test_what_is_under_way_when_the_connection_breaks_is_not_done(server: NatsServer) -> None:
    """Not one of a batch that nobody has answered, and none of those that wait their turn."""
    await server.start()
    await make_stream(server.url)
    async with Gap(server.port) as gap:
        outcomes = await broken_under_way(sink_to(f"nats://127.0.0.1:{gap.port}"), gap)

    assert outcomes == {BROKEN}
    assert await ids(server.url) == keys(1)


def test_a_reset_in_the_middle_of_the_greeting_is_the_connections_own_trouble() -> None:
    """At whichever moment, on uvloop, as the service runs: a write to what was reset just now is an error of another kind."""

    async def greeted(moments: int) -> Outcome:
        async def greet(connection: Connection) -> None:
            await connection.say('INFO {"server_id":"x","version":"2.9.0","max_payload":1000,"headers":true}\r\n')
            for _ in range(moments):
                await asyncio.sleep(0)
            connection.reset()

        async with TcpServer(greet) as server:
            sink = sink_to(f"nats://127.0.0.1:{server.port}")
            [outcome] = await sink.send([message()])
            await sink.close()
        return outcome

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcomes = {runner.run(greeted(moments)) for moments in range(10) for _ in range(2)}

    assert outcomes == {Down("cannot connect: it hung up at once")}


async def test_a_full_stream_pauses_the_sink_and_loses_nothing(server: NatsServer) -> None:
    """With `discard new` it takes nothing over its limit; with room again, what was refused arrives once."""
    await server.start()
    await make_stream(server.url, max_msgs=2, discard="new")
    sink = sink_to(server.url)
    outcomes = await sink.send([message(number) for number in (1, 2, 3, 4)])
    found = await ids(server.url)
    async with jetstream_at(server.url) as jetstream:
        await jetstream.purge_stream(STREAM)
    after = await sink.send([message(3), message(4), message(1)])
    await sink.close()

    assert outcomes == [Done("verdicts:1"), Done("verdicts:2"), Down("the stream is full"), Down("the stream is full")]
    assert found == keys(1, 2)
    assert after == [Done("verdicts:3"), Done("verdicts:4"), Done("verdicts:1")]
    assert await ids(server.url) == keys(3, 4)


async def test_without_jetstream_it_is_down(launch: Launch) -> None:
    """A server that keeps nothing is none to publish to."""
    server = await launch(jetstream=False)
    sink = sink_to(server.url)
    [outcome] = await sink.send([message()])
    with pytest.raises(SinkError, match="or JetStream is not on"):
        await sink.check()
    await sink.close()

    assert isinstance(outcome, Down)


async def outcome_at(url: str, **changes: Any) -> Outcome:
    """What one message comes to there; a check says the same."""
    return await outcome_of(sink_to(url, **changes))


@pytest.mark.parametrize(
    ("settings", "right"),
    [
        (f"authorization {{ user: u, password: '{PASSWORD}/@' }}", f"u:{PASSWORD}%2F%40"),
        (f"authorization {{ token: '{PASSWORD}/@' }}", f"{PASSWORD}%2F%40"),
    ],
)
async def test_who_we_are_is_shown_and_only_the_right_one_is_let_in(launch: Launch, settings: str, right: str) -> None:
    """User and password, or a token; wrong ones and none are Down, and no reason shows them."""
    server = await launch(settings)
    good = sink_to(address(server, right))
    [outcome] = await good.send([message()])
    await good.close()
    refused = [await outcome_at(address(server, wrong)) for wrong in (f"u:not{PASSWORD}", f"not{PASSWORD}")]
    refused.append(await outcome_at(server.url))

    assert isinstance(outcome, Down)
    assert outcome.reason.startswith("no stream takes the subject")
    assert refused == [UNKNOWN] * 3


async def test_credentials_files_are_shown_and_read_at_each_connection(launch: Launch, tmp_path: Path) -> None:
    """A user of an account that the server believes; another operator's user, and files that are none, are Down."""
    operator = Operator()
    server = await launch(operator.settings)
    file = tmp_path / "user.creds"
    reasons = {}
    texts = {"other": Operator().credentials(), "none": PASSWORD, "half": operator.credentials().replace("SEED", ""),
             "no seed": operator.credentials().replace("\nSU", "\nSX"), "good": operator.credentials()}  # fmt: skip
    sink = sink_to(server.url, creds=str(file))
    [missing] = await sink.send([message()])
    for name, text in texts.items():
        file.write_text(text)
        [outcome] = await sink.send([message()])
        assert isinstance(outcome, Down)
        reasons[name] = outcome.reason
    await sink.close()

    no_file = "creds: not a credentials file, which has a NATS USER JWT and a USER NKEY SEED"
    assert missing == Down("creds: cannot be read (No such file or directory)")
    assert reasons.pop("good").startswith("no stream takes the subject")
    assert reasons == {
        "other": UNKNOWN.reason,
        "none": no_file,
        "half": no_file,
        "no seed": "creds: the seed in the file is none",
    }


async def test_a_key_of_ours_is_shown(launch: Launch, tmp_path: Path) -> None:
    """By its seed; the server knows its public half. Another seed, and what is none, are Down."""
    key = pair()
    server = await launch(f"authorization {{ users = [{{ nkey: {key.public} }}] }}")
    outcomes = []
    for number, seed in enumerate((key.seed, pair().seed, PASSWORD)):
        file = tmp_path / f"{number}.nk"
        file.write_text(f"{seed}\n")
        outcomes.append(await outcome_at(server.url, nkey=str(file)))

    assert isinstance(outcomes[0], Down)
    assert outcomes[0].reason.startswith("no stream takes the subject")
    assert outcomes[1:] == [UNKNOWN, Down("nkey: the seed in the file is none")]


async def test_credentials_that_are_revoked_pause_the_sink_until_they_are_good_again(launch: Launch) -> None:
    """Under load: the connection is ended, nothing is let in meanwhile; and then all is there, once."""
    server = await launch(USERS.format(""))
    await make_stream(address(server))
    sink = sink_to(address(server, "app:app"))
    async with asyncio.timeout(2 * LONG), asyncio.TaskGroup() as group:
        for start in range(0, 200, 20):
            group.create_task(until_done(sink, *range(start, start + 20)))
        await server.reload(server.settings.replace("user: app", "user: nobody"))
        await until_refused(sink)
        await server.reload(server.settings.replace("user: nobody", "user: app"))
    await sink.close()
    found = await ids(address(server))

    assert sorted(found) == sorted(keys(*range(200)))


async def until_refused(sink: Sink) -> None:
    """Sends a message of the load until it is not let in."""
    while await sink.send([message(0)]) != [UNKNOWN]:
        pass


@pytest.mark.parametrize(
    ("permissions", "reason"),
    [
        ("publish: { deny: 'runflow.>' }", "our user may not publish to the subject"),
        ("subscribe: { deny: '_INBOX.>' }", "our user may not subscribe to _INBOX.>, where answers come"),
    ],
)
async def test_a_right_that_is_missing_is_named(launch: Launch, permissions: str, reason: str) -> None:
    """At once, not after the timeout; and with the right the same sink goes on."""
    server = await launch(USERS.format(f"permissions {{ {permissions} }}"))
    await make_stream(address(server))
    sink = sink_to(address(server, "app:app"))
    outcomes = await sink.send([message(1), message(2)])
    await server.reload(USERS.format(""))
    async with asyncio.timeout(LONG):
        await until_done(sink, 1, 2)
    await sink.close()
    found = await ids(address(server))

    assert outcomes == [Down(reason)] * 2
    assert found == keys(1, 2)


async def test_the_rights_that_are_asked_for_suffice(launch: Launch) -> None:
    """To publish to the subject and to hear the answers; the check says what it could not ask."""
    rights = "permissions { publish: 'runflow.verdicts', subscribe: '_INBOX.>' }"
    server = await launch(USERS.format(rights))
    await make_stream(address(server))
    sink = sink_to(address(server, "app:app"))
    found = await sink.check()
    [outcome] = await sink.send([message()])
    await sink.close()

    assert found == f"answers; our user may not ask which stream takes {SUBJECT}"
    assert outcome == Done(f"{STREAM}:1")


async def test_tls_is_spoken_and_certificates_are_verified_on_both_sides(
    launch: Launch, tmp_path: Path, authority: trustme.CA
) -> None:
    """With the authority's file and a certificate of ours: done. Without either: Down."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    files = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "server", "client")}
    server = await launch(
        f"tls {{ cert_file: '{files['server']}', key_file: '{files['server']}', ca_file: '{files['ca']}', verify: true }}"
    )
    url = server.url.replace("nats:", "tls:")
    both = await outcome_at(url, tls_ca=files["ca"], tls_cert=files["client"])
    unknown = await outcome_at(url, tls_cert=files["client"])
    sink = sink_to(url, tls_ca=files["ca"])
    [nameless] = await sink.send([message()])
    await sink.close()
    lost = await outcome_at(url, tls_ca=str(tmp_path / "lost.pem"))
    odd = await outcome_at(url, tls_ca=files["ca"], tls_cert=files["ca"])

    assert isinstance(both, Down)
    assert both.reason.startswith("no stream takes the subject")
    assert isinstance(unknown, Down)
    assert unknown.reason.startswith("cannot connect: its certificate is not good")
    assert isinstance(nameless, Down)
    assert "certificate" in nameless.reason.lower()  # in its own words, or in ours where it only hung up
    assert lost == Down("tls_ca: cannot be read (No such file or directory)")
    assert odd == Down("tls_cert, tls_key: not a certificate in PEM, or not its key, or a key that wants a password")


async def test_a_server_without_tls_is_refused_where_it_is_asked_for_and_told_no_secret() -> None:
    """The client would go on in the clear."""
    said = b""

    async def greet(connection: Connection) -> None:
        nonlocal said
        await connection.say('INFO {"server_id":"x","version":"2.9.0","max_payload":1000,"headers":true}\r\n')
        while more := await connection.reader.read(4096):
            said += more

    async with TcpServer(greet) as server:
        outcome = await outcome_at(f"tls://u:{PASSWORD}@127.0.0.1:{server.port}")

    assert outcome == Down("it offers no TLS, which tls:// asks for")
    assert said == b""
