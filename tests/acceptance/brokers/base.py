"""A broker as this suite sees it. Another one is one class more, in a file of its own, and its line in `MATRIX`."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any, ClassVar, Self

from tests.acceptance.brokers.troubles import PATIENCE, TROUBLES, Scale
from tests.acceptance.collector import Arrival, sink
from tests.sinks.gap import Gap
from tests.sinks.servers import OwnServer

ROOM = 10
"""Messages that fit in where it is to be full, beside those that come before."""
SLOW = 0.1
"""Seconds that a piece takes each way at a slow server."""
RESET_EVERY = 0.15
"""Seconds."""


class Broker(ABC):
    """One place for messages at a broker, at the end of a cable (`gap`), and the one trouble that it will have.

    Used as a context manager, from before the receiver starts until after it has ended.
    """

    kind: ClassVar[str]
    """The sink's type."""
    fixture: ClassVar[str | None] = None
    """That of a server which all share; None where each has its own."""
    drops_repeats: ClassVar[bool]
    at_once: ClassVar[int]
    """The most messages that are under way on one connection, all of which may come twice when it breaks."""
    environ: ClassVar[Mapping[str, str]] = {}
    """What the receiver needs in its environment."""

    def __init__(self, trouble: str, scale: Scale, folder: Path, server: Any) -> None:
        folder.mkdir()
        self.trouble = trouble
        self.scale = scale
        self.folder = folder
        self.shared = server
        self.name = f"{self.kind}-{trouble}"
        self._stack = AsyncExitStack()
        self.gap: Gap

    async def __aenter__(self) -> Self:
        try:
            self.gap = await self._stack.enter_async_context(Gap(await self.start()))
            if self.trouble != "missing":
                await self.make()
        except BaseException:
            await self.end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        await self.end()

    def sink(self) -> str:
        """The table of `receiver.toml` that leads here."""
        timeout = self.scale.timeout if TROUBLES[self.trouble].is_silent else PATIENCE
        return sink(self.name, self.kind, timeout=timeout, **self.options())

    def befall(self) -> AbstractAsyncContextManager[None]:
        """Its trouble, for as long as the block runs; afterwards all is well again."""
        trouble: AbstractAsyncContextManager[None] = getattr(self, self.trouble)()
        return trouble

    @abstractmethod
    async def start(self) -> int:
        """Starts the server, where it is not there. Returns its port."""

    @abstractmethod
    async def make(self) -> None:
        """Makes the place for messages."""

    @abstractmethod
    def options(self) -> dict[str, str | float | bool]:
        """Those of the sink that lead through the gap."""

    @abstractmethod
    async def received(self) -> list[Arrival]:
        """All that a consumer of the test's own is given."""

    @abstractmethod
    async def end(self) -> None:
        """Ends the server, where it is its own; it may not have started."""

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Connections are refused."""
        await self.gap.refuse()
        yield
        await self.gap.listen()

    @asynccontextmanager
    async def swallowed(self) -> AsyncIterator[None]:
        """Whatever is said goes nowhere, as behind a pulled cable."""
        self.gap.pull()
        yield
        self.gap.mend()

    @asynccontextmanager
    async def unanswered(self) -> AsyncIterator[None]:
        """It has what it is given, and its answers are lost."""
        self.gap.pull_answers()
        yield
        self.gap.mend()

    @asynccontextmanager
    async def reset(self) -> AsyncIterator[None]:
        """Each connection is reset, over and over, whatever is under way."""

        async def again_and_again() -> None:
            while True:
                self.gap.reset()
                await asyncio.sleep(RESET_EVERY)

        task = asyncio.create_task(again_and_again())
        try:
            yield
        finally:
            task.cancel()

    @asynccontextmanager
    async def slow(self) -> AsyncIterator[None]:
        """Everything takes a moment, and works."""
        self.gap.slow(SLOW)
        yield
        self.gap.mend()

    @asynccontextmanager
    async def missing(self) -> AsyncIterator[None]:
        """There is no place for messages at first."""
        yield
        await self.make()


class ServerBroker(Broker):
    """One whose server is a process that the test may do with as it likes."""

    server: OwnServer

    @asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """In good order."""
        await self.server.stop()
        yield
        await self.server.start()

    @asynccontextmanager
    async def killed(self) -> AsyncIterator[None]:
        """SIGKILL: it has what was on its disk."""
        await asyncio.to_thread(self.server.kill)
        yield
        await self.server.start()

    @asynccontextmanager
    async def hanging(self) -> AsyncIterator[None]:
        """It listens and does nothing; later it does all that it was told."""
        self.server.signal(SIGSTOP)
        try:
            yield
        finally:
            self.server.signal(SIGCONT)
