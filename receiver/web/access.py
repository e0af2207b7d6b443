"""Who may do what: `Authorization: Bearer TOKEN`, against digests in constant time."""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Literal, Protocol

from starlette.requests import Request

from receiver.errors import PermissionDenied, Unauthorized

Right = Literal["read", "operate"]
"""`operate` may do all that `read` may."""


class Token(Protocol):
    """A token as it is kept: under a label, as the SHA-256 of it."""

    @property
    def label(self) -> str: ...

    @property
    def scope(self) -> Right: ...

    @property
    def sha256(self) -> bytes: ...


class Access:
    """The tokens that are good at present; they may be exchanged while it runs. With none, nobody gets in."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tuple(tokens)

    def require(self, request: Request, right: Right) -> str:
        """The label of the caller's token. Raises `Unauthorized`, the same for every bad token, and `PermissionDenied`."""
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        token = self.find(text.strip())
        if token is None or scheme.lower() != "bearer":
            raise Unauthorized("a token is needed: Authorization: Bearer TOKEN, one of RECEIVER_API_TOKENS")
        if right == "operate" and token.scope != "operate":
            raise PermissionDenied("this token may read; one made as label:operate=TOKEN may do this")
        return token.label

    def find(self, text: str) -> Token | None:
        """The token with this text. All are compared, whichever it is, each in constant time."""
        digest = hashlib.sha256(text.encode()).digest()
        found = None
        for each in self.tokens:
            if hmac.compare_digest(each.sha256, digest):
                found = each
        return found
