"""The read API: stored verdicts, one or many, and the schema of their messages."""

from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response

from receiver.core.evaluation import EMBEDDED
from receiver.core.verdict import NOT_IN_LISTS, json_schema
from receiver.errors import FieldProblem, Invalid, NotFound
from receiver.store import reading
from receiver.store.database import Database
from receiver.web.access import Access
from receiver.web.answers import json_answer
from receiver.web.parameters import cursor_for, read_list_query


class Api:
    """The endpoints. `access` may be exchanged while it runs."""

    def __init__(self, database: Database, access: Access) -> None:
        self.access = access
        self._database = database
        self._schema = orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2)

    async def list_verdicts(self, request: Request) -> Response:
        """`GET /v1/verdicts`: a page, the newest first."""
        self.access.require(request)
        query = read_list_query(request.query_params)
        page = await self._database.read(
            reading.page, query.filter, limit=query.limit, sort=query.sort, after=query.after
        )
        items = [item.model_dump(mode="json", exclude=set(NOT_IN_LISTS)) for item in page.items]
        return json_answer({"items": items, "next": page.end and cursor_for(page.end, query.sort)})

    async def show_verdict(self, request: Request) -> Response:
        """`GET /v1/verdicts/{evaluation_id}`: the whole result; `?embed=` adds what Runflow embedded."""
        self.access.require(request)
        evaluation_id, embeds = _id(request), _embeds(request)
        verdict = await self._database.read(reading.one, evaluation_id)
        if verdict is None:
            raise NotFound(f"there is no evaluation {evaluation_id} here")
        content = verdict.model_dump(mode="json")
        if embeds:
            there = await self._database.read(reading.embeds, evaluation_id)
            content |= {name: there[name] for name in embeds}
        return json_answer(content)

    async def verdict_schema(self, _request: Request) -> Response:
        """`GET /schemas/verdict.v1.json`: open to all."""
        return Response(self._schema, media_type="application/schema+json")


def _id(request: Request) -> UUID:
    try:
        return UUID(request.path_params["evaluation_id"])
    except ValueError:
        raise NotFound("an evaluation's id is a UUID") from None


def _embeds(request: Request) -> list[str]:
    unknown = [FieldProblem(name, "unknown; there is embed") for name in request.query_params if name != "embed"]
    names = [name for text in request.query_params.getlist("embed") for name in text.split(",") if name]
    unknown += [FieldProblem("embed", f"must be of {', '.join(EMBEDDED)}") for name in names if name not in EMBEDDED]
    if unknown:
        raise Invalid(unknown)
    return names
