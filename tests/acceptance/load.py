"""Runflow's side under load: signed callbacks, each posted again and again until a 2xx, and what was acknowledged."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit
from uuid import UUID

from receiver.offline import OfflineRunflow
from receiver.web.hook import PATH
from tests.acceptance.processes import DEADLINE, until

ATTEMPT_SECONDS = 10.0
"""How long the sender waits for an answer."""
LONGEST_WAIT = 1.0
"""Seconds from an attempt that failed to the next, the first being a tenth; longer each time, but without an end."""


class Callback:
    """A callback of a decided evaluation, as it is signed and sent."""

    def __init__(self, runflow: OfflineRunflow) -> None:
        self.key: UUID = runflow.add()
        self.body = runflow.callback_body(self.key)
        self.signature = runflow.sign(self.body)

    @cached_property
    def message_id(self) -> str:
        """The id of the message that it leads to, if its tree is complete at once."""
        return f"{self.key}:{json.loads(self.body)['event']}:1"


class Answer(NamedTuple):
    """What the receiver said; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Caller:
    """One kept-alive connection, opened when it is needed."""

    def __init__(self) -> None:
        self._address = ""
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def post(self, address: str, callback: Callback) -> Answer:
        """Raises OSError or TimeoutError if no whole answer comes."""
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                await self._connect(address)
                return await self._exchange(callback)
        except asyncio.IncompleteReadError as error:
            await self._close()
            raise ConnectionResetError("hung up before the end of the answer") from error
        except BaseException:
            await self._close()
            raise

    async def _connect(self, address: str) -> None:
        if self._writer is None or self._address != address:
            await self._close()
            parts = urlsplit(address)
            self._reader, self._writer = await asyncio.open_connection(parts.hostname, parts.port)
            self._address = address

    async def _exchange(self, callback: Callback) -> Answer:
        assert self._writer is not None
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: receiver\r\nContent-Type: application/json\r\n"
            f"Runflow-Signature: {callback.signature}\r\nContent-Length: {len(callback.body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + callback.body)
        await self._writer.drain()
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await self._reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            await self._close()
        return Answer(int(first.split(" ")[1]), headers, body)

    async def _close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
            with suppress(OSError):
                await self._writer.wait_closed()
            self._writer = None


class Load:
    """Posts callbacks. `address` is where to; it may change at any time, as a receiver that starts again has a new port."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.acknowledged: dict[UUID, Callback] = {}
        self.outcomes: Counter[str] = Counter()
        """How often each status, or error, came."""
        self.retry_after: set[str | None] = set()
        """What came with a 503."""
        self.slowest_refusal = 0.0
        """Seconds."""

    async def post(self, callbacks: Iterable[Callback], connections: int = 8) -> None:
        """Each of these, over so many connections; returns when all are acknowledged."""
        rest = iter(callbacks)
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self._post(rest))

    @asynccontextmanager
    async def going_on(
        self, make: Callable[[], Callback], connections: int = 4, pause: float = 0.1
    ) -> AsyncIterator[None]:
        """New callbacks for as long as the block runs, `pause` seconds apart on each connection; then each that was begun
        is acknowledged."""
        is_over = False

        async def callbacks() -> None:
            async with Caller() as caller:
                while not is_over:
                    await self._deliver(make(), caller)
                    await asyncio.sleep(pause)

        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(callbacks())
            try:
                yield
            finally:
                is_over = True

    async def taken(self, more: int) -> None:
        """Waits until so many more are acknowledged."""
        enough = len(self.acknowledged) + more
        await until(lambda: len(self.acknowledged) >= enough, "callbacks that go in")

    async def refused(self, more: int) -> None:
        """Waits until so many more attempts are told to come again."""
        enough = self.outcomes["503"] + more
        await until(lambda: self.outcomes["503"] >= enough, "callers that are told to come again")

    async def _post(self, callbacks: Iterable[Callback]) -> None:
        async with Caller() as caller:
            for callback in callbacks:
                await self._deliver(callback, caller)

    async def _deliver(self, callback: Callback, caller: Caller) -> None:
        async with asyncio.timeout(DEADLINE):
            for attempt in itertools.count():
                if await self._is_taken(callback, caller):
                    break
                await asyncio.sleep(min(0.1 * 2 ** min(attempt, 9), LONGEST_WAIT))
        self.acknowledged[callback.key] = callback

    async def _is_taken(self, callback: Callback, caller: Caller) -> bool:
        began = time.monotonic()
        try:
            answer = await caller.post(self.address, callback)
        except (OSError, TimeoutError) as error:
            self.outcomes[type(error).__name__] += 1
            return False
        self.outcomes[str(answer.status)] += 1
        if 200 <= answer.status < 300:
            return True
        assert answer.status == 503, answer
        self.retry_after.add(answer.headers.get("retry-after"))
        self.slowest_refusal = max(self.slowest_refusal, time.monotonic() - began)
        return False
