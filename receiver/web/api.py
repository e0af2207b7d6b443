"""The read API: stored verdicts, one or many, and the schema of their messages."""

from collections.abc import Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response

from receiver.core.evaluation import EMBEDDED
from receiver.core.item import page_of
from receiver.core.timeline import Timeline
from receiver.core.verdict import json_schema
from receiver.errors import FieldProblem, Invalid, NotFound
from receiver.store import reading
from receiver.store.database import Database
from receiver.store.timeline import timeline
from receiver.web.answers import json_answer
from receiver.web.caching import IF_NONE_MATCH, PUBLIC, TAG, UNCHANGED, kept_answer
from receiver.web.cursors import cursor_for
from receiver.web.examples import ITEM, TIMELINE, VERDICT
from receiver.web.operations import JSON, Answer, Operation
from receiver.web.parameters import (
    EMBED,
    EVALUATION_ID,
    LIST_PARAMETERS,
    evaluation_id_of,
    read_list_query,
    refuse_parameters,
)
from receiver.web.shapes import ShownVerdict, VerdictPage

SCHEMA_JSON = "application/schema+json"


class Api:
    """The endpoints of stored verdicts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._schema = orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2)

    def operations(self) -> Sequence[Operation]:
        """Their part of the route table."""
        return (
            Operation(
                "list_verdicts", "GET", "/v1/verdicts", self.list_verdicts, "Stored verdicts, a page at a time",
                description="The newest first. All filters that are given must hold; one given twice means any of.",
                right="read",
                parameters=LIST_PARAMETERS,
                answers=(Answer(200, "A page.", VerdictPage, {"items": [ITEM], "next": None}),),
            ),
            Operation(
                "show_verdict", "GET", "/v1/verdicts/{evaluation_id}", self.show_verdict, "One verdict, whole",
                right="read",
                parameters=(EVALUATION_ID, EMBED, IF_NONE_MATCH),
                answers=(
                    Answer(200, "The newest result of this evaluation.", ShownVerdict, VERDICT, headers=TAG),
                    UNCHANGED,
                ),
                errors=(NotFound,),
            ),
            Operation(
                "show_timeline", "GET", "/v1/verdicts/{evaluation_id}/timeline", self.show_timeline,
                "Why a verdict went where it went",
                description="How it arrived, each try at a fetch or a delivery, and what is to come; the oldest first.",
                right="read",
                parameters=(EVALUATION_ID,),
                answers=(Answer(200, "What happened to this evaluation here.", Timeline, TIMELINE),),
                errors=(NotFound, Invalid),
            ),
            Operation(
                "verdict_schema", "GET", "/schemas/verdict.v1.json", self.verdict_schema,
                "The JSON Schema of a verdict",
                parameters=(IF_NONE_MATCH,),
                answers=(
                    Answer(200, "JSON Schema.", {"type": "object"}, media=SCHEMA_JSON, headers=TAG),
                    UNCHANGED,
                ),
            ),
        )  # fmt: skip

    async def list_verdicts(self, request: Request) -> Response:
        """`GET /v1/verdicts`: a page, the newest first."""
        query = read_list_query(request.query_params)
        page = await self._database.read(
            reading.page, query.filter, limit=query.limit, sort=query.sort, after=query.after
        )
        following = page.end and cursor_for(page.end, query.sort, query.filter)
        return Response(page_of(page.documents, following), media_type=JSON)

    async def show_verdict(self, request: Request) -> Response:
        """`GET /v1/verdicts/{evaluation_id}`: the whole result; `?embed=` adds what Runflow embedded."""
        evaluation_id, embeds = evaluation_id_of(request), _embeds(request)
        verdict = await self._database.read(reading.one, evaluation_id)
        if verdict is None:
            raise NotFound(f"there is no evaluation {evaluation_id} here")
        content = verdict.model_dump(mode="json")
        if embeds:
            there = await self._database.read(reading.embeds, evaluation_id)
            content |= {name: there[name] for name in embeds}
        return kept_answer(request, orjson.dumps(content))

    async def show_timeline(self, request: Request) -> Response:
        """`GET /v1/verdicts/{evaluation_id}/timeline`: what happened to it here, and what is to come."""
        evaluation_id = evaluation_id_of(request)
        refuse_parameters(request)
        found = await self._database.read(timeline, evaluation_id, self._database.now())
        if found is None:
            raise NotFound(f"there is no evaluation {evaluation_id} here")
        return json_answer(found.model_dump(mode="json"))

    async def verdict_schema(self, request: Request) -> Response:
        """`GET /schemas/verdict.v1.json`: open to all."""
        return kept_answer(request, self._schema, media=SCHEMA_JSON, cache_control=PUBLIC)


def _embeds(request: Request) -> list[str]:
    unknown = [FieldProblem(name, "unknown; there is embed") for name in request.query_params if name != "embed"]
    names = [name for text in request.query_params.getlist("embed") for name in text.split(",") if name]
    unknown += [FieldProblem("embed", f"must be of {', '.join(EMBEDDED)}") for name in names if name not in EMBEDDED]
    if unknown:
        raise Invalid(unknown)
    return names
