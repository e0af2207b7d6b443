"""`redis`: adds each message to a stream (redis.io/docs/latest/develop/data-types/streams).

An entry has three fields: `id` (the message's key), `type` (the CloudEvents type) and `event` (the whole envelope as JSON).
The key of each message is remembered for a while, in one script with the entry, so that a repeat adds nothing.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import parse_qs

from pydantic import AfterValidator, Field, SecretStr

from receiver.core.envelope import Message
from receiver.sinks.base import Again, Done, Down, Outcome, SinkError, SinkOptions
from receiver.sinks.connecting import parts_of

ADD = """
local seen = redis.call('GET', KEYS[2])
if seen and seen ~= '' then return seen end
-- Remembered first: what may not be remembered must not be added, or each retry would add it again.
redis.call('SET', KEYS[2], '', 'EX', ARGV[1])
local entry
if ARGV[2] == '' then
  entry = redis.pcall('XADD', KEYS[1], '*', 'id', ARGV[3], 'type', ARGV[4], 'event', ARGV[5])
else
  entry = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'id', ARGV[3], 'type', ARGV[4], 'event', ARGV[5])
end
if type(entry) == 'table' then
  redis.call('SET', KEYS[2], '', 'PX', 1)
  return entry
end
redis.call('SET', KEYS[2], entry, 'EX', ARGV[1])
return entry
"""
"""Adds an entry, or finds the one that the same key added before: its id. xadd's own `IDMP` needs Redis 8.6.

KEYS: the stream, the key that remembers. ARGV: seconds, most entries or '', and the three fields."""

TLS_FILES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
"""What may stand in the address's query: paths of PEM files."""

_TROUBLES = {
    "NOAUTH": "it wants a password",
    "WRONGPASS": "it does not know our user or password",
    "NOPERM": "our user may not do this: it needs GET, SET, XADD, EVAL, TYPE and PING",
    "WRONGTYPE": "the stream's key, or one that remembers a message, holds something else",
    "OOM": "its memory is full",
    "READONLY": "it is a replica that takes no writes",
    "MASTERDOWN": "it is a replica without its master",
    "LOADING": "it is still loading its data",
    "MISCONF": "it cannot save to its disk, and takes no writes",
    "NOREPLICAS": "too few replicas are there, and it takes no writes",
    "BUSY": "it is busy with a script",
    "MOVED": "the stream is on another node of the cluster",
    "ASK": "the stream is moving to another node of the cluster",
    "TRYAGAIN": "the stream is moving to another node of the cluster",
    "CLUSTERDOWN": "its cluster is down",
}
"""The codes of errors that are the server's own, not the message's."""
_NOPERM_IN_SCRIPT = "The user executing the script can't"
"""How Redis 6 and 7.0 say NOPERM from inside a script."""
_CODE = re.compile(r"\b(" + "|".join(_TROUBLES) + r")\b")


def _redis_address(address: SecretStr) -> SecretStr:
    parts = parts_of(address)
    if parts is None or parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError(
            "must be redis:// or rediss:// (TLS), then [user:password@]host[:port][/database number]; "
            "in a password, anything but letters, digits and -._~ is written as %XX"
        )
    if not re.fullmatch(r"/?|/\d+", parts.path):
        raise ValueError("after the host there must be nothing or the number of a database, as in /0")
    unknown = parse_qs(parts.query, keep_blank_values=True).keys() - TLS_FILES
    if unknown or (parts.query and parts.scheme == "redis"):
        raise ValueError(f"after ? there may be {', '.join(sorted(TLS_FILES))}, and these with rediss:// only")
    return address


class RedisOptions(SinkOptions):
    """Which stream on which server, and how long messages are remembered."""

    type: Literal["redis"] = "redis"
    url: Annotated[SecretStr, AfterValidator(_redis_address)] = Field(
        description="`redis://` or `rediss://` (TLS), `[user:password@]host[:port][/database]`."
    )
    stream: str = Field(
        pattern=r"^[^{}\s]+$", max_length=512, description="The stream's key, without braces and white space."
    )
    maxlen: int | None = Field(
        default=None, gt=0, description="About how many entries are kept (`MAXLEN ~`). All if not given."
    )
    remember: int = Field(
        default=86400, gt=0, le=10**9, description="Seconds for which a message's key is remembered, to drop repeats."
    )

    def open(self, _public_url: str | None, /) -> "RedisSink":
        """The sink; messages hold no link to us."""
        return RedisSink(self)


class RedisSink:
    """Done is an entry's id. How durable that is, the server's own persistence decides."""

    batch: ClassVar[int] = 100

    def __init__(self, options: RedisOptions) -> None:
        from redis import exceptions
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self._options = options
        self._errors = exceptions
        self._redis = Redis.from_url(
            options.url.get_secret_value(),
            decode_responses=True,
            protocol=2,
            socket_timeout=options.timeout,
            socket_connect_timeout=options.timeout,
            socket_keepalive=True,
            # Once more, at once, on a new connection: the pooled one may be of before a restart. A repeat does no harm.
            retry=Retry(NoBackoff(), 1, supported_errors=(exceptions.ConnectionError,)),
        )

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Adds all in one round trip; each has an outcome of its own."""
        try:
            async with asyncio.timeout(self._options.timeout), self._redis.pipeline(transaction=False) as pipeline:
                for message in messages:
                    pipeline.eval(ADD, 2, *self._arguments(message))
                answers = await pipeline.execute(raise_on_error=False)
        except (TimeoutError, OSError, self._errors.RedisError) as error:
            await self._drop_connections()
            return [self._failed(error)] * len(messages)
        return [self._outcome(answer) for answer in answers]

    def _arguments(self, message: Message) -> tuple[str | bytes | int, ...]:
        options = self._options
        # The braces let both keys be on one node of a cluster (redis.io/docs/latest/reference/cluster-spec, hash tags).
        remembering = f"{{{options.stream}}}:seen:{message.key}"
        most = "" if options.maxlen is None else options.maxlen
        fields = (message.key, message.type, message.cloud_event)
        return options.stream, remembering, options.remember, most, *fields

    def _outcome(self, answer: Any) -> Outcome:
        return self._failed(answer) if isinstance(answer, Exception) else Done(str(answer))

    def _failed(self, error: Exception) -> Again | Down:
        if isinstance(error, TimeoutError | self._errors.TimeoutError):
            return Again("no answer in time")
        code = _code(error)
        if code in _TROUBLES:
            return Down(f"{code}: {_TROUBLES[code]}")
        if isinstance(error, self._errors.AuthenticationError):
            return Down("it does not know our user or password")
        if isinstance(error, self._errors.ConnectionError | OSError):
            return Down("no connection, or a broken one")
        return Again(f"it answered with an error ({code or type(error).__name__})")

    async def _drop_connections(self) -> None:
        """If one connection is dead, those that lie idle are as well; finding out one by one would cost a timeout each."""
        await self._redis.connection_pool.disconnect(inuse_connections=False)

    async def check(self) -> str:
        """Pings, and looks whether the key holds a stream or nothing yet."""
        stream = self._options.stream
        try:
            async with asyncio.timeout(self._options.timeout):
                await self._redis.ping()
                kind = str(await self._redis.type(stream))
        except (TimeoutError, OSError, self._errors.RedisError) as error:
            raise SinkError(self._failed(error).reason) from error
        if kind not in ("stream", "none"):
            raise SinkError(f"the key {stream} holds a {kind}, not a stream")
        return f"answers; the stream {stream} is {'there' if kind == 'stream' else 'not there yet'}"

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()


def _code(error: Exception) -> str:
    """The code of a Redis error. The client takes it off the text, and a script of before Redis 7 buries it in there."""
    said = f"{getattr(error, 'status_code', None) or ''} {error}"
    if _NOPERM_IN_SCRIPT in said:
        return "NOPERM"
    match = _CODE.search(said) or re.match(r"\s*([A-Z][A-Z0-9]+)\b", said)
    return match[1] if match else ""
