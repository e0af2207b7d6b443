"""Who may read and who may change: `Authorization: Bearer TOKEN`, against digests in constant time."""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Literal, NamedTuple

from starlette.requests import Request

from receiver.errors import PermissionDenied, Unauthorized

Scope = Literal["read", "operate"]


class TokenDigest(NamedTuple):
    """A token as it is kept: its label, what it may do, and the SHA-256 of it."""

    label: str
    scope: Scope
    sha256: bytes


class Access:
    """The tokens that are good at present. With none, nobody gets in."""

    def __init__(self, tokens: Sequence[TokenDigest]) -> None:
        self._tokens = tuple(tokens)

    def require(self, request: Request, scope: Scope = "read") -> str:
        """The label of the caller's token. Raises `Unauthorized`, the same for every bad token, or `PermissionDenied`."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(token.strip().encode()).digest()
        found = None
        for each in self._tokens:
            if hmac.compare_digest(each.sha256, digest):
                found = each
        if found is None or scheme.lower() != "bearer":
            raise Unauthorized("a token is needed: Authorization: Bearer TOKEN, one of RECEIVER_API_TOKENS")
        if scope == "operate" and found.scope != "operate":
            raise PermissionDenied("this token may read, not change")
        return found.label
