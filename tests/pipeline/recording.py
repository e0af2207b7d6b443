"""A sink that records what it is given, and answers as it is told."""

import asyncio
from collections.abc import Callable, Sequence
from typing import ClassVar

from receiver.core.envelope import Message
from receiver.sinks.base import Done, Outcome

Answer = Callable[[Message], Outcome]


class RecordingSink:
    """Takes one message at a time. While `open` is not set it hangs with what it was given."""

    batch: ClassVar[int] = 1

    def __init__(self, answer: Answer = lambda _: Done()) -> None:
        self.answer = answer
        self.given: list[Message] = []
        """What came, in order, whatever became of it."""
        self.taken: list[Message] = []
        """What was answered with Done."""
        self.sizes: list[int] = []
        self.busy = 0
        self.busiest = 0
        self.open = asyncio.Event()
        self.open.set()
        self.closed = 0

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        self.given += messages
        self.sizes.append(len(messages))
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            await self.open.wait()
            return [self._answer(message) for message in messages]
        finally:
            self.busy -= 1

    def _answer(self, message: Message) -> Outcome:
        outcome = self.answer(message)
        if isinstance(outcome, Done):
            self.taken.append(message)
        return outcome

    async def check(self) -> str:
        return "it records"

    async def close(self) -> None:
        self.closed += 1


class BatchingSink(RecordingSink):
    """Takes up to four messages at a time."""

    batch: ClassVar[int] = 4
