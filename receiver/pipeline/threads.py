"""Threads: each message of a sink that keeps together what is about the same is told what it follows."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from weakref import WeakValueDictionary

from receiver.core.envelope import Message
from receiver.sinks.base import Done, Outcome, read_in_slices
from receiver.store import threads
from receiver.store.database import Database
from receiver.store.threads import Begun

LONGEST_WAIT = 5.0
"""Seconds that a message waits for another that begins its thread."""


class Threads:
    """The threads of one sink, for as long as each takes more. They are in the database, so all processes know them."""

    def __init__(self, database: Database, sink: str, lasting: timedelta) -> None:
        self._database = database
        self._sink = sink
        self._lasting = lasting
        self._beginning: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def following(self, messages: Sequence[Message]) -> AsyncIterator[None]:
        """Sets `follows` of those that have a thread; of those that would begin the same, one is in here at a time.

        Raises `StoreUnavailable`, and TimeoutError where another took too long to begin it.
        """
        await self._find(messages)
        async with AsyncExitStack() as held:
            if waited := await self._begin_alone(messages, held):
                await self._find(messages)
            if waited and all(message.follows for message in messages):
                await held.aclose()  # whoever waits behind us need not
            yield

    async def _begin_alone(self, messages: Sequence[Message], held: AsyncExitStack) -> bool:
        """Whether it had to wait for that."""
        subjects = sorted({threads.subject_of(message.verdict) for message in messages if message.follows is None})
        locks = [self._beginning.setdefault(subject, asyncio.Lock()) for subject in subjects]
        waited = any(lock.locked() for lock in locks)
        async with asyncio.timeout(LONGEST_WAIT):
            for lock in locks:
                await held.enter_async_context(lock)
        return waited

    async def _find(self, messages: Sequence[Message]) -> None:
        await read_in_slices(messages)
        subjects = [threads.subject_of(message.verdict) for message in messages]
        since = self._database.now() - self._lasting
        found = await self._database.read(threads.of, self._sink, subjects, since=since)
        for message, subject in zip(messages, subjects, strict=True):
            message.follows = found.get(subject)

    async def note(self, messages: Sequence[Message], outcomes: Sequence[Outcome]) -> None:
        """Keeps the threads that were begun. Raises `StoreUnavailable`."""
        begun: dict[str, Begun] = {}
        for message, outcome in zip(messages, outcomes, strict=True):
            if isinstance(outcome, Done) and outcome.thread is not None and outcome.thread != message.follows:
                begun.setdefault(threads.subject_of(message.verdict), Begun(outcome.thread, message.follows))
        if begun:
            now = self._database.now()
            await self._database.write(threads.begin, self._sink, begun, now=now, since=now - self._lasting)
