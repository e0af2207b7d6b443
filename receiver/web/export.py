"""`GET /v1/verdicts/export`: all verdicts that a filter lets through, however many, in a stream."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Literal, NamedTuple, cast
from uuid import UUID

import structlog
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from receiver.core.flat import csv_head, csv_lines, ndjson_lines
from receiver.core.matching import WORDS, Filter
from receiver.errors import FieldProblem, Invalid, NotFound, StoreUnavailable
from receiver.store import export
from receiver.store.database import Database
from receiver.store.reading import Position
from receiver.web.operations import Answer, Operation, Parameter
from receiver.web.parameters import FILTER_PARAMETERS, read_filter, read_uuid, wrong_names

Format = Literal["ndjson", "csv"]

MEDIA: Final[Mapping[Format, str]] = {"ndjson": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
LINES: Final[Mapping[Format, Callable[[Sequence[str]], bytes]]] = {"ndjson": ndjson_lines, "csv": csv_lines}
GZIP_LEVEL: Final = 1
"""Verdicts become a seventh of what they are; a higher level takes twice the time for a tenth less."""
_GZIP_FORMAT: Final = 16 + zlib.MAX_WBITS

PARAMETERS: Final = (
    Parameter(
        "format", "One verdict a line as JSON, or the fields of the list's items as CSV.",
        {"type": "string", "enum": list(MEDIA), "default": "ndjson"},
    ),
    Parameter(
        "after", "Only what arrived after the verdict with this id: to go on where a broken transfer ended.",
        {"type": "string", "format": "uuid"},
    ),
    *FILTER_PARAMETERS,
)  # fmt: skip

log = structlog.get_logger()


class ExportQuery(NamedTuple):
    """What was asked for."""

    format: Format
    filter: Filter
    after: UUID | None


class Exports:
    """The endpoint."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def operations(self) -> Sequence[Operation]:
        """Its part of the route table."""
        shape = {"type": "string"}
        headers = {"Content-Disposition": "A file name with the time."}
        return (
            Operation(
                "export_verdicts", "GET", "/v1/verdicts/export", self.export, "All verdicts, in a stream",
                description="The oldest arrival first, any size. What is stored at the start comes exactly once. If the"
                " database fails on the way, the transfer breaks off: a body without its end is not whole.",
                right="read",
                parameters=PARAMETERS,
                answers=(
                    Answer(200, "A verdict a line.", shape, media=MEDIA["ndjson"], headers=headers),
                    Answer(200, "A verdict a line.", shape, media="text/csv", headers=headers),
                ),
                errors=(NotFound,),
            ),
        )  # fmt: skip

    async def export(self, request: Request) -> Response:
        """`GET /v1/verdicts/export`. Nothing is read before the answer begins but where it ends."""
        query = read_export_query(request.query_params)
        now = self._database.now()
        span = await self._database.read(export.span)
        after = None if query.after is None else await self._position(query.after)
        headers = {
            "Content-Disposition": f'attachment; filename="verdicts-{now:%Y%m%dT%H%M%SZ}.{query.format}"',
            "Cache-Control": "no-store",
            "Vary": "Accept-Encoding",
            "X-Accel-Buffering": "no",  # nginx would take all that it can get, and keep it in a file
        }
        written = _lines(self._database, query, span, after)
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            written = _zipped(written)
        return Streamed(written, headers=headers, media_type=MEDIA[query.format])

    async def _position(self, evaluation_id: UUID) -> Position:
        position = await self._database.read(export.position_of, evaluation_id)
        if position is None:
            raise NotFound(f"after: there is no evaluation {evaluation_id} here; name one that came before it")
        return position


class Streamed(StreamingResponse):
    """A stream that breaks off where the database fails: without its end, no client takes it for whole."""

    body_iterator: AsyncGenerator[bytes]

    async def stream_response(self, send: Send) -> None:
        """Sends it. The reading ends with it, also where the client goes before the end."""
        async with aclosing(self.body_iterator):
            try:
                await super().stream_response(send)
            except StoreUnavailable as error:
                log.error("export.broken", reason=error.reason, error=str(error))  # and the server hangs up


def read_export_query(query: QueryParams) -> ExportQuery:
    """Raises `Invalid`, which names every unknown parameter and every wrong value."""
    problems = wrong_names(query, ["format", "after"], WORDS)
    format_ = query.get("format", "ndjson")
    if format_ not in MEDIA:
        problems.append(FieldProblem("format", f"must be one of {', '.join(MEDIA)}"))
    named = query.get("after")
    after = None if named is None else read_uuid(named)
    if named is not None and after is None:
        problems.append(FieldProblem("after", "must be the id of a verdict, a UUID"))
    filter_ = Filter()
    try:
        filter_ = read_filter({name: query.getlist(name) for name in WORDS if name in query})
    except Invalid as error:
        problems += error.problems
    if problems:
        raise Invalid(problems)
    return ExportQuery(cast("Format", format_), filter_, after)


async def _lines(
    database: Database, query: ExportQuery, span: export.Span | None, after: Position | None
) -> AsyncGenerator[bytes]:
    """The body, a chunk at a time. It is written in a thread, so that a callback need not wait for it."""
    if query.format == "csv":
        yield csv_head()
    if span is None:
        return
    write = LINES[query.format]
    async with aclosing(export.chunks(database, query.filter, until=span.last, after=after)) as chunks:
        async for chunk in chunks:
            if chunk.documents:
                yield await asyncio.to_thread(write, chunk.documents)


async def _zipped(written: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """As gzip, made in a thread too."""
    zip_ = zlib.compressobj(GZIP_LEVEL, wbits=_GZIP_FORMAT)
    async with aclosing(written):
        async for lines in written:
            if zipped := await asyncio.to_thread(zip_.compress, lines):
                yield zipped
    yield zip_.flush()
