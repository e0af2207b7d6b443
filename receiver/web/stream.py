"""`GET /v1/verdicts/stream`: each revision as it is released, as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from receiver.core.matching import Filter
from receiver.errors import FieldProblem, Invalid, StoreUnavailable
from receiver.store import releases
from receiver.store.database import Database
from receiver.web.events import BEAT, MEDIA_TYPE, beat, opening, verdict_event
from receiver.web.examples import VERDICT
from receiver.web.operations import Answer, Operation
from receiver.web.parameters import BEGINNING, STREAM_PARAMETERS, read_stream_query
from receiver.web.protocol import HANG_UP
from receiver.web.tail import Chunk, Reader, Tail

BEAT_SECONDS = 15.0
"""How long a stream is silent at most: proxies cut what is silent for a minute."""
STUCK_SECONDS = 60.0
"""A reader that has taken nothing for so long is hung up on."""
END_SECONDS = 1.0
AWAY_SECONDS = 1.0
"""From one look at a database that is away to the next."""
MOST_READERS = 500
"""In one process: each holds a connection, of which the system allows only so many."""

log = structlog.get_logger()


class Stream:
    """The endpoint."""

    def __init__(self, database: Database, tail: Tail) -> None:
        self._database = database
        self._tail = tail

    def operations(self) -> Sequence[Operation]:
        """Its part of the route table."""
        example = (opening(41) + verdict_event(42, orjson.dumps(VERDICT).decode())).decode()
        return (
            Operation(
                "stream_verdicts", "GET", "/v1/verdicts/stream", self.stream_verdicts,
                "Verdicts as they are released",
                description="Server-sent events: `event: verdict`, `id` is a cursor, `data` is the whole verdict."
                " It begins now, unless `since` or `Last-Event-ID` says otherwise. Filters look at each revision by itself.",
                right="read",
                parameters=STREAM_PARAMETERS,
                answers=(Answer(200, "The stream, which does not end.", {"type": "string"}, example, media=MEDIA_TYPE),),
            ),
        )  # fmt: skip

    async def stream_verdicts(self, request: Request) -> Response:
        """`GET /v1/verdicts/stream`."""
        query = read_stream_query(request.query_params, request.headers.get("last-event-id"))
        if self._tail.readers >= MOST_READERS:
            raise StoreUnavailable("queue_full", f"{MOST_READERS} read the stream of this process already")
        reach = await self._database.read(releases.reach)
        if query.after is not None:
            if query.after > reach.taken:
                raise Invalid([FieldProblem("Last-Event-ID", "is none of this database's; begin without it")])
            after = query.after
        elif query.since == BEGINNING:
            after = 0
        elif query.since is not None:
            before = await self._database.read(releases.before, query.since)
            after = reach.settled if before is None else min(before, reach.settled)
        else:
            after = reach.settled
        return EventStream(self._tail, after, query.filter if query.filter.given() else None, request.state.caller)


class _StuckError(Exception):
    """The other side takes nothing."""


class EventStream(StreamingResponse):
    """The answer: what comes after a position, until the reader goes, or is told to."""

    def __init__(self, tail: Tail, after: int, filter_: Filter | None, caller: str) -> None:
        headers = {
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # nginx would gather it
            "Connection": "close",  # at its end: nobody is to begin anew on a server that stops
        }
        super().__init__(_nothing(), headers=headers, media_type=MEDIA_TYPE)
        self._tail = tail
        self._filter = filter_
        self._cursor = after
        self._log = log.bind(caller=caller)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers. (ASGI)"""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        self._log.info("stream.opened", after=self._cursor)
        with self._tail.joined() as reader:
            leaving = asyncio.create_task(_left(receive))
            leaving.add_done_callback(lambda _: reader.dismiss())
            why = "dismissed"
            try:
                await self._until_dismissed(reader, send)
                if leaving.done():
                    why = "left"
                else:
                    await _sent(send, b"", END_SECONDS, more=False)
            except _StuckError:
                why = "stuck"
                await _hang_up(scope, leaving)
            finally:
                leaving.cancel()
                self._log.info("stream.ended", after=self._cursor, why=why)

    async def _until_dismissed(self, reader: Reader, send: Send) -> None:
        now = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(None) as limit:
                reader.when_dismissed(lambda: limit.reschedule(now()))
                await self._flow(reader, send)
        except TimeoutError:
            pass  # nothing else lets one through
        finally:
            reader.when_dismissed(None)

    async def _flow(self, reader: Reader, send: Send) -> None:
        now = asyncio.get_running_loop().time
        told, told_at = self._cursor, now()
        await _sent(send, opening(told), STUCK_SECONDS)
        while True:
            left = BEAT_SECONDS - (now() - told_at)
            if left <= 0:
                await _sent(send, BEAT if told == self._cursor else beat(self._cursor), STUCK_SECONDS)
                told, told_at = self._cursor, now()
                continue
            reader.bell.clear()
            chunk = await self._next(left)
            if chunk is None:
                await _rung(reader.bell, left)
                continue
            if chunk.data:
                await _sent(send, chunk.data, STUCK_SECONDS)
                told, told_at = chunk.end, now()
            self._cursor = chunk.end
            await asyncio.sleep(0)  # what was written goes out now, and says whether the other side takes it

    async def _next(self, seconds: float) -> Chunk | None:
        """What comes next; None if there is nothing, or if it could not be had within this time."""
        try:
            async with asyncio.timeout(seconds):
                return await self._tail.next(self._cursor, self._filter)
        except StoreUnavailable:
            await asyncio.sleep(AWAY_SECONDS)
        except TimeoutError:
            pass
        return None


async def _left(receive: Receive) -> None:
    """Returns when the reader has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _rung(bell: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await bell.wait()


async def _sent(send: Send, data: bytes, seconds: float, *, more: bool = True) -> None:
    """Hands it over. Waits first until the other side has taken most of what it was sent before, for so long at most."""
    try:
        async with asyncio.timeout(seconds):
            await send({"type": "http.response.body", "body": data, "more_body": more})
    except TimeoutError:
        raise _StuckError from None


async def _hang_up(scope: Scope, leaving: "asyncio.Task[None]") -> None:
    """Ends the connection without sending what it still holds, which a mere close would wait for."""
    hang_up = scope.get("extensions", {}).get(HANG_UP)
    if hang_up is not None:
        hang_up["call"]()
        await asyncio.wait([leaving])


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
