"""The `amqp` sink itself, and its connection, which has one channel and is used until it breaks; then comes a new one."""

import asyncio
import logging
import re
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar, Self

from aio_pika import Connection, DeliveryMode
from aio_pika import Message as Outgoing
from aio_pika.abc import AbstractChannel, AbstractExchange
from aio_pika.connection import make_url
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq import exceptions
from aiormq.connection import TransportFactory

from receiver.core.envelope import CONTENT_TYPE, Message
from receiver.sinks.amqp import AmqpOptions
from receiver.sinks.base import Again, Done, Down, Never, Outcome, SinkError
from receiver.sinks.connecting import BROKEN, Kept, abort

HEARTBEAT = 30
"""Seconds; after three without a sign of the other side the connection is given up."""
GOODBYE = 1.0
"""Seconds that a connection may take to be closed in good order."""
_TOO_LARGE = re.compile(r"message size (\d+) is larger than configured max size (\d+)")
"""What RabbitMQ says of a message that is over its `max_message_size`."""

for _name in ("aiormq", "aio_pika"):
    # They warn of each failure, addresses and all. What it comes to is told by the outcomes.
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class Late(Exception):
    """No confirm in time. `blocked`: the server has told that it takes nothing just now."""

    def __init__(self, *, blocked: bool) -> None:
        super().__init__()
        self.blocked = blocked


class _Transport(TransportFactory):
    """Opens what the client speaks over, and can end it at once."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._writer: asyncio.StreamWriter | None = None

    async def create(self, url: Any, **_: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        goodbye = None if self._tls is None else GOODBYE
        reader, self._writer = await asyncio.open_connection(
            url.host, url.port, ssl=self._tls, ssl_shutdown_timeout=goodbye
        )
        return reader, self._writer

    def abort(self) -> None:
        """The other side may have gone without a word, and would never read what is left."""
        if self._writer is not None:
            abort(self._writer)


class Link:
    """A connection and its channel."""

    _channel: AbstractChannel
    _exchange: AbstractExchange

    def __init__(self, options: AmqpOptions) -> None:
        self._options = options
        url = make_url(options.url.get_secret_value(), heartbeat=HEARTBEAT)
        self._transport = _Transport(options.tls_context() if options.needs_tls else None)
        self._connection = Connection(url, client_properties={"connection_name": "runflow-receiver"})
        self._connection.kwargs["transport_factory"] = self._transport
        self._is_open = False

    @classmethod
    async def to(cls, options: AmqpOptions) -> Self:
        """A new one, connected. Raises `SinkError` with the reason why not."""
        link = cls(options)
        try:
            await link._connect()
        except CONNECTION_EXCEPTIONS as error:
            raise SinkError(_why(error, options)) from error
        finally:
            if not link.is_open:
                await link.close()
        return link

    async def _connect(self) -> None:
        await self._connection.connect()
        self._channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        name = self._options.exchange
        self._exchange = (
            await self._channel.get_exchange(name, ensure=False) if name else self._channel.default_exchange
        )
        self._is_open = True

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self._is_open and self._connection.connected.is_set() and not self._channel.is_closed

    async def publish(self, messages: Sequence[Outgoing], deadline: float) -> list[BaseException | None]:
        """Publishes all and waits for the confirm of each, or until the time is up: then the connection is given up.

        None is confirmed; else the client's error, or `Late`.
        """
        tasks = [
            asyncio.create_task(self._exchange.publish(message, self._options.routing_key, mandatory=True))
            for message in messages
        ]
        blocked = False
        try:
            _, late = await asyncio.wait(tasks, timeout=deadline - asyncio.get_running_loop().time())
            if late:
                blocked = await self._is_blocked()
                self._transport.abort()  # no good order: the other side may have gone
                await self.close()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return [Late(blocked=blocked) if task in late else _error(task) for task in tasks]

    async def _is_blocked(self) -> bool:
        """Whether the server has told that it takes nothing: the client is not ready then."""
        if self._connection.transport is None:
            return False
        ready = asyncio.ensure_future(self._connection.transport.ready())
        done, _ = await asyncio.wait({ready}, timeout=0)
        ready.cancel()
        return not done

    async def look(self) -> None:
        """Looks whether the exchange is there, or the queue. Raises the client's errors."""
        if self._options.exchange:
            await self._channel.get_exchange(self._options.exchange, ensure=True)
        else:
            await self._channel.get_queue(self._options.routing_key, ensure=True)

    async def close(self) -> None:
        """In good order if that is quick, else at once."""
        self._is_open = False
        with suppress(TimeoutError, *CONNECTION_EXCEPTIONS):
            async with asyncio.timeout(GOODBYE):
                await self._connection.close()
        self._transport.abort()


def _error(task: "asyncio.Task[Any]") -> BaseException | None:
    """What a publish that has ended came to. The client cancels those that a closed connection leaves behind."""
    return exceptions.ConnectionClosed(0, BROKEN) if task.cancelled() else task.exception()


def _why(error: BaseException, options: AmqpOptions) -> str:
    if isinstance(error, exceptions.ProbableAuthenticationError):
        return "it does not know our user or password"
    if isinstance(error, exceptions.InvalidFrameError) and "Connection.Close" in str(error):
        # What it says in the place of yes; the client takes no closer look.
        return "the virtual host is not there, or not open to our user, or a limit of it is reached"
    return options.why_not_connected(error)


class AmqpSink:
    """Done is a publisher confirm: a durable queue has the message on its disk, a quorum queue on most of its disks."""

    batch: ClassVar[int] = 100

    def __init__(self, options: AmqpOptions) -> None:
        self._options = options
        self._links = Kept(lambda: Link.to(options))

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Publishes all, then waits for the confirm of each."""
        deadline = self._deadline()
        try:
            link = await self._links.get(deadline)
        except SinkError as error:
            return [Down(str(error))] * len(messages)
        outgoing = [self._written(message) for message in messages]
        errors = await link.publish(outgoing, deadline)
        outcomes = [self._outcome(error, each) for each, error in zip(outgoing, _told(errors), strict=True)]
        return _agreed(messages, outcomes)

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._options.timeout

    def _written(self, message: Message) -> Outgoing:
        structured = self._options.mode == "structured"
        attributes = {} if structured else message.attributes
        return Outgoing(
            message.cloud_event if structured else message.data,
            content_type=CONTENT_TYPE if structured else attributes.pop("datacontenttype"),
            headers={f"cloudEvents:{name}": text for name, text in attributes.items()},
            message_id=message.key,
            type=message.type,
            delivery_mode=DeliveryMode.PERSISTENT,
        )

    def _outcome(self, error: BaseException | None, outgoing: Outgoing) -> Outcome:
        match error:
            case None:
                return Done()
            case Late(blocked=True):
                return Down("it has an alarm: it takes nothing until it has memory or disk space again")
            case Late():
                return Again("no answer in time")
            case exceptions.ChannelPreconditionFailed() if size := _TOO_LARGE.search(str(error)):
                return _over(size, outgoing)
            case _:
                return Down(self._why(error))

    def _why(self, error: BaseException) -> str:
        options = self._options
        match error:
            case exceptions.PublishError() if options.exchange:
                return f"no queue is bound to {options.target} with the routing key {options.routing_key!r}"
            case exceptions.PublishError() | exceptions.ChannelNotFoundEntity():
                return f"there is no {options.target}"
            case exceptions.DeliveryError():
                return "it did not accept the message: a queue is full, or too few of its replicas are there"
            case exceptions.ChannelAccessRefused():
                return f"our user may not write to {options.target}"
            case _:
                return BROKEN

    async def check(self) -> str:
        """Looks whether the exchange is there, or the queue. Whether a queue is bound to an exchange cannot be asked."""
        deadline = self._deadline()
        link = await self._links.get(deadline)
        try:
            async with asyncio.timeout_at(deadline):
                await link.look()
        except TimeoutError as error:
            raise SinkError("no answer in time") from error
        except CONNECTION_EXCEPTIONS as error:
            raise SinkError(self._why(error)) from error
        return f"answers; the {self._options.target} is there"

    async def close(self) -> None:
        """Closes the connection."""
        await self._links.close()


def _told(errors: Sequence[BaseException | None]) -> list[BaseException | None]:
    """The first to learn that the channel was closed is told why, and the others only that it was: now all are told why."""
    why = next((error for error in errors if isinstance(error, exceptions.ChannelClosed)), None)
    return [why or error if isinstance(error, exceptions.ChannelInvalidStateError) else error for error in errors]


def _over(limit: re.Match[str], outgoing: Outgoing) -> Again | Never:
    """The server closes the channel over one message; the others on it were in its way."""
    size, most = map(int, limit.groups())
    if len(outgoing.body) != size:
        return Again("another message was too large, and the server closed the channel")
    return Never(f"the message has {size} bytes, more than the server's max_message_size = {most}")


def _agreed(messages: Sequence[Message], outcomes: Sequence[Outcome]) -> list[Outcome]:
    """One outcome for each key: the client tells what was returned by `message_id`, and may take a repeat for the other."""
    not_done = {
        message.key: each for message, each in zip(messages, outcomes, strict=True) if not isinstance(each, Done)
    }
    return [not_done.get(message.key, each) for message, each in zip(messages, outcomes, strict=True)]
