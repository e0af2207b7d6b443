"""`nats`: what stands in the stream, how repeats are dropped, and which options are taken."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from pydantic import ValidationError

from receiver.core.envelope import CONTENT_TYPE, Message
from receiver.sinks.base import Done, Down, Never, SinkError
from receiver.sinks.nats import Access, NatsOptions
from tests.sinks import nats_side
from tests.sinks.destinations import PASSWORD
from tests.sinks.messages import full_verdict, message, read_back_as
from tests.sinks.nats_side import LARGEST, NatsServer, Stored, jetstream_at, make_stream
from tests.sinks.servers import LONG, nobody_listens


class Own(NamedTuple):
    """A stream that nobody else uses, on the shared server."""

    url: str
    stream: str

    @property
    def subject(self) -> str:
        """What it takes."""
        return f"to.{self.stream}"

    def sink(self, **changes: Any) -> Any:
        """A sink that leads there."""
        return nats_side.sink_to(changes.pop("url", self.url), subject=self.subject, **changes)

    async def stored(self) -> list[Stored]:
        """All that is in it."""
        return await nats_side.stored(self.url, self.stream)


@pytest.fixture
async def own(nats_server: NatsServer) -> AsyncIterator[Own]:
    """Not made yet; gone afterwards."""
    own = Own(nats_server.url, f"test-{uuid.uuid4()}")
    yield own
    async with jetstream_at(own.url) as jetstream:
        for info in await jetstream.streams_info():
            if info.config.name == own.stream:
                await jetstream.delete_stream(own.stream)


async def test_structured_it_is_the_envelope(own: Own) -> None:
    """The key stands where the stream looks for it, the content type says what it is; the outcome names the entry."""
    await make_stream(own.url, own.stream, own.subject)
    sink = own.sink()
    sent = message(revision=2, replay_id="r1")
    [outcome] = await sink.send([sent])
    await sink.close()

    [found] = await own.stored()
    assert outcome == Done(f"{own.stream}:1")
    assert found.body == sent.cloud_event
    assert found.headers == {"Nats-Msg-Id": f"{sent.id}:r1", "Content-Type": CONTENT_TYPE}


async def test_binary_it_is_the_verdict_with_the_rest_in_headers(own: Own) -> None:
    """As the binding has it, also where a text is none that a header could hold."""
    await make_stream(own.url, own.stream, own.subject)
    sink = own.sink(mode="binary")
    sent = Message(full_verdict(), 'https://api.example/a "b" 100% é 🙂', "r1")
    await sink.send([sent])
    await sink.close()

    [found] = await own.stored()
    assert found.id == sent.key
    assert found.body == sent.data
    headers = {name: text for name, text in found.headers.items() if name != "Nats-Msg-Id"}
    assert all(text.isascii() and " " not in text for text in headers.values())
    assert {name: unquote(text) for name, text in headers.items()} == {
        f"ce-{name}": text for name, text in sent.attributes.items()
    }


@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_the_librarys_own_reader_finds_the_same_event(own: Own, mode: str) -> None:
    """The binding names and writes headers as that for HTTP does, and the library has a reader for that one."""
    await make_stream(own.url, own.stream, own.subject)
    sink = own.sink(mode=mode)
    sent = message(1, replay_id="r1", client_ref="é ﷽ \n")
    await sink.send([sent])
    await sink.close()

    [found] = await own.stored()
    headers = {name.replace("ce-datacontenttype", "content-type"): text for name, text in found.headers.items()}
    read_back_as(from_http_event(HTTPMessage(headers, found.body)), sent)


async def test_a_repeat_from_another_process_adds_nothing(own: Own) -> None:
    """20 senders of one message at once: it is there once, and all are told where."""
    await make_stream(own.url, own.stream, own.subject)
    sinks = [own.sink() for _ in range(20)]
    outcomes = [outcome for [outcome] in await asyncio.gather(*(sink.send([message()]) for sink in sinks))]
    for sink in sinks:
        await sink.close()

    assert set(outcomes) == {Done(f"{own.stream}:1")}
    assert [each.id for each in await own.stored()] == [message().key]


async def test_a_message_is_forgotten_after_the_streams_window(own: Own) -> None:
    """From then on a repeat is an entry of its own."""
    await make_stream(own.url, own.stream, own.subject, duplicate_window=0.1)
    sink = own.sink()
    outcomes = await sink.send([message(), message()])
    async with asyncio.timeout(LONG):
        while (again := await sink.send([message()])) == outcomes[:1]:
            pass
    await sink.close()

    assert outcomes == [Done(f"{own.stream}:1")] * 2
    assert again == [Done(f"{own.stream}:2")]


async def test_what_is_too_large_is_never_taken_and_spoils_no_other(own: Own) -> None:
    """Over the server's limit it is not sent, over the stream's it is refused; both say so, and the rest of a batch is done."""
    await make_stream(own.url, own.stream, own.subject, max_msg_size=10_000)
    sink = own.sink()
    batch = [message(1), message(2, generation_prompt="x" * LARGEST), message(3, task_type="x" * 10_000), message(4)]
    outcomes = await sink.send(batch)
    await sink.close()

    headers = len(f"NATS/1.0\r\nNats-Msg-Id: {batch[1].key}\r\nContent-Type: {CONTENT_TYPE}\r\n\r\n")
    sizes = [len(each.cloud_event) + headers for each in batch]
    assert outcomes == [
        Done(f"{own.stream}:1"),
        Never(f"the message has {sizes[1]} bytes, more than the server's max_payload = {LARGEST}"),
        Never(f"the message has {sizes[2]} bytes, more than the stream's max_msg_size"),
        Done(f"{own.stream}:2"),
    ]


async def test_headers_count_as_the_server_counts_them(own: Own) -> None:
    """A message of exactly the server's limit arrives; with one byte more it is told, and the connection stays."""
    await make_stream(own.url, own.stream, own.subject)
    sink = own.sink()
    headers = len(f"NATS/1.0\r\nNats-Msg-Id: {message().key}\r\nContent-Type: {CONTENT_TYPE}\r\n\r\n")
    room = LARGEST - headers - len(message(generation_prompt="").cloud_event)
    [over] = await sink.send([message(generation_prompt="x" * (room + 1))])
    [full] = await sink.send([message(generation_prompt="x" * room)])
    await sink.close()

    assert isinstance(over, Never)
    assert full == Done(f"{own.stream}:1")


async def test_without_a_stream_it_is_down_and_says_what_to_do(own: Own) -> None:
    """Nothing is sent into the void; once the stream is there, the same sink goes on."""
    sink = own.sink()
    outcomes = await sink.send([message(1), message(2)])
    with pytest.raises(SinkError) as caught:
        await sink.check()
    await make_stream(own.url, own.stream, own.subject)
    after = await sink.send([message(1), message(2)])
    await sink.close()

    assert {type(outcome) for outcome in outcomes} == {Down}
    assert outcomes[0].reason == str(caught.value)
    assert outcomes[0].reason.startswith(f"no stream takes the subject {own.subject}")
    assert after == [Done(f"{own.stream}:1"), Done(f"{own.stream}:2")]


@pytest.mark.parametrize(("storage", "kept"), [("file", "on disk"), ("memory", "in memory only")])
async def test_a_check_tells_the_stream_and_its_window(own: Own, storage: str, kept: str) -> None:
    """How long it remembers and where it keeps things decide what done is worth."""
    await make_stream(own.url, own.stream, own.subject, storage=storage, duplicate_window=3600)
    sink = own.sink()
    found = await sink.check()
    await sink.close()

    assert (
        found == f"the stream {own.stream} takes {own.subject}, keeps it {kept} (replicas: 1), remembers ids for 3600 s"
    )


async def test_another_of_several_servers_does_as_well(own: Own) -> None:
    """Where one refuses, the next is tried."""
    await make_stream(own.url, own.stream, own.subject)
    with nobody_listens() as refusing:
        sink = own.sink(url=f"nats://127.0.0.1:{refusing}, {own.url}")
        [outcome] = await sink.send([message()])
        await sink.close()

    assert outcome == Done(f"{own.stream}:1")


@pytest.mark.parametrize(
    ("url", "servers", "access"),
    [
        ("nats://host", ["nats://host:4222"], Access()),
        ("nats://[::1]:1/", ["nats://[::1]:1"], Access()),
        ("tls://user:p%40%2F%25ss@host:1", ["tls://host:1"], Access("user", "p@/%ss")),
        ("nats://user:@host", ["nats://host:4222"], Access("user", "")),
        ("nats://t%2Fken@a:1,nats://b", ["nats://a:1", "nats://b:4222"], Access(token="t/ken")),
    ],
)
def test_a_right_address_is_taken_apart(url: str, servers: list[str], access: Access) -> None:
    """What is secret is no part of what the client is told to connect to."""
    options = NatsOptions.model_validate({"name": "it", "url": url, "subject": "s"})

    assert options.servers == servers
    assert options.access == access


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("url", f"http://{PASSWORD}/"),
        ("url", f"nats:///{PASSWORD}"),
        ("url", f"nats://u:{PASSWORD}@host:port"),
        ("url", f"nats://u:{PASSWORD}@[host"),
        ("url", f"nats://u:{PASSWORD}@host:0"),
        ("url", f"nats://u:{PASSWORD}@a..b"),
        ("url", f"nats://u:{PASSWORD}@host/path"),
        ("url", f"nats://host?token={PASSWORD}"),
        ("url", f"nats://host#{PASSWORD}"),
        ("url", f"nats://{PASSWORD}@a,tls://b"),
        ("url", f"nats://a,nats://u:{PASSWORD}@b"),
        ("url", f"nats://{PASSWORD}@a,"),
        ("subject", ""),
        ("subject", "a b"),
        ("subject", "a..b"),
        ("subject", "a.*"),
        ("subject", ">"),
        ("subject", "$JS.API"),
        ("mode", "batched"),
        ("unknown", PASSWORD),
    ],
)
def test_a_wrong_option_is_refused_by_name_and_not_shown(option: str, value: object) -> None:
    """The error names the option and does not repeat what was given."""
    with pytest.raises(ValidationError) as caught:
        NatsOptions.model_validate({"name": "it", "url": "nats://host", "subject": "s", option: value})

    [error] = caught.value.errors(include_input=False, include_url=False)
    assert error["loc"] == (option,)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"url": f"nats://u:{PASSWORD}@host", "creds": "/file"},
        {"url": f"nats://{PASSWORD}@host", "nkey": "/file"},
        {"creds": "/file", "nkey": "/file"},
        {"tls_ca": "/file"},
        {"url": "tls://host", "tls_key": "/file"},
    ],
)
def test_options_that_do_not_go_together_are_refused(given: dict[str, str]) -> None:
    """Before anything is connected."""
    with pytest.raises(ValidationError) as caught:
        NatsOptions.model_validate({"name": "it", "url": "nats://host", "subject": "s", **given})

    assert PASSWORD not in str(caught.value)
