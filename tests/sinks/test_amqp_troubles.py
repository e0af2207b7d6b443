"""`amqp`: what each trouble of a server comes to, and that the sink goes on by itself when it is over."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from receiver.sinks.base import Again, Done, Down, Outcome
from tests.sinks.amqp_side import RabbitServer, channel_at, ids, make_queue, sink_to
from tests.sinks.destinations import PASSWORD
from tests.sinks.gap import Gap
from tests.sinks.messages import message
from tests.sinks.servers import LONG
from tests.sinks.troubles import broken_under_way, keys, outcome_of, through_a_cut, until_done

UNKNOWN = Down("it does not know our user or password")
FULL = Down("it did not accept the message: a queue is full, or too few of its replicas are there")
ALARM = Down("it has an alarm: it takes nothing until it has memory or disk space again")


@pytest.fixture
async def queue(rabbit: RabbitServer) -> AsyncIterator[str]:
    """The name of a queue that is not made yet, and gone afterwards."""
    name = f"test.{uuid.uuid4()}"
    yield name
    async with channel_at(rabbit.url) as channel:
        await channel.queue_delete(name)


async def test_a_cut_without_a_word_ends_in_the_timeout_and_is_mended_by_a_new_connection(
    rabbit: RabbitServer, queue: str
) -> None:
    """Neither what was sent into it nor what waited is lost."""
    await make_queue(rabbit.url, queue)
    async with Gap(rabbit.port) as gap:
        sink = sink_to(f"amqp://guest:guest@127.0.0.1:{gap.port}/", routing_key=queue, timeout=0.5)
        cut, away = await through_a_cut(sink, gap)

    assert cut == [Again("no answer in time")] * 2
    assert away == [Down("no connection in time")] * 2
    assert set(await ids(rabbit.url, queue)) == set(keys(1, 2, 3))


async def test_what_is_under_way_when_the_connection_breaks_is_not_done(rabbit: RabbitServer, queue: str) -> None:
    """Not one of a batch that nobody has answered, and none of those that wait their turn."""
    await make_queue(rabbit.url, queue)
    async with Gap(rabbit.port) as gap:
        sink = sink_to(f"amqp://guest:guest@127.0.0.1:{gap.port}/", routing_key=queue)
        outcomes = await broken_under_way(sink, gap)

    assert outcomes == {Down("no connection, or a broken one")}
    assert set(await ids(rabbit.url, queue)) == set(keys(1))


async def test_a_full_queue_pauses_the_sink_and_loses_nothing(rabbit: RabbitServer, queue: str) -> None:
    """With `reject-publish` it takes nothing over its limit; with room again, what was refused arrives."""
    await make_queue(rabbit.url, queue, x_max_length=2, x_overflow="reject-publish")
    sink = sink_to(rabbit.url, routing_key=queue)
    outcomes = await sink.send([message(number) for number in (1, 2, 3, 4)])
    found = await ids(rabbit.url, queue)
    after = await sink.send([message(3), message(4)])
    await sink.close()

    assert outcomes == [Done(), Done(), FULL, FULL]
    assert found == keys(1, 2)
    assert after == [Done(), Done()]
    assert await ids(rabbit.url, queue) == keys(3, 4)


async def test_an_alarm_is_told_and_outlasted(rabbit: RabbitServer, queue: str) -> None:
    """It takes the first message that it sees, and no more; what it did not confirm arrives when the alarm is over."""
    await make_queue(rabbit.url, queue)
    sink = sink_to(rabbit.url, routing_key=queue, timeout=0.5)
    await until_done(sink, 1)
    await rabbit.control("set_vm_memory_high_watermark", "0")
    try:
        async with asyncio.timeout(LONG):
            while (blocked := await sink.send([message(2)])) == [Done()]:
                pass
    finally:
        await rabbit.control("set_vm_memory_high_watermark", "0.4")
    async with asyncio.timeout(LONG):
        await until_done(sink, 2)
    await sink.close()

    assert blocked == [ALARM]
    assert set(await ids(rabbit.url, queue)) == set(keys(1, 2))


async def test_credentials_that_are_revoked_pause_the_sink_until_they_are_good_again(
    rabbit: RabbitServer, queue: str
) -> None:
    """Under load: the connection is ended, nothing is let in meanwhile; and then all is there."""
    await make_queue(rabbit.url, queue)
    sink = sink_to(rabbit.url_of("app"), routing_key=queue)
    async with asyncio.timeout(2 * LONG), asyncio.TaskGroup() as group:
        for start in range(0, 100, 20):
            group.create_task(until_done(sink, *range(start, start + 20)))
        await rabbit.control("delete_user", "app")
        while await sink.send([message(0)]) != [UNKNOWN]:
            pass
        await rabbit.control("import_definitions", str(rabbit.definitions))
        await until_done(sink, *range(100, 120))
    await sink.close()

    assert set(await ids(rabbit.url, queue)) == set(keys(*range(120)))


async def test_a_user_that_may_not_write_is_down(rabbit: RabbitServer) -> None:
    """To an exchange that is there."""
    sink = sink_to(rabbit.url_of("reader"), exchange="amq.fanout", routing_key="")
    outcomes = await sink.send([message(1), message(2)])
    await sink.close()

    assert outcomes == [Down("our user may not write to exchange amq.fanout")] * 2


async def outcome_at(url: str, **changes: Any) -> Outcome:
    """What one message comes to there; a check says the same."""
    return await outcome_of(sink_to(url, **{"routing_key": "nowhere", **changes}))


async def test_who_is_not_known_is_down(rabbit: RabbitServer) -> None:
    """User, password or virtual host; no reason shows them."""
    host = f"127.0.0.1:{rabbit.port}"
    no_host = Down("the virtual host is not there, or not open to our user, or a limit of it is reached")

    assert await outcome_at(f"amqp://guest:{PASSWORD}@{host}/") == UNKNOWN
    assert await outcome_at(f"amqp://{PASSWORD}:guest@{host}/") == UNKNOWN
    assert await outcome_at(f"amqp://{host}/{PASSWORD}") == no_host


async def test_tls_is_spoken_and_certificates_are_verified_on_both_sides(rabbit: RabbitServer) -> None:
    """With the authority's file and a certificate of ours it is let in. Without either: Down."""
    url, files = f"amqps://guest:guest@127.0.0.1:{rabbit.tls_port}/", rabbit.files
    both = await outcome_at(url, tls_ca=files["ca"], tls_cert=files["client"])
    unknown = await outcome_at(url, tls_cert=files["client"])
    sink = sink_to(url, routing_key="nowhere", tls_ca=files["ca"])
    [nameless] = await sink.send([message()])
    await sink.close()
    lost = await outcome_at(url, tls_ca="/nowhere/lost.pem")

    assert both == Down("there is no queue nowhere")
    assert isinstance(unknown, Down)
    assert unknown.reason.startswith("cannot connect: its certificate is not good")
    assert isinstance(nameless, Down)
    assert "certificate" in nameless.reason.lower()  # in its own words, or in ours where it only hung up
    assert lost == Down("tls_ca: cannot be read (No such file or directory)")


async def test_tls_is_not_given_up_where_there_is_none(rabbit: RabbitServer) -> None:
    """A server that speaks in the clear is told no secret."""
    outcome = await outcome_at(f"amqps://u:{PASSWORD}@127.0.0.1:{rabbit.port}/")

    assert isinstance(outcome, Down)
    assert outcome.reason.startswith("cannot connect: TLS failed")
