"""Answers that a client may keep: it asks with the tag of what it has, and is told in a few bytes that nothing has changed."""

import hashlib
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from receiver.web.operations import JSON, Answer, Parameter

IF_NONE_MATCH: Final = Parameter(
    "If-None-Match", "The `ETag` of what you have: the answer is 304 if that is still so.", {"type": "string"}, "header",
    example='W/"4f0c7b1d"',
)  # fmt: skip
TAG: Final = {"ETag": "The tag of this answer, for `If-None-Match`."}
UNCHANGED: Final = Answer(304, "What you have is still so.", headers=TAG)
PRIVATE: Final = "private, no-cache"
"""Only for who asked, and never used without asking again."""
PUBLIC: Final = "public, max-age=300"
"""For what changes with a new version of the program alone."""


def _tag_of(content: bytes) -> str:
    """The tag of an answer. A weak one: zipped or not, it is the same answer."""
    return f'W/"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'


def _has_it(request: Request, tag: str) -> bool:
    """Whether the client has what this is the tag of (RFC 9110, section 13.1.2)."""
    given = ",".join(request.headers.getlist("if-none-match"))
    return given.strip() == "*" or _opaque(tag) in (_opaque(each) for each in given.split(","))


def kept_answer(request: Request, content: bytes, *, media: str = JSON, cache_control: str = PRIVATE) -> Response:
    """200 with the content and its tag, or 304 with the headers that 200 would have had."""
    tag = _tag_of(content)
    headers = {"ETag": tag, "Cache-Control": cache_control}
    if _has_it(request, tag):
        return Response(status_code=304, headers=headers | {"Vary": "Accept-Encoding"})
    return Response(content, headers=headers, media_type=media)


def _opaque(tag: str) -> str:
    return tag.strip().removeprefix("W/")
