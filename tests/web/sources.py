"""A reader of server-sent events as the HTML standard describes it, over httpx, and what it gets."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self

import httpx

LONG = 60.0


class Event(NamedTuple):
    """An event as it is dispatched."""

    type: str
    data: str
    id: str

    @property
    def verdict(self) -> Any:
        """Its data, which is JSON."""
        return json.loads(self.data)

    @property
    def revision(self) -> tuple[str, int]:
        """Which evaluation and which of its results."""
        return self.verdict["evaluation_id"], self.verdict["revision"]


class Parser:
    """The standard's steps, line by line (9.2.6, interpreting an event stream)."""

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry: int | None = None
        self.comments = 0
        self._id = last_event_id
        self._type = ""
        self._data: list[str] = []

    def line(self, line: str) -> Event | None:
        """Takes a line without its end; gives the event that it completes, if it does."""
        if not line:
            return self._dispatched()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            self.comments += 1
        elif name == "event":
            self._type = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
        elif name == "retry" and value.isascii() and value.isdecimal():
            self.retry = int(value)
        return None

    def _dispatched(self) -> Event | None:
        self.last_event_id = self._id
        data, kind, self._data, self._type = "\n".join(self._data), self._type or "message", [], ""
        return Event(kind, data, self.last_event_id) if data else None


class Source:
    """One who reads the stream at `address`, again and again from where it was."""

    def __init__(self, address: str, token: str, params: Mapping[str, str | Sequence[str]] | None = None) -> None:
        self.address = address
        self.parser = Parser()
        self.status = 0
        self.headers = httpx.Headers()
        self._token = token
        self._params = params

    @asynccontextmanager
    async def opened(self, last_event_id: str | None = None) -> AsyncIterator[Self]:
        """A connection; from the last id that was seen, or another. Raises httpx's errors."""
        self.parser = Parser(self.parser.last_event_id if last_event_id is None else last_event_id)
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "text/event-stream"}
        if self.parser.last_event_id:
            headers["Last-Event-ID"] = self.parser.last_event_id
        async with (
            httpx.AsyncClient(trust_env=False, timeout=LONG) as client,
            client.stream("GET", f"{self.address}/v1/verdicts/stream", headers=headers, params=self._params) as answer,
        ):
            self.status, self.headers = answer.status_code, answer.headers
            self._lines = answer.aiter_lines()
            if self.status == 200:
                await self.line()  # so that it has begun
            yield self

    async def line(self) -> Event | None:
        """Reads one line. Raises StopAsyncIteration where the stream ends."""
        return self.parser.line(await anext(self._lines))

    async def next(self, count: int = 1) -> list[Event]:
        """The next events. Raises StopAsyncIteration where the stream ends before."""
        return [await self._one() for _ in range(count)]

    async def _one(self) -> Event:
        while (event := await self.line()) is None:
            pass
        return event

    async def rest(self) -> AsyncIterator[Event]:
        """All events until the stream ends."""
        try:
            while True:
                yield await self._one()
        except StopAsyncIteration:
            return


def numbers(events: Sequence[Event]) -> Iterator[int]:
    """The cursors."""
    return (int(event.id) for event in events)
