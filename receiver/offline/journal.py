"""What was served and what was sent, the last of each, and waiting for it without polling."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """A request that came in. `status` is None if it was left without an answer; `headers` are without Authorization."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    evaluation_id: UUID | None
    status: int | None


@dataclass(frozen=True, slots=True)
class SentCallback:
    """One attempt at a callback and how it was answered; `status` is None, and `error` says why, if it was not.

    `attempt` counts from 1 within its delivery. A callback that is sent once more on purpose is another delivery.
    """

    evaluation_id: UUID
    event: str
    delivery: int
    attempt: int
    request_id: str
    body: bytes
    signature: str
    status: int | None = None
    answer: bytes = b""
    error: str | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether the answer was 2xx, which ends the delivery."""
        return self.status is not None and 200 <= self.status < 300


class Journal:
    """The last `keep` requests and attempts, and counts of all deliveries that ended."""

    def __init__(self, keep: int) -> None:
        self.requests: deque[ServedRequest] = deque(maxlen=keep)
        self.callbacks: deque[SentCallback] = deque(maxlen=keep)
        self.accepted = 0
        self.given_up = 0
        self._happened = asyncio.Event()

    def served(self, request: ServedRequest) -> None:
        """Notes a request just before its answer goes out, or when its client left without one."""
        self.requests.append(request)
        self.wake()

    def sent(self, callback: SentCallback) -> None:
        """Notes an attempt at a callback."""
        self.callbacks.append(callback)
        self.accepted += callback.is_accepted
        self.wake()

    def gave_up(self) -> None:
        """Notes that a delivery ended without a 2xx."""
        self.given_up += 1
        self.wake()

    def wake(self) -> None:
        """Something happened: whoever waits looks again."""
        happened, self._happened = self._happened, asyncio.Event()
        happened.set()

    async def until(self, condition: Callable[[], bool], within: float) -> None:
        """Waits until the condition holds, looking each time something happens. Raises TimeoutError after `within` seconds."""
        try:
            async with asyncio.timeout(within):
                while not condition():
                    await self._happened.wait()
        except TimeoutError:
            raise TimeoutError(
                f"not within {within:g} s; {len(self.requests)} requests served, {len(self.callbacks)} callbacks tried, "
                f"{self.accepted} accepted, {self.given_up} given up"
            ) from None
