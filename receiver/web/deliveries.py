"""The outbox: `GET /v1/deliveries`, and a delivery that is to begin anew."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import structlog
from pydantic import Field
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from receiver.core.lenient import without_nul
from receiver.errors import Conflict, FieldProblem, Invalid, NotFound
from receiver.pipeline.station import Bells
from receiver.store import lanes, outbox_desk
from receiver.store.database import Database
from receiver.store.outbox import STATES
from receiver.store.outbox_desk import DeliveryFilter, DeliveryRecord, PausedSink
from receiver.web.answers import json_answer
from receiver.web.cursors import delivery_cursor, read_delivery_cursor
from receiver.web.examples import DELIVERY, PAUSED_SINK
from receiver.web.operations import Answer, Operation, Parameter
from receiver.web.parameters import (
    LIMIT,
    MOST_VALUES,
    read_limit,
    read_uuid,
    refuse_parameters,
    too_many_values,
    wrong_names,
)
from receiver.web.shapes import Shape

LARGEST_ID: Final = 2**63 - 1

PARAMETERS = (
    *(
        Parameter(name, f"{meaning}. Given twice: any of.",
                  {"type": "array", "items": items, "minItems": 1, "maxItems": MOST_VALUES})
        for name, meaning, items in (
            ("state", "How it stands", {"type": "string", "enum": list(STATES)}),
            ("sink", "The sink's name", {"type": "string"}),
            ("evaluation_id", "The evaluation", {"type": "string", "format": "uuid"}),
        )
    ),
    LIMIT,
    Parameter("cursor", "The `next` of the page before, with the same filters.", {"type": "string"}),
)  # fmt: skip
DELIVERY_ID = Parameter(
    "delivery_id", "The delivery's id.", {"type": "integer", "minimum": 1, "maximum": LARGEST_ID}, "path", example=1207
)
_WORDS = ("state", "sink", "evaluation_id")
_PAGING = ("limit", "cursor")
_REFUSED = {
    "leased": "is being sent just now; look again when that has ended",
    "delivered": "was delivered; `receiver replay` sends a verdict once more",
}

log = structlog.get_logger()


class DeliveryPage(Shape):
    """A page of deliveries, the newest first, and the sinks that are paused at present, whatever the filters."""

    items: list[DeliveryRecord]
    next: str | None = Field(description="The `cursor` of the next page; null when this is the last.")
    paused: list[PausedSink]


class DeliveryQuery(NamedTuple):
    """What `GET /v1/deliveries` was asked for."""

    filter: DeliveryFilter
    limit: int
    before_id: int | None


class Deliveries:
    """The endpoints of the outbox."""

    def __init__(self, database: Database, bells: Bells) -> None:
        self._database = database
        self._bells = bells

    def operations(self) -> Sequence[Operation]:
        """Their part of the route table."""
        page = {"items": [DELIVERY], "next": None, "paused": [PAUSED_SINK]}
        return (
            Operation(
                "list_deliveries", "GET", "/v1/deliveries", self.list_deliveries, "The outbox, a page at a time",
                description="One delivery for each revision and each sink that it is due to, and each replay. Newest first.",
                tag="deliveries",
                right="read",
                parameters=PARAMETERS,
                answers=(Answer(200, "A page.", DeliveryPage, page),),
            ),
            Operation(
                "retry_delivery", "POST", "/v1/deliveries/{delivery_id}/retry", self.retry_delivery,
                "Begin a delivery anew",
                description="Makes one that is dead, discarded or waiting due now, with all attempts before it again, and has a"
                " sink that is paused try at once. To do it twice does no harm.",
                tag="deliveries",
                right="operate",
                parameters=(DELIVERY_ID,),
                answers=(Answer(200, "The delivery, which is due now.", DeliveryRecord, DELIVERY),),
                errors=(NotFound, Conflict, Invalid),
            ),
        )  # fmt: skip

    async def list_deliveries(self, request: Request) -> Response:
        """`GET /v1/deliveries`: a page, the newest first."""
        query = read_delivery_query(request.query_params)
        records = await self._database.read(
            outbox_desk.page, query.filter, limit=query.limit + 1, before_id=query.before_id
        )
        paused = await self._database.read(outbox_desk.paused_sinks)
        items = records[: query.limit]
        there_are_more = len(records) > query.limit
        return json_answer(
            {
                "items": [item.model_dump(mode="json") for item in items],
                "next": delivery_cursor(items[-1].id, query.filter) if there_are_more else None,
                "paused": [each.model_dump(mode="json") for each in paused],
            }
        )

    async def retry_delivery(self, request: Request) -> Response:
        """`POST /v1/deliveries/{delivery_id}/retry`: due now, with all its attempts before it again."""
        delivery_id = _delivery_id(request)
        refuse_parameters(request)
        by: str = request.state.caller
        record, is_retried = await self._database.write(outbox_desk.retry_one, delivery_id, self._database.now(), by)
        if record is None:
            raise NotFound(f"there is no delivery {delivery_id} here")
        if not is_retried:
            raise Conflict(f"delivery {delivery_id} {_REFUSED.get(record.state, f'is {record.state}')}")
        log.info("delivery.retried", delivery=delivery_id, sink=record.sink, by=by)
        self._bells.ring(lanes.sink_lane(record.sink))
        return json_answer(record.model_dump(mode="json"))


def read_delivery_query(query: QueryParams) -> DeliveryQuery:
    """Raises `Invalid`, which names every unknown parameter and every wrong value."""
    problems = wrong_names(query, _PAGING, _WORDS)
    filter_ = _filter(query, problems)
    limit = read_limit(query.get("limit"), problems)
    before_id = None
    if (cursor := query.get("cursor")) is not None:
        try:
            before_id = read_delivery_cursor(cursor, filter_)
        except ValueError as error:
            problems.append(FieldProblem("cursor", str(error)))
    if problems:
        raise Invalid(problems)
    return DeliveryQuery(filter_, limit, before_id)


def _filter(query: QueryParams, problems: list[FieldProblem]) -> DeliveryFilter:
    values: dict[str, Any] = {name: query.getlist(name) for name in _WORDS}
    problems += too_many_values(values)
    if any(state not in STATES for state in values["state"]):
        problems.append(FieldProblem("state", f"must be one of {', '.join(STATES)}"))
    ids = [read_uuid(text) for text in values["evaluation_id"]]
    if None in ids:
        problems.append(FieldProblem("evaluation_id", "must be a UUID"))
    return DeliveryFilter(
        states=tuple(state for state in values["state"] if state in STATES),
        sinks=tuple(map(without_nul, values["sink"])),
        evaluation_ids=tuple(key for key in ids if key is not None),
    )


def _delivery_id(request: Request) -> int:
    text: str = request.path_params["delivery_id"]
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and 1 <= int(text) <= LARGEST_ID):
        raise NotFound("a delivery's id is a whole number")
    return int(text)
