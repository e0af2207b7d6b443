"""Who may do what: one bearer key with its scopes, and one person. (docs.runflow.io/concepts/authentication)"""

from dataclasses import dataclass
from hmac import compare_digest
from typing import Final

from receiver.errors import PermissionDenied, Unauthorized

READ: Final = "evaluations:read"
CREATE: Final = "evaluations:create"
EDIT: Final = "evaluations:edit"
SCOPES: Final = frozenset({READ, CREATE, EDIT})


@dataclass
class Access:
    """The key that is good at present (None: every request is) and what it may do; all may be changed at any time.

    `user_token` is a person's: it may do everything, and some of it no key may.
    """

    api_key: str | None
    scopes: frozenset[str] = SCOPES
    user_token: str | None = None

    def check(self, authorization: str, scope: str | None) -> None:
        """Raises Unauthorized for another key, PermissionDenied without the scope."""
        if _bears(authorization, self.user_token):
            return
        if self.api_key is not None and not _bears(authorization, self.api_key):
            raise Unauthorized("the API key is missing or wrong")
        if scope is not None and scope not in self.scopes:
            raise PermissionDenied(f"the API key lacks the scope {scope}")

    def check_person(self, authorization: str) -> None:
        """Raises Unauthorized for whom nobody knows, PermissionDenied for an API key."""
        if not _bears(authorization, self.user_token):
            self.check(authorization, None)
            raise PermissionDenied("this is for people: an API key may not do it")


def _bears(authorization: str, token: str | None) -> bool:
    return token is not None and compare_digest(authorization.encode(), f"Bearer {token}".encode())
