"""Threads: each message of a sink that keeps together what is about the same is told what it follows."""

from collections.abc import Sequence
from datetime import timedelta

from receiver.core.envelope import Message
from receiver.sinks.base import Done, Outcome, read_in_slices
from receiver.store import threads
from receiver.store.database import Database


class Threads:
    """The threads of one sink, for as long as each takes more. They are in the database, so all processes know them."""

    def __init__(self, database: Database, sink: str, lasting: timedelta) -> None:
        self._database = database
        self._sink = sink
        self._lasting = lasting

    async def find(self, messages: Sequence[Message]) -> None:
        """Sets `follows` of those that have a thread. Raises `StoreUnavailable`."""
        await read_in_slices(messages)
        subjects = [threads.subject_of(message.verdict) for message in messages]
        since = self._database.now() - self._lasting
        found = await self._database.read(threads.of, self._sink, subjects, since=since)
        for message, subject in zip(messages, subjects, strict=True):
            message.follows = found.get(subject)

    async def note(self, messages: Sequence[Message], outcomes: Sequence[Outcome]) -> None:
        """Keeps the threads that were begun. Raises `StoreUnavailable`."""
        begun: dict[str, str] = {}
        for message, outcome in zip(messages, outcomes, strict=True):
            if isinstance(outcome, Done) and outcome.thread not in (None, message.follows):
                begun.setdefault(threads.subject_of(message.verdict), outcome.thread)
        if begun:
            now = self._database.now()
            await self._database.write(threads.begin, self._sink, begun, now=now, since=now - self._lasting)
