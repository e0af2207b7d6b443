"""The `nats` sink itself, and its connection, which is used until it breaks; then comes a new one.

The client's own way of going on after a break is off: it would hold messages back meanwhile, and tell nobody.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Self
from urllib.parse import quote

import nkeys
from nats import errors
from nats.aio.client import Client, RawCredentials
from nats.aio.transport import TcpTransport
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError, ServiceUnavailableError

from receiver.core.envelope import CONTENT_TYPE, Message
from receiver.sinks.base import Again, Done, Down, Never, Outcome, SinkError
from receiver.sinks.connecting import BROKEN, NOT_IN_TIME, Kept, why_not_connected
from receiver.sinks.nats import NatsOptions

MESSAGE_ID = "Nats-Msg-Id"
"""The header by which a stream drops repeats."""
_SAFE = "".join(map(chr, range(0x21, 0x7F))).replace('"', "").replace("%", "")
"""What stands for itself in a header (section 3.1.3.2 of the binding)."""
_NO_STREAM = "no stream takes the subject {}, or JetStream is not on; make one, as with: nats stream add --subjects {}"
_TOO_LARGE = 10054
_TROUBLES = {
    10002: "the account's limits are reached",
    10023: "JetStream has too few resources left",
    10028: "the account's memory for streams is full",
    10039: "JetStream is not on for this account",
    10047: "the disk space for streams is full",
    10076: "JetStream is not on",
    10077: "the stream is full",
    10109: "the stream is sealed",
}
"""Error codes (github.com/nats-io/nats-server/blob/main/server/errors.json) that are not the message's fault."""
PING_EVERY = 30
"""Seconds between two looks whether the other side is still there; after two without an answer the connection is given up."""
_ENDLESS = 2**40
"""Bytes that may wait to be written, and messages that may wait for an answer: what is under way is bounded by the lane."""


class _Transport(TcpTransport):
    """Closed at once: the other side may have gone without a word, and would never read what is left."""

    def close(self) -> None:
        if self._io_writer is not None:
            self._io_writer.transport.abort()

    def __bool__(self) -> bool:
        return True  # else the client takes one of its own


class _Client(Client):
    def __init__(self, *, needs_tls: bool) -> None:
        super().__init__()
        self._needs_tls = needs_tls
        self._transport = _Transport()  # type: ignore[no-untyped-call]

    def _connect_command(self) -> bytes:
        """What is sent first. The client goes on without TLS if the server offers none, password and all."""
        if self._needs_tls and not self._server_info.get("tls_required"):
            raise errors.SecureConnWantedError
        return super()._connect_command()

    async def cut(self) -> None:
        """Closes it without waiting until all is written."""
        self._pending = []
        self._pending_data_size = 0
        await self.close()


class Link:
    """A connection, and the acknowledgements that are waited for on it."""

    def __init__(self, options: NatsOptions) -> None:
        self._client = _Client(needs_tls=options.needs_tls)
        self._jetstream = JetStreamContext(self._client, timeout=options.timeout, publish_async_max_pending=_ENDLESS)
        self._waiting: set[asyncio.Future[Any]] = set()
        self._trouble: Exception | None = None
        self._ended = asyncio.Event()
        self._reason = BROKEN

    @classmethod
    async def to(cls, options: NatsOptions) -> Self:
        """A new one, connected. Raises `SinkError` with the reason why not."""
        link = cls(options)
        try:
            await link._connect(options)
        except (OSError, errors.Error, nkeys.NkeysError, ValueError) as error:
            raise SinkError(link._why(error)) from error
        finally:
            if not link.is_open:
                await link.close()
        return link

    async def _connect(self, options: NatsOptions) -> None:
        credentials = options.credentials()
        await self._client.connect(
            servers=options.servers,
            name="runflow-receiver",
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=options.timeout,  # type: ignore[arg-type]  # seconds, and it takes parts of them too
            ping_interval=PING_EVERY,
            pending_size=_ENDLESS,
            tls=options.tls_context(),
            user_credentials=None if credentials is None else RawCredentials(credentials),
            nkeys_seed_str=options.seed(),
            error_cb=self._heard,
            closed_cb=self._closed,
            **options.access._asdict(),
        )
        if not self._client.is_connected:  # it hung up in the middle of the greeting, which the client passes over
            raise errors.ConnectionClosedError

    def _why(self, error: Exception) -> str:
        cause = self._trouble if isinstance(error, errors.NoServersError) and self._trouble else error
        said = str(cause).lower()
        if isinstance(cause, TimeoutError):
            return NOT_IN_TIME
        if isinstance(cause, errors.SecureConnWantedError):
            return "it offers no TLS, which tls:// asks for"
        if "authorization" in said or "authentication" in said:
            return "it does not know our user, password, token or key"
        if isinstance(cause, nkeys.NkeysError | ValueError):
            return "creds, nkey: the seed in the file is none"
        if isinstance(cause, errors.ConnectionClosedError):
            return "it hung up at once; it may want a certificate of ours (tls_cert)"
        return why_not_connected(cause)

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return not self._ended.is_set() and self._client.is_connected

    @property
    def max_payload(self) -> int:
        """Bytes of headers and body that the server takes at most."""
        return self._client.max_payload

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str]) -> asyncio.Future[api.PubAck]:
        """Hands it to the client; its acknowledgement is to come. Raises `SinkError` if the connection has ended."""
        try:
            ack = await self._jetstream.publish_async(subject, body, headers=dict(headers))
        except errors.Error as error:
            raise SinkError(self._reason) from error
        self._waiting.add(ack)
        ack.add_done_callback(self._waiting.discard)
        return ack

    async def answered(self, acks: Sequence[asyncio.Future[api.PubAck]], deadline: float) -> None:
        """Waits until each has its answer, or the time is up: then the rest is cancelled, and the connection given up."""
        try:
            if acks:
                await asyncio.wait(acks, timeout=deadline - asyncio.get_running_loop().time())
        finally:
            late = [ack for ack in acks if ack.cancel()]
        if late:
            await self.close()

    async def stream_of(self, subject: str) -> str | None:
        """Which stream takes the subject, and how it keeps it, for people; None if we may not ask.

        Raises the client's errors.
        """
        asking = asyncio.create_task(self._ask(subject))
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({asking, ended}, return_when=asyncio.FIRST_COMPLETED)
            return await asking if asking.done() else None
        finally:
            for task in (asking, ended):
                task.cancel()
            await asyncio.gather(asking, ended, return_exceptions=True)

    async def _ask(self, subject: str) -> str:
        stream = await self._jetstream.find_stream_name_by_subject(subject)
        config = (await self._jetstream.stream_info(stream)).config
        kept = "in memory only" if config.storage == api.StorageType.MEMORY else "on disk"
        copies = f"{config.num_replicas or 1} time{'s' if (config.num_replicas or 1) > 1 else ''}"
        return f"the stream {stream} takes {subject}, keeps it {copies} {kept}, remembers ids for {config.duplicate_window:g} s"

    async def _heard(self, error: Exception) -> None:
        """What the client tells beside its answers."""
        self._trouble = error
        if match := re.search(r"permissions violation for (publish|subscription)", str(error)):
            what = "publish to the subject" if match[1] == "publish" else "subscribe to _INBOX.>, where answers come"
            self._reason = f"our user may not {what}"
            await self.close()

    async def _closed(self) -> None:
        self._end()

    def _end(self) -> None:
        self._ended.set()
        for ack in [each for each in self._waiting if not each.done()]:
            ack.set_exception(SinkError(self._reason))

    async def close(self) -> None:
        """At once. What still waits for an answer is told the reason."""
        self._end()
        with suppress(OSError):
            await self._client.cut()


class NatsSink:
    """Done is the stream's acknowledgement. How durable that is, the stream's storage and replicas decide."""

    batch: ClassVar[int] = 100

    def __init__(self, options: NatsOptions) -> None:
        self._options = options
        self._links = Kept(lambda: Link.to(options))

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Publishes all, then waits for the acknowledgement of each."""
        deadline = self._deadline()
        try:
            link = await self._links.get(deadline)
        except SinkError as error:
            return [Down(str(error))] * len(messages)
        sent = [await self._publish(link, message) for message in messages]
        await link.answered([ack for ack in sent if isinstance(ack, asyncio.Future)], deadline)
        return [self._outcome(each) if isinstance(each, asyncio.Future) else each for each in sent]

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._options.timeout

    async def _publish(self, link: Link, message: Message) -> asyncio.Future[api.PubAck] | Never | Down:
        body, headers = self._written(message)
        size = len(body) + len(b"NATS/1.0\r\n\r\n") + sum(len(f"{name}: {text}\r\n") for name, text in headers.items())
        if size > link.max_payload:  # the server would end the connection over it, and with it all that is under way
            return Never(f"the message has {size} bytes, more than the server's max_payload = {link.max_payload}")
        try:
            return await link.publish(self._options.subject, body, headers)
        except SinkError as error:
            return Down(str(error))

    def _written(self, message: Message) -> tuple[bytes, Mapping[str, str]]:
        if self._options.mode == "structured":
            return message.cloud_event, {MESSAGE_ID: message.key, "Content-Type": CONTENT_TYPE}
        headers = {f"ce-{name}": quote(text, safe=_SAFE) for name, text in message.attributes.items()}
        return message.data, {MESSAGE_ID: message.key, **headers}

    def _outcome(self, ack: asyncio.Future[api.PubAck]) -> Outcome:
        if ack.cancelled():
            return Again("no answer in time")
        error = ack.exception()
        return Done(f"{ack.result().stream}:{ack.result().seq}") if error is None else self._failed(error)

    def _failed(self, error: BaseException) -> Outcome:
        if isinstance(error, SinkError):
            return Down(str(error))
        if isinstance(error, NoStreamResponseError):
            return Down(self._no_stream)
        if isinstance(error, APIError):
            return self._refused(error.err_code or 0, error.code or 0)
        return Again(f"the client failed ({type(error).__name__})")

    def _refused(self, code: int, status: int) -> Outcome:
        if code == _TOO_LARGE:
            return Never("the message is larger than the stream's max_msg_size")
        if code in _TROUBLES:
            return Down(_TROUBLES[code])
        reason = f"it answered with an error ({code or status})"
        return Down(reason) if status >= 500 else Again(reason)

    @property
    def _no_stream(self) -> str:
        return _NO_STREAM.format(self._options.subject, self._options.subject)

    async def check(self) -> str:
        """Asks which stream takes the subject, and how it keeps what it is given."""
        deadline = self._deadline()
        link = await self._links.get(deadline)
        try:
            async with asyncio.timeout_at(deadline):
                stream = await link.stream_of(self._options.subject)
        except (NotFoundError, ServiceUnavailableError) as error:
            raise SinkError(self._no_stream) from error
        except TimeoutError as error:
            raise SinkError("no answer in time") from error
        except errors.Error as error:
            raise SinkError(f"it answered with an error ({type(error).__name__})") from error
        return stream or f"answers; our user may not ask which stream takes {self._options.subject}"

    async def close(self) -> None:
        """Closes the connection."""
        await self._links.close()
