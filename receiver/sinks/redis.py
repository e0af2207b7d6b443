"""`redis`: adds each message to a stream (redis.io/docs/latest/develop/data-types/streams).

An entry has three fields: `id` (the message's key), `type` (the CloudEvents type) and `event` (the whole envelope as JSON).
The key of each message is remembered for a while, in one script with the entry, so that a repeat adds nothing; or the stream
itself remembers it, where that is chosen.
"""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import parse_qs

from pydantic import AfterValidator, Field, SecretStr, model_validator

from receiver.core.envelope import Message
from receiver.sinks.base import Again, Done, Down, Outcome, SinkError, SinkOptions
from receiver.sinks.connecting import parts_of, reset_is_an_error_of_the_connection, why_broken

ADD = """
local function add(key, id, kind, event)
  local seen = redis.pcall('GET', key)
  if type(seen) == 'table' then return seen end
  if seen and seen ~= '' then return seen end
  -- Remembered first: what may not be remembered must not be added, or each retry would add it again.
  local noted = redis.pcall('SET', key, '', 'EX', ARGV[1])
  if noted.err then return noted end
  local entry
  if ARGV[2] == '' then
    entry = redis.pcall('XADD', KEYS[1], '*', 'id', id, 'type', kind, 'event', event)
  else
    entry = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'id', id, 'type', kind, 'event', event)
  end
  if type(entry) == 'table' then
    redis.pcall('SET', key, '', 'PX', 1)
  else
    redis.pcall('SET', key, entry, 'EX', ARGV[1])
  end
  return entry
end
local answers = {}
for n = 2, #KEYS do
  answers[n - 1] = add(KEYS[n], ARGV[3 * n - 3], ARGV[3 * n - 2], ARGV[3 * n - 1])
end
return answers
"""
"""Adds entries, or finds those that the same keys added before: for each its id, or the error.

KEYS: the stream, then for each message the key that remembers. ARGV: seconds, most entries or '', then the three fields of each
message. One call for all: a command for each message costs the client more than it costs the server.
"""
ADD_SHA1 = hashlib.sha1(ADD.encode(), usedforsecurity=False).hexdigest()
PRODUCER = "runflow-receiver"
"""Who we are to the server's own memory of repeats. All processes are one: a message's key is the same in each."""
IDMP_SINCE = (8, 6)
_NO_IDMP = 'repeats = "idmp" needs Redis 8.6 or newer, and this is {}; leave it out for the script'

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
    repeats: Literal["script", "idmp"] = Field(
        default="script", description="What drops repeats: a script of ours, or the stream's own IDMP (Redis 8.6)."
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.repeats == "idmp" and "remember" in self.model_fields_set:
            raise ValueError("remember goes with repeats = script; how long the stream remembers is set by XCFGSET")
        return self

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
        self._by_hash = True
        self._has_idmp = False
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
            async with asyncio.timeout(self._options.timeout):
                with reset_is_an_error_of_the_connection():
                    answers = await (self._add if self._options.repeats == "script" else self._add_idmp)(messages)
        except SinkError as error:
            return [Down(str(error))] * len(messages)
        except (TimeoutError, OSError, self._errors.RedisError) as error:
            await self._drop_connections()
            return [self._failed(error)] * len(messages)
        return [self._outcome(answer) for answer in answers]

    async def _add(self, messages: Sequence[Message]) -> list[Any]:
        """By the script: by its hash where the server knows it and lets us, else by its text, after which it knows it."""
        options = self._options
        # The braces let all keys be on one node of a cluster (redis.io/docs/latest/reference/cluster-spec, hash tags).
        keys = [options.stream, *(f"{{{options.stream}}}:seen:{message.key}" for message in messages)]
        arguments: list[Any] = [options.remember, "" if options.maxlen is None else options.maxlen]
        for message in messages:
            arguments += (message.key, message.type, message.cloud_event)
        if self._by_hash:
            try:
                return await self._call("EVALSHA", ADD_SHA1, len(keys), *keys, *arguments)
            except self._errors.NoScriptError:
                pass
            except self._errors.NoPermissionError:
                self._by_hash = False
        return await self._call("EVAL", ADD, len(keys), *keys, *arguments)

    async def _call(self, *command: Any) -> list[Any]:
        # redis-py gives this method no types.
        answers: list[Any] = await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]
        return answers

    async def _add_idmp(self, messages: Sequence[Message]) -> list[Any]:
        """By the stream's own memory (redis.io/docs/latest/develop/data-types/streams/idempotency)."""
        await self._require_idmp()
        async with self._redis.pipeline(transaction=False) as pipeline:
            for message in messages:
                fields: dict[Any, Any] = {"id": message.key, "type": message.type, "event": message.cloud_event}
                pipeline.xadd(
                    self._options.stream, fields, maxlen=self._options.maxlen, idmp=(PRODUCER, message.key.encode())
                )
            return await pipeline.execute(raise_on_error=False)

    async def _require_idmp(self) -> None:
        """Raises `SinkError` if the server is too old. It is asked once: HELLO is free to every user."""
        if not self._has_idmp:
            told = await self._call("HELLO")
            about = dict(zip(told[::2], told[1::2], strict=False))
            found = f"{about.get('server')} {about.get('version')}"
            numbers = tuple(int(number) for number in re.findall(r"\d+", str(about.get("version")))[:2])
            if about.get("server") != "redis" or numbers < IDMP_SINCE:
                raise SinkError(_NO_IDMP.format(found))
            self._has_idmp = True

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
            return Down(why_broken(error))
        return Again(f"it answered with an error ({code or type(error).__name__})")

    async def _drop_connections(self) -> None:
        """If one connection is dead, those that lie idle are as well; finding out one by one would cost a timeout each."""
        # Without waiting, which the pool's own method would do: meanwhile another takes one, connects it anew, and loses it.
        for connection in list(self._redis.connection_pool._available_connections):  # noqa: SLF001 (nothing public lists them)
            await connection.disconnect(nowait=True)

    async def check(self) -> str:
        """Pings, and looks whether the key holds a stream or nothing yet."""
        stream = self._options.stream
        try:
            async with asyncio.timeout(self._options.timeout):
                with reset_is_an_error_of_the_connection():
                    await self._redis.ping()
                    kind = str(await self._redis.type(stream))
                    if self._options.repeats == "idmp":
                        await self._require_idmp()
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
