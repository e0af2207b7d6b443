"""What a sink is: options in, messages out, and for each message an outcome."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from receiver.core.envelope import Message
from receiver.core.matching import Filter
from receiver.core.rating import Rating
from receiver.core.retry import Waits
from receiver.core.verdict import Verdict
from receiver.errors import ReceiverError
from receiver.httpclient import MOST_CONNECTIONS


class Done(NamedTuple):
    """The other side has it durably. `remote_id` is its own name for it, where it gives one.

    `thread` is what later messages about the same are given as `follows`, where the sink keeps them together.
    """

    remote_id: str | None = None
    thread: str | None = None


class Again(NamedTuple):
    """This message failed in a way that may pass; `after` is the wait in seconds that the other side asked for."""

    reason: str
    after: float | None = None


class Never(NamedTuple):
    """The other side will not take this message, ever: a dead letter."""

    reason: str


class Down(NamedTuple):
    """The sink itself cannot take anything just now (refused, 401, 429 …): it is paused, no attempt is used up."""

    reason: str
    after: float | None = None


Outcome = Done | Again | Never | Down

_SLICE = 20


class Gathering(NamedTuple):
    """How messages that follow each other closely are given to the sink together, as many as its `batch`.

    So it is when more than `after` sends would begin within `within`. They wait for `first`, and each time for twice as
    long, up to `longest`, until it is quiet for `within`.
    """

    after: int
    within: timedelta
    first: timedelta
    longest: timedelta


class Sink(Protocol):
    """A destination. Reasons in outcomes and errors show no secret and no full address."""

    @property
    def batch(self) -> int:
        """The most messages that one `send` takes."""
        ...

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Sends up to `batch` messages and tells the outcome of each, in order. Raises nothing that it can foresee."""
        ...

    async def check(self) -> str:
        """Reaches the other side without an effect; says what it found. Raises `SinkError` with the reason."""
        ...

    async def close(self) -> None:
        """Gives back connections. The sink is not used afterwards."""
        ...


async def read_in_slices(messages: Sequence[Message]) -> None:
    """Reads what they hold, a few at a time: hundreds at once would keep callbacks waiting for a tenth of a second."""
    for start in range(0, len(messages), _SLICE):
        for message in messages[start : start + _SLICE]:
            message.read()
        await asyncio.sleep(0)


@runtime_checkable
class Board(Protocol):
    """A sink whose messages people can rate. `place` is what `Done` had as `remote_id`."""

    async def show(self, place: str, verdict: Verdict, ratings: Sequence[Rating]) -> Outcome:
        """Shows in this message, which is about this result, who says what of it."""
        ...

    async def whisper(self, place: str, person: str, text: str) -> Outcome:
        """Tells one person something, beside this message."""
        ...


class SinkError(ReceiverError):
    """Why a check failed, for people."""


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class RetryOptions(BaseModel):
    """How long a message waits that failed by itself: `first` seconds, then `factor` times as long, up to `longest`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    first: float = Field(default=1, gt=0, le=86400, description="Seconds after the first failure.")
    factor: float = Field(
        default=2, ge=1, le=100, description="How many times as long the wait is after each further one."
    )
    longest: float = Field(default=3600, gt=0, le=7 * 86400, description="Seconds that no wait is longer than.")

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.longest < self.first:
            raise ValueError("longest must not be less than first")
        return self

    def waits(self) -> Waits:
        """The same for the rules."""
        return Waits(timedelta(seconds=self.first), timedelta(seconds=self.longest), self.factor)

    def __str__(self) -> str:
        return f"{{ first = {self.first:g}, factor = {self.factor:g}, longest = {self.longest:g} }}"


class SinkOptions(BaseModel):
    """What every kind of sink has. Each kind adds its own; an unknown option is an error that names it.

    Errors do not show what was given: it may be a password.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    takes_samples: ClassVar[bool] = False
    """Whether verdicts of sample callbacks (`receiver send`) go there as well."""

    type: str = Field(description="The kind of sink.")
    name: str = Field(
        pattern=r"^[a-z0-9]([a-z0-9_.-]{0,62}[a-z0-9])?$",
        description="Unique; part of every log line about it.",
    )
    match: Annotated[tuple[Filter, ...], BeforeValidator(_one_or_many)] = Field(
        default=(), description="Which verdicts it is given: one table or a list of tables; none is everything."
    )
    timeout: float = Field(default=10, gt=0, le=300, description="Seconds that one attempt may take.")
    concurrency: int = Field(
        default=8, ge=1, le=MOST_CONNECTIONS, description="Attempts under way at once, in each process."
    )
    rate: float | None = Field(default=None, gt=0, description="Most messages a second, over all processes.")
    retry: RetryOptions = Field(
        default=RetryOptions(),
        description="How long a message waits that failed by itself: `first`, `factor`, `longest`.",
    )
    dead_after: float = Field(
        default=72,
        gt=0,
        le=24 * 365,
        description="Hours from its first attempt until a message that fails is a dead letter.",
    )

    @property
    def gathering(self) -> Gathering | None:
        """How a burst is gathered; None: it is not. A sink that gathers is drained by one process at a time."""
        return None

    @property
    def threads(self) -> timedelta | None:
        """For how long later messages about the same are told what they follow; None: never."""
        return None

    def open(self, public_url: str | None, /) -> Sink:
        """The sink with these options, nothing connected yet; `public_url` is where links to us lead.

        Raises ImportError if the kind's library is missing: it is imported here and not above.
        """
        raise NotImplementedError(f"{type(self).__name__}.open")
