"""Who may do what: one bearer key and its scopes. (docs.runflow.io/concepts/authentication)"""

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
    """The key that is good at present (None: every request is) and what it may do; both may be changed at any time."""

    api_key: str | None
    scopes: frozenset[str] = SCOPES

    def check(self, authorization: str, scope: str | None) -> None:
        """Raises Unauthorized for another key, PermissionDenied without the scope."""
        if self.api_key is not None and not compare_digest(authorization.encode(), f"Bearer {self.api_key}".encode()):
            raise Unauthorized("the API key is missing or wrong")
        if scope is not None and scope not in self.scopes:
            raise PermissionDenied(f"the API key lacks the scope {scope}")
