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
from receiver.sinks.connecting import BROKEN, NOT_IN_TIME, Kept, abort, reset_is_an_error_of_the_connection
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
_SEED = re.compile(r".*BEGIN USER NKEY SEED-*\s+(\S+).*", re.DOTALL)
_ENDLESS = 2**40
"""Bytes that may wait to be written, and messages that may wait for an answer: what is under way is bounded by the lane."""


class _Transport(TcpTransport):
    """Closed at once: the other side may have gone without a word, and would never read what is left."""

    def close(self) -> None:
        if self._io_writer is not None:
            abort(self._io_writer)

    async def wait_closed(self) -> None:
        """Aborted is closed. Where TLS has failed, the client would wait for ever for the connection beneath to end."""
        await asyncio.sleep(0)

    def __bool__(self) -> bool:
        return True  # else the client takes one of its own


class _Client(Client):
    def __init__(self, *, needs_tls: bool) -> None:
        super().__init__()
        self._needs_tls = needs_tls
        self._transport = _Transport()  # type: ignore[no-untyped-call]  # its base, of the client, has no types

    def _connect_command(self) -> bytes:
        """What is sent first. The client goes on without TLS if the server offers none, password and all."""
        if self._needs_tls and not self._server_info.get("tls_required"):
            raise errors.SecureConnWantedError
        return super()._connect_command()

    async def cut(self) -> None:
        """Closes it without waiting until all is written."""
        self._drop_pending()
        await self.close()

    async def _process_op_err(self, e: Exception) -> None:
        """The connection has broken. The client would write what is left first, which uvloop answers with an error of its own,
        and then tell nobody."""
        self._drop_pending()
        await super()._process_op_err(e)

    def _drop_pending(self) -> None:
        self._pending = []
        self._pending_data_size = 0


def _look_at_seed(option: str, seed: str) -> None:
    """Raises `SinkError` if it is none; in the middle of a connection it would be a riddle."""
    try:
        nkeys.from_seed(bytearray(seed.encode())).wipe()
    except (nkeys.NkeysError, ValueError) as error:
        raise SinkError(f"{option}: the seed in the file is none") from error


class Link:
    """A connection, and what is under way on it."""

    def __init__(self, options: NatsOptions) -> None:
        self._options = options
        credentials, seed = options.credentials(), options.seed()
        if credentials is not None:
            _look_at_seed("creds", _SEED.sub(r"\1", credentials))
        if seed is not None:
            _look_at_seed("nkey", seed)
        self._shown: dict[str, Any] = {
            **options.access._asdict(),
            "user_credentials": None if credentials is None else RawCredentials(credentials),
            "nkeys_seed_str": seed,
            "tls": options.tls_context(),
        }
        self._client = _Client(needs_tls=options.needs_tls)
        self._jetstream = JetStreamContext(self._client, timeout=_ENDLESS)
        self._trouble: Exception | None = None
        self._ended = asyncio.Event()
        self._reason = BROKEN

    @classmethod
    async def to(cls, options: NatsOptions) -> Self:
        """A new one, connected. Raises `SinkError` with the reason why not."""
        link = cls(options)
        try:
            with reset_is_an_error_of_the_connection():
                await link._connect()
        except (OSError, errors.Error, ValueError) as error:
            raise SinkError(link._why(error)) from error
        finally:
            if not link.is_open:
                await link.close()
        return link

    async def _connect(self) -> None:
        await self._client.connect(
            servers=self._options.servers,
            name="runflow-receiver",
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=self._options.timeout,  # type: ignore[arg-type]  # seconds, and it takes parts of them too
            ping_interval=PING_EVERY,
            pending_size=_ENDLESS,
            error_cb=self._heard,
            closed_cb=self._closed,
            **self._shown,
        )
        if not self._client.is_connected:  # it hung up in the middle of the greeting, which the client passes over
            raise ConnectionResetError

    def _why(self, error: Exception) -> str:
        cause = self._trouble if isinstance(error, errors.NoServersError) and self._trouble else error
        said = str(cause).lower()
        if isinstance(cause, TimeoutError):
            return NOT_IN_TIME
        if isinstance(cause, errors.SecureConnWantedError):
            return "it offers no TLS, which tls:// asks for"
        if "authorization" in said or "authentication" in said:
            return "it does not know our user, password, token or key"
        return self._options.why_not_connected(cause)

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return not self._ended.is_set() and self._client.is_connected

    @property
    def max_payload(self) -> int:
        """Bytes of headers and body that the server takes at most."""
        return self._client.max_payload

    async def publish(
        self, subject: str, outgoing: Sequence[tuple[bytes, dict[str, str]]], deadline: float
    ) -> list[api.PubAck | BaseException]:
        """Publishes all, in order, and waits for the acknowledgement of each, or until the time is up.

        Then the connection is given up, and what is left ends with a TimeoutError; a SinkError tells why it has ended before.
        """
        # Not its `publish_async`: that loses what a stream refuses.
        tasks = [
            asyncio.create_task(self._jetstream.publish(subject, body, headers=headers)) for body, headers in outgoing
        ]
        await self._while_open(tasks, deadline)
        if late := not self._ended.is_set() and any(task.cancelled() for task in tasks):
            await self.close()
        missing = TimeoutError() if late else SinkError(self._reason)
        return [missing if task.cancelled() else task.exception() or task.result() for task in tasks]

    async def _while_open(self, tasks: "Sequence[asyncio.Task[Any]]", deadline: float) -> None:
        """Waits until all have ended, or the connection has, or the time is up, and cancels what is left."""
        ended = asyncio.create_task(self._ended.wait())
        together = asyncio.gather(*tasks, return_exceptions=True)
        try:
            remaining = deadline - asyncio.get_running_loop().time()
            watched: list[asyncio.Future[Any]] = [together, ended]
            await asyncio.wait(watched, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left: list[asyncio.Task[Any]] = [ended, *tasks]
            for task in left:
                task.cancel()
            await asyncio.wait(left)

    async def stream_of(self, subject: str, deadline: float) -> str | None:
        """Which stream takes the subject, and how it keeps it, for people; None if we may not ask.

        Raises `SinkError`, TimeoutError and the client's errors.
        """
        asking = asyncio.create_task(self._ask(subject))
        await self._while_open([asking], deadline)
        if not asking.cancelled():
            return asking.result()
        if not self._ended.is_set():
            raise TimeoutError
        if self._reason == BROKEN:
            raise SinkError(BROKEN)
        return None

    async def _ask(self, subject: str) -> str:
        stream = await self._jetstream.find_stream_name_by_subject(subject)
        config = (await self._jetstream.stream_info(stream)).config
        kept = "in memory only" if config.storage == api.StorageType.MEMORY else "on disk"
        return (
            f"the stream {stream} takes {subject}, keeps it {kept} (replicas: {config.num_replicas or 1}), "
            f"remembers ids for {config.duplicate_window:g} s"
        )

    async def _heard(self, error: Exception) -> None:
        """What the client tells beside its answers."""
        self._trouble = error
        if match := re.search(r"permissions violation for (publish|subscription)", str(error)):
            what = "publish to the subject" if match[1] == "publish" else "subscribe to _INBOX.>, where answers come"
            self._reason = f"our user may not {what}"
            await self.close()

    async def _closed(self) -> None:
        self._ended.set()

    async def close(self) -> None:
        """At once. What is under way is told the reason."""
        self._ended.set()
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
        written = [self._written(message) for message in messages]
        sizes = [_size(*each) for each in written]
        fitting = [each for each, size in zip(written, sizes, strict=True) if size <= link.max_payload]
        answers = iter(await link.publish(self._options.subject, fitting, deadline))
        return [
            self._outcome(next(answers), size) if size <= link.max_payload else _too_large(size, link.max_payload)
            for size in sizes
        ]

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._options.timeout

    def _written(self, message: Message) -> tuple[bytes, dict[str, str]]:
        if self._options.mode == "structured":
            return message.cloud_event, {MESSAGE_ID: message.key, "Content-Type": CONTENT_TYPE}
        headers = {f"ce-{name}": quote(text, safe=_SAFE) for name, text in message.attributes.items()}
        return message.data, {MESSAGE_ID: message.key, **headers}

    def _outcome(self, answer: api.PubAck | BaseException, size: int) -> Outcome:
        match answer:
            case api.PubAck(stream=stream, seq=seq):
                return Done(f"{stream}:{seq}")
            case SinkError():
                return Down(str(answer))
            case TimeoutError():
                return Again("no answer in time")
            case NoStreamResponseError():
                return Down(self._no_stream)
            case APIError(err_code=code, code=status):
                return _refused(code or 0, status or 0, size)
            case errors.ConnectionClosedError():
                return Down(BROKEN)
            case _:
                return Again(f"the client failed ({type(answer).__name__})")

    @property
    def _no_stream(self) -> str:
        return _NO_STREAM.format(self._options.subject, self._options.subject)

    async def check(self) -> str:
        """Asks which stream takes the subject, and how it keeps what it is given."""
        deadline = self._deadline()
        link = await self._links.get(deadline)
        try:
            stream = await link.stream_of(self._options.subject, deadline)
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


def _size(body: bytes, headers: Mapping[str, str]) -> int:
    """In bytes, as the server counts."""
    return len(body) + len(b"NATS/1.0\r\n\r\n") + sum(len(f"{name}: {text}\r\n") for name, text in headers.items())


def _too_large(size: int, most: int) -> Never:
    """Looked at here: the server would end the connection over it, and with it all that is under way."""
    return Never(f"the message has {size} bytes, more than the server's max_payload = {most}")


def _refused(code: int, status: int, size: int) -> Outcome:
    if code == _TOO_LARGE:
        return Never(f"the message has {size} bytes, more than the stream's max_msg_size")
    if code in _TROUBLES:
        return Down(_TROUBLES[code])
    reason = f"it answered with an error ({code or status})"
    return Down(reason) if status >= 500 else Again(reason)
