"""`sqs`: sends each message to a queue of Amazon SQS, standard or FIFO (docs.aws.amazon.com/AWSSimpleQueueService).

The body is the whole envelope as JSON. Who we are is found as every client of AWS finds it: environment, files, the
machine's role.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from receiver.core.envelope import CONTENT_TYPE, Message
from receiver.httpclient import MOST_CONNECTIONS
from receiver.sinks.base import Again, Done, Down, Never, Outcome, SinkError, SinkOptions
from receiver.sinks.connecting import BROKEN, why_broken

MOST_BYTES = 1024 * 1024
"""Of a message, and of all messages of a request, bodies and attributes."""

_NOT_TAKEN_AS_THEY_ARE = {0xFFFE: r"\ufffe", 0xFFFF: r"\uffff"}
"""In JSON they may be written so as well; what else SQS does not take, JSON has written so already."""
_REGION = re.compile(r"(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue|queue)\.(?:amazonaws\.com|amazonaws\.com\.cn|api\.aws)")
_PREFIX = "AWS.SimpleQueueService."
_UNKNOWN = "it does not know our credentials"
_EXPIRED = "our credentials have expired, or our clock is wrong"
_TOO_MUCH = "it has had too much"
_NO_KEY = "the queue's key in KMS cannot be used, or not by us"
_TROUBLES = {
    "NonExistentQueue": "there is no queue {}",
    "QueueDoesNotExist": "there is no queue {}",
    "QueueDeletedRecently": "the queue {} was deleted just now",
    "InvalidAddress": "there is no queue {}",
    "AccessDenied": "our credentials do not allow it: they need {action} on the queue {}",
    "InvalidClientTokenId": _UNKNOWN,
    "UnrecognizedClient": _UNKNOWN,
    "InvalidAccessKeyId": _UNKNOWN,
    "SignatureDoesNotMatch": _UNKNOWN,
    "IncompleteSignature": _UNKNOWN,
    "MissingAuthenticationToken": _UNKNOWN,
    "NotAuthorized": _UNKNOWN,
    "InvalidSecurity": _UNKNOWN,
    "ExpiredToken": _EXPIRED,
    "RequestExpired": _EXPIRED,
    "RequestThrottled": _TOO_MUCH,
    "Throttling": _TOO_MUCH,
    "ThrottledException": _TOO_MUCH,
    "TooManyRequests": _TOO_MUCH,
    "RequestLimitExceeded": _TOO_MUCH,
    "OverLimit": _TOO_MUCH,
    "KmsThrottled": _TOO_MUCH,
    "KmsAccessDenied": _NO_KEY,
    "KmsDisabled": _NO_KEY,
    "KmsInvalidKeyUsage": _NO_KEY,
    "KmsInvalidState": _NO_KEY,
    "KmsNotFound": _NO_KEY,
    "KmsOptInRequired": _NO_KEY,
    "ServiceUnavailable": "it is not available",
    "UnsupportedOperation": "the queue {} does not take messages in this way",
}
"""Codes of errors that are not the message's fault, without what goes before and `Exception` behind."""
_NOT_THIS_MESSAGE = {
    "BatchRequestTooLong": "the message has {size} bytes, which are too many",
    "InvalidParameterValue": "the message has {size} bytes, too many for the queue, or characters that it does not take",
    "InvalidMessageContents": "it has characters that SQS does not take",
}


def _web_address(address: str) -> str:
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not parts.username
    except ValueError:
        good = False
    if not good:
        raise ValueError("must be an http:// or https:// address, without user and password")
    return address


def _queue_address(address: str) -> str:
    if not urlsplit(_web_address(address)).path.strip("/"):
        raise ValueError(
            "must end in the queue's name, as in https://sqs.eu-west-1.amazonaws.com/123456789012/verdicts"
        )
    return address


class SqsOptions(SinkOptions):
    """Which queue, and where it is."""

    type: Literal["sqs"] = "sqs"
    queue_url: Annotated[str, AfterValidator(_queue_address)] = Field(
        description="The queue's address, as SQS shows it. A FIFO queue's ends in `.fifo`."
    )
    region: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]+$",
        description="The queue's region. That of `queue_url` if not given, else that of the environment.",
    )
    profile: str | None = Field(
        default=None, min_length=1, description="A profile of `~/.aws/config`. That of the environment if not given."
    )
    endpoint_url: Annotated[str, AfterValidator(_web_address)] | None = Field(
        default=None, description="Where to connect to instead of AWS: another service like it, or a VPC's endpoint."
    )
    max_bytes: int = Field(
        default=MOST_BYTES,
        ge=1024,
        le=MOST_BYTES,
        description="A larger message is a dead letter that says its size: the queue's `MaximumMessageSize`.",
    )

    @property
    def queue(self) -> str:
        """The queue's name."""
        return urlsplit(self.queue_url).path.rstrip("/").rpartition("/")[2]

    @property
    def found_region(self) -> str | None:
        """The region, as far as the options tell."""
        match = _REGION.fullmatch(urlsplit(self.queue_url).hostname or "")
        return self.region or (match and (match[1] or match[2] or "us-east-1")) or None

    def open(self, _public_url: str | None, /) -> "SqsSink":
        """The sink; messages hold no link to us."""
        return SqsSink(self)


class SqsSink:
    """Done is a message id. A FIFO queue drops repeats for five minutes, a standard queue does not."""

    batch: ClassVar[int] = 10

    def __init__(self, options: SqsOptions) -> None:
        from aiobotocore.session import AioSession
        from botocore import exceptions

        self._options = options
        self._is_fifo = options.queue.endswith(".fifo")
        self._errors = exceptions
        self._session = AioSession(profile=options.profile)
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._one_at_a_time = asyncio.Lock()

    async def _connected(self) -> Any:
        from aiobotocore.config import AioConfig

        async with self._one_at_a_time:
            if self._client is None:
                config = AioConfig(
                    connect_timeout=self._options.timeout,
                    read_timeout=self._options.timeout,
                    max_pool_connections=min(self._options.concurrency, MOST_CONNECTIONS),
                    retries={"total_max_attempts": 1, "mode": "standard"},  # they are the pipeline's
                    user_agent_appid="runflow-receiver",
                )
                making = self._session.create_client(
                    "sqs",
                    region_name=self._options.found_region,
                    endpoint_url=self._options.endpoint_url,
                    config=config,
                )
                self._client = await self._stack.enter_async_context(making)
        return self._client

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Sends all in one request, or in several where together they are too large; each has an outcome of its own."""
        entries = [self._entry(number, message) for number, message in enumerate(messages)]
        outcomes: dict[int, Outcome] = {}
        for number, entry in enumerate(entries):
            if (size := _size(entry)) > self._options.max_bytes:
                outcomes[number] = Never(
                    f"the message has {size} bytes, more than max_bytes = {self._options.max_bytes}"
                )
        try:
            async with asyncio.timeout(self._options.timeout):
                for chunk in self._chunks(entry for number, entry in enumerate(entries) if number not in outcomes):
                    await self._send(chunk, outcomes)
        except TimeoutError:
            pass
        return [outcomes.get(number, Again("no answer in time")) for number in range(len(messages))]

    def _entry(self, number: int, message: Message) -> dict[str, Any]:
        attributes = {"content-type": CONTENT_TYPE, "id": message.key, "type": message.type}
        entry: dict[str, Any] = {
            "Id": str(number),
            "MessageBody": message.cloud_event.decode().translate(_NOT_TAKEN_AS_THEY_ARE),
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": text} for name, text in attributes.items()
            },
        }
        if self._is_fifo:
            entry["MessageDeduplicationId"] = message.key
            entry["MessageGroupId"] = message.subject
        return entry

    def _chunks(self, entries: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        chunk: list[dict[str, Any]] = []
        for entry in entries:
            if chunk and sum(map(_size, [*chunk, entry])) > self._options.max_bytes:
                yield chunk
                chunk = []
            chunk.append(entry)
        if chunk:
            yield chunk

    async def _send(self, entries: list[dict[str, Any]], outcomes: dict[int, Outcome]) -> None:
        """Notes each outcome as soon as it is known: the time may run out before the others are."""
        try:
            client = await self._connected()
            answer = await client.send_message_batch(QueueUrl=self._options.queue_url, Entries=entries)
        except self._errors.ClientError as error:
            code = _code(error.response["Error"].get("Code", ""))
            if code in _NOT_THIS_MESSAGE and len(entries) > 1:  # one of them: each by itself
                for entry in entries:
                    await self._send([entry], outcomes)
                return
            status = int(error.response["ResponseMetadata"].get("HTTPStatusCode", 0))
            failed = self._failed(code, status, "SendMessage", _size(entries[0]))
        except (self._errors.BotoCoreError, OSError) as error:
            failed = self._not_reached(error)
        else:
            unsaid = {int(entry["Id"]): Again("nothing was said of it") for entry in entries}
            sizes = {entry["Id"]: _size(entry) for entry in entries}
            outcomes |= (
                unsaid
                | {int(each["Id"]): Done(each["MessageId"]) for each in answer.get("Successful", ())}
                | {
                    int(each["Id"]): self._failed(
                        _code(each["Code"]), 400 if each.get("SenderFault") else 500, "SendMessage", sizes[each["Id"]]
                    )
                    for each in answer.get("Failed", ())
                }
            )
            return
        outcomes |= {int(entry["Id"]): failed for entry in entries}

    def _failed(self, code: str, status: int, action: str, size: int = 0) -> Again | Never | Down:
        if code in _TROUBLES:
            return Down(_TROUBLES[code].format(self._options.queue, action=f"sqs:{action}"))
        if status in (429, 503):
            return Down(f"answered {status}: {_TOO_MUCH if status == 429 else 'it is not available'}")
        if code in _NOT_THIS_MESSAGE:
            return Never(f"{code}: {_NOT_THIS_MESSAGE[code].format(size=size)}")
        return Again(f"it answered with an error ({code or status})")

    def _not_reached(self, error: Exception) -> Again | Down:
        """What a failure before any answer means."""
        errors = self._errors
        if isinstance(error, errors.ReadTimeoutError):
            return Again("no answer in time")
        if isinstance(
            error, errors.NoCredentialsError | errors.PartialCredentialsError | errors.CredentialRetrievalError
        ):
            return Down("there are no credentials for AWS, or not all that are needed")
        if isinstance(error, errors.ProfileNotFound):
            return Down(f"there is no profile {self._options.profile} in the configuration of AWS")
        if isinstance(error, errors.NoRegionError):
            return Down("there is no region: set `region`")
        if isinstance(error, errors.SSLError):
            return Down(why if (why := why_broken(error)) != BROKEN else "cannot connect: TLS failed")
        if isinstance(error, errors.ConnectionError | errors.HTTPClientError | OSError):
            return Down(why_broken(error))
        return Again(f"the client failed ({type(error).__name__})")

    async def check(self) -> str:
        """Asks for the queue's properties."""
        try:
            async with asyncio.timeout(self._options.timeout):
                client = await self._connected()
                answer = await client.get_queue_attributes(
                    QueueUrl=self._options.queue_url, AttributeNames=["MaximumMessageSize"]
                )
        except TimeoutError as error:
            raise SinkError("no answer in time") from error
        except self._errors.ClientError as error:
            code, status = _code(error.response["Error"].get("Code", "")), error.response["ResponseMetadata"]
            failed = self._failed(code, int(status.get("HTTPStatusCode", 0)), "GetQueueAttributes")
            raise SinkError(failed.reason) from error
        except (self._errors.BotoCoreError, OSError) as error:
            raise SinkError(self._not_reached(error).reason) from error
        kind = "FIFO, drops repeats for 5 minutes" if self._is_fifo else "standard, does not drop repeats"
        most = answer.get("Attributes", {}).get("MaximumMessageSize", "unknown")
        return f"answers; the queue {self._options.queue} is there ({kind}; MaximumMessageSize {most})"

    async def close(self) -> None:
        """Closes the connections."""
        await self._stack.aclose()


def _size(entry: dict[str, Any]) -> int:
    """As SQS counts: the body, and of each attribute name, type and value."""
    attributes = entry["MessageAttributes"].items()
    texts = [text for name, value in attributes for text in (name, value["DataType"], value["StringValue"])]
    return sum(len(text.encode()) for text in (entry["MessageBody"], *texts))


def _code(code: str) -> str:
    """Without what old and new protocols put around it."""
    bare = code.removeprefix(_PREFIX).replace("KMS.", "Kms").rpartition("#")[2]
    return bare if bare == "ThrottledException" else bare.removesuffix("Exception")
