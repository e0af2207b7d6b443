"""Who may read: `Authorization: Bearer TOKEN`, against digests in constant time."""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Protocol

from starlette.requests import Request

from receiver.errors import Unauthorized


class Token(Protocol):
    """A token as it is kept: under a label, as the SHA-256 of it."""

    @property
    def label(self) -> str: ...

    @property
    def sha256(self) -> bytes: ...


class Access:
    """The tokens that are good at present. With none, nobody gets in."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tuple(tokens)

    def require(self, request: Request) -> str:
        """The label of the caller's token. Raises `Unauthorized`, the same for every bad token."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(token.strip().encode()).digest()
        found = None
        for each in self._tokens:
            if hmac.compare_digest(each.sha256, digest):
                found = each
        if found is None or scheme.lower() != "bearer":
            raise Unauthorized("a token is needed: Authorization: Bearer TOKEN, one of RECEIVER_API_TOKENS")
        return found.label
