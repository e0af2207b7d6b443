"""`amqp`: what stands in the queue, what is told of an exchange that leads nowhere, and which options are taken."""

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from aio_pika import DeliveryMode
from cloudevents.core.bindings.amqp import AMQPMessage, from_amqp_event
from pydantic import ValidationError

from receiver.core.envelope import CONTENT_TYPE
from receiver.sinks.amqp import AmqpOptions
from receiver.sinks.base import Again, Done, Down, Never, SinkError
from tests.sinks import amqp_side
from tests.sinks.amqp_side import LARGEST, RabbitServer, channel_at, make_queue, taken
from tests.sinks.destinations import PASSWORD
from tests.sinks.messages import message, read_back_as


class Own(NamedTuple):
    """A name that nobody else uses on the shared server, for a queue or an exchange."""

    url: str
    name: str

    def sink(self, **changes: Any) -> Any:
        """A sink that leads to the queue."""
        return amqp_side.sink_to(changes.pop("url", self.url), **{"routing_key": self.name, **changes})

    async def ids(self) -> list[str | None]:
        """Takes all that is in the queue."""
        return await amqp_side.ids(self.url, self.name)


@pytest.fixture
async def own(rabbit: RabbitServer) -> AsyncIterator[Own]:
    """Neither is made yet; both are gone afterwards."""
    own = Own(rabbit.url, f"test.{uuid.uuid4()}")
    yield own
    async with channel_at(own.url) as channel:
        await channel.queue_delete(own.name)
        await channel.exchange_delete(own.name)


async def test_structured_it_is_the_envelope(own: Own) -> None:
    """Persistent, with the key as its id and a content type that says what it is."""
    await make_queue(own.url, own.name)
    sink = own.sink()
    sent = message(revision=2, replay_id="r1")
    [outcome] = await sink.send([sent])
    await sink.close()

    [found] = await taken(own.url, own.name)
    assert outcome == Done()
    assert found.body == sent.cloud_event
    assert found.delivery_mode == DeliveryMode.PERSISTENT
    assert (found.message_id, found.type) == (f"{sent.id}:r1", "io.runflow.evaluation.revised")
    assert (found.content_type, found.headers) == (CONTENT_TYPE, {})


async def test_binary_it_is_the_verdict_with_the_rest_in_headers(own: Own) -> None:
    """As the binding has it."""
    await make_queue(own.url, own.name)
    sink = own.sink(mode="binary")
    sent = message(replay_id="r1")
    await sink.send([sent])
    await sink.close()

    [found] = await taken(own.url, own.name)
    attributes = sent.attributes
    assert json.loads(found.body) == json.loads(sent.cloud_event)["data"]
    assert found.content_type == attributes.pop("datacontenttype")
    assert found.headers == {f"cloudEvents:{name}": text for name, text in attributes.items()}
    assert found.message_id == sent.key


@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_the_librarys_own_reader_finds_the_same_event(own: Own, mode: str) -> None:
    """As any consumer with a library of CloudEvents reads it."""
    await make_queue(own.url, own.name)
    sink = own.sink(mode=mode)
    sent = message(1, replay_id="r1", client_ref="é ﷽ \n")
    await sink.send([sent])
    await sink.close()

    [found] = await taken(own.url, own.name)
    event = from_amqp_event(AMQPMessage({"content-type": found.content_type}, dict(found.headers), found.body))
    read_back_as(event, sent)


async def test_an_exchange_gives_it_to_the_queues_that_are_bound(own: Own) -> None:
    """By the routing key."""
    async with channel_at(own.url) as channel:
        exchange = await channel.declare_exchange(own.name, "topic")
        queue = await channel.declare_queue(own.name)
        await queue.bind(exchange, "verdicts.#")
    sink = own.sink(exchange=own.name, routing_key="verdicts.all")
    [outcome] = await sink.send([message()])
    found = await sink.check()
    await sink.close()

    assert outcome == Done()
    assert found == f"answers; the exchange {own.name} is there"
    assert await own.ids() == [message().key]


async def test_what_nobody_would_get_is_down_and_not_done(own: Own) -> None:
    """No queue is bound, or none with this key: said plainly for each; once there is one, the same sink goes on."""
    async with channel_at(own.url) as channel:
        exchange = await channel.declare_exchange(own.name, "direct")
        queue = await channel.declare_queue(own.name)
        await queue.bind(exchange, "other")
        sink = own.sink(exchange=own.name, routing_key="verdicts")
        outcomes = await sink.send([message(1), message(2), message(1)])
        await queue.bind(exchange, "verdicts")
        after = await sink.send([message(1), message(2)])
        await sink.close()

    assert outcomes == [Down(f"no queue is bound to exchange {own.name} with the routing key 'verdicts'")] * 3
    assert after == [Done(), Done()]
    assert await own.ids() == [message(1).key, message(2).key]


@pytest.mark.parametrize(("kind", "options"), [("exchange", {"exchange": True}), ("queue", {})])
async def test_a_place_that_is_not_there_is_down_and_named(own: Own, kind: str, options: dict[str, Any]) -> None:
    """For every message of a batch, and by the check; once it is there, the same sink goes on."""
    sink = own.sink(**dict.fromkeys(options, own.name))
    outcomes = await sink.send([message(number) for number in range(1, 31)])
    with pytest.raises(SinkError) as caught:
        await sink.check()
    await make_queue(own.url, own.name)
    async with channel_at(own.url) as channel:
        exchange = await channel.declare_exchange(own.name, "fanout")
        await (await channel.get_queue(own.name)).bind(exchange)
    after = await sink.send([message()])
    await sink.close()

    assert str(caught.value) == f"there is no {kind} {own.name}"
    assert outcomes == [Down(str(caught.value))] * 30
    assert after == [Done()]


async def test_what_is_too_large_is_never_taken_and_holds_up_no_other(own: Own) -> None:
    """The server closes the channel over it: the others are sent again, and arrive."""
    await make_queue(own.url, own.name)
    sink = own.sink()
    large = message(2, generation_prompt="x" * LARGEST)
    outcomes = await sink.send([message(1), large, message(3)])
    rest = [each for each, outcome in zip((1, 2, 3), outcomes, strict=True) if isinstance(outcome, Again)]
    after = await sink.send([message(number) for number in rest])
    await sink.close()

    size = len(large.cloud_event)
    assert outcomes[1] == Never(f"the message has {size} bytes, more than the server's max_message_size = {LARGEST}")
    assert outcomes[2] == Again("another message was too large, and the server closed the channel")
    assert set(after) == {Done()}
    assert set(await own.ids()) == {message(1).key, message(3).key}


async def test_a_check_finds_the_queue(own: Own) -> None:
    """And makes none."""
    await make_queue(own.url, own.name)
    sink = own.sink()
    found = await sink.check()
    await sink.close()

    assert found == f"answers; the queue {own.name} is there"


async def test_a_virtual_host_is_heeded(own: Own) -> None:
    """Also one with a name that wants writing in an address."""
    url = f"{own.url}its%20own%2F%C3%A9"
    await make_queue(url, own.name)
    sink = own.sink(url=url)
    [outcome] = await sink.send([message()])
    await sink.close()

    assert outcome == Done()
    assert await amqp_side.ids(url, own.name) == [message().key]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("url", f"http://{PASSWORD}/"),
        ("url", f"amqp:///{PASSWORD}"),
        ("url", f"amqp://u:{PASSWORD}@host:port"),
        ("url", f"amqp://u:{PASSWORD}@[host"),
        ("url", f"amqp://u:{PASSWORD}@host:0"),
        ("url", f"amqp://u:{PASSWORD}@a..b"),
        ("url", f"amqp://u:{PASSWORD}@host//"),
        ("url", f"amqp://u:{PASSWORD}@host/a/b"),
        ("url", f"amqps://u:{PASSWORD}@host/?no_verify_ssl=1"),
        ("url", f"amqp://host#{PASSWORD}"),
        ("exchange", "x" * 128),
        ("routing_key", "x" * 256),
        ("mode", "batched"),
        ("unknown", PASSWORD),
    ],
)
def test_a_wrong_option_is_refused_by_name_and_not_shown(option: str, value: object) -> None:
    """The error names the option and does not repeat what was given."""
    with pytest.raises(ValidationError) as caught:
        AmqpOptions.model_validate({"name": "it", "url": "amqp://host", "routing_key": "q", option: value})

    [error] = caught.value.errors(include_input=False, include_url=False)
    assert error["loc"] == (option,)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [{"routing_key": ""}, {"tls_ca": "/file"}, {"tls_cert": "/file"}, {"url": "amqps://host", "tls_key": "/file"}],
)
def test_options_that_do_not_go_together_are_refused(given: dict[str, str]) -> None:
    """Before anything is connected."""
    with pytest.raises(ValidationError):
        AmqpOptions.model_validate({"name": "it", "url": "amqp://host", "routing_key": "q", **given})


@pytest.mark.parametrize("url", ["amqp://host", "amqp://host:1/", "amqps://us%40er:p%2Fw@[::1]:5671/a%2Fb"])
async def test_a_right_address_is_taken(url: str) -> None:
    """With an empty routing key too, where there is an exchange."""
    await amqp_side.sink_to(url, exchange="e", routing_key="").close()
