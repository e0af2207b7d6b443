"""The API described by itself: `GET /openapi.json` for programs, `GET /docs` for people."""

from collections.abc import Sequence
from functools import cached_property

import orjson
from starlette.requests import Request
from starlette.responses import Response

from receiver.web.caching import IF_NONE_MATCH, PUBLIC, TAG, UNCHANGED, kept_answer
from receiver.web.openapi import document
from receiver.web.operations import Answer, Operation
from receiver.web.page import POLICY, page


class Description:
    """The endpoints. `table` is the whole route table, their own part in it."""

    table: Sequence[Operation] = ()

    def operations(self) -> Sequence[Operation]:
        """Their part of the route table."""
        return (
            Operation(
                "openapi", "GET", "/openapi.json", self.openapi, "This document",
                tag="service",
                parameters=(IF_NONE_MATCH,),
                answers=(Answer(200, "OpenAPI 3.1.", {"type": "object"}, headers=TAG), UNCHANGED),
            ),
            Operation(
                "docs", "GET", "/docs", self.docs, "This document as a page",
                tag="service",
                parameters=(IF_NONE_MATCH,),
                answers=(Answer(200, "A page.", {"type": "string"}, media="text/html", headers=TAG), UNCHANGED),
            ),
        )  # fmt: skip

    @cached_property
    def _document(self) -> bytes:
        return orjson.dumps(document(self.table), option=orjson.OPT_INDENT_2)

    @cached_property
    def _page(self) -> bytes:
        return page(document(self.table)).encode()

    async def openapi(self, request: Request) -> Response:
        """`GET /openapi.json`: open to all."""
        return kept_answer(request, self._document, cache_control=PUBLIC)

    async def docs(self, request: Request) -> Response:
        """`GET /docs`: open to all."""
        answer = kept_answer(request, self._page, media="text/html", cache_control=PUBLIC)
        answer.headers["Content-Security-Policy"] = POLICY
        return answer
