"""What can be made to go wrong, while it runs: `faults.rate_limited = RateLimited(count=2, retry_after=1)`, and None ends it.

Each fault hits the next `count` times, or until it is switched off if `count` is None; with `evaluation_id` it hits that
evaluation alone. `count` shows how many times are left.
"""

import asyncio
from collections import Counter
from typing import Any, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

Method = Literal["GET", "POST", "PATCH"]


class Fault(BaseModel):
    """One thing that goes wrong."""

    model_config = ConfigDict(extra="forbid")

    count: int | None = Field(default=None, ge=0)
    evaluation_id: UUID | None = None
    _over: asyncio.Event = PrivateAttr(default_factory=asyncio.Event)

    def take(self, evaluation_id: UUID | None) -> bool:
        """Whether it hits this time, which then is one of `count`."""
        if self.count == 0 or self.evaluation_id not in (None, evaluation_id):
            return False
        if self.count is not None:
            self.count -= 1
            if self.count == 0:
                self.end()
        return True

    def end(self) -> None:
        """It hits no more."""
        self._over.set()

    async def ended(self) -> None:
        """Waits until it hits no more."""
        await self._over.wait()


class RequestFault(Fault):
    """A fault of requests under `/v1/evaluations` with one method."""

    method: Method = "GET"


class RateLimited(RequestFault):
    """429, with `Retry-After` in seconds if it is given."""

    retry_after: int | None = None


class ServerError(RequestFault):
    """An answer of the 5xx kind."""

    status: int = Field(default=503, ge=500, le=599)


class Slow(RequestFault):
    """The answer is right and comes after so many seconds."""

    seconds: float = Field(default=2, gt=0)


class Garbage(RequestFault):
    """200 with a body that is not what the API answers."""

    body: str = "<html><body>Be right back</body></html>"


class EmbedsRefused(Fault):
    """Reads with other embeds than `judges`, `action`, `gate_failures` are refused; with `narrow` those are too."""

    status: Literal[403, 422] = 403
    narrow: bool = False


class FirstReads(Fault):
    """Each evaluation's first `reads` reads. `count` is how many reads it hits in all."""

    reads: int = Field(default=1, ge=1)
    _seen: Counter[UUID | None] = PrivateAttr(default_factory=Counter)

    def take(self, evaluation_id: UUID | None) -> bool:
        if self._seen[evaluation_id] >= self.reads or not super().take(evaluation_id):
            return False
        self._seen[evaluation_id] += 1
        return True


class Delayed(Fault):
    """A callback goes out so many seconds late."""

    seconds: float = Field(default=2, gt=0)


class Reordered(Fault):
    """Callbacks are held back until it is over; then they go out newest first, each after the one before it has ended."""

    count: int | None = Field(default=2, ge=0)
    _held: list[asyncio.Event] = PrivateAttr(default_factory=list)

    async def turn(self) -> asyncio.Event:
        """Waits for the caller's turn; the caller sets the event when it has ended."""
        mine = asyncio.Event()
        self._held.append(mine)
        position = len(self._held)
        await self.ended()
        if position < len(self._held):
            await self._held[position].wait()
        return mine


class Faults(BaseModel):
    """All faults there are; those that are None are off."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    key_revoked: Fault | None = Field(default=None, description="401 to every key.")
    hanging: RequestFault | None = Field(default=None, description="No answer until the client leaves.")
    reset: RequestFault | None = Field(default=None, description="The connection is reset before an answer.")
    slow: Slow | None = None
    rate_limited: RateLimited | None = None
    server_error: ServerError | None = None
    garbage: Garbage | None = None
    embeds_refused: EmbedsRefused | None = None
    not_found_first: FirstReads | None = Field(default=None, description="404 to the first reads of an evaluation.")
    pending_first: FirstReads | None = Field(default=None, description="The first reads show it undecided.")
    changed_verdict: Fault | None = Field(default=None, description="After a read the evaluation changes.")
    callback_lost: Fault | None = Field(default=None, description="The callback is never sent.")
    callback_delayed: Delayed | None = None
    callback_reordered: Reordered | None = None
    callback_twice: Fault | None = Field(default=None, description="Sent once more, the same bytes.")
    callback_rewritten: Fault | None = Field(
        default=None, description="Sent once more, the same content in other bytes."
    )

    def __setattr__(self, name: str, value: Any) -> None:
        before = getattr(self, name, None)
        super().__setattr__(name, value)
        if isinstance(before, Fault) and before is not value:
            before.end()

    def replace(self, others: "Faults") -> None:
        """Switches on what `others` has, and off all else."""
        for name in type(self).model_fields:
            setattr(self, name, getattr(others, name))


Some = TypeVar("Some", bound=Fault)


def take(fault: Some | None, evaluation_id: UUID | None) -> Some | None:
    """The fault, if it is on and hits this time."""
    return fault if fault is not None and fault.take(evaluation_id) else None
