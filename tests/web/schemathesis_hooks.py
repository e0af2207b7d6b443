"""What schemathesis cannot know by itself: how a callback is signed, and which cursors there are."""

import os
from typing import Any

import requests
import schemathesis

from receiver.core.signature import Secret

CALLBACK = "/webhook/runflow"


class Signed(requests.auth.AuthBase):
    """Signs the body as it is sent."""

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        """Adds the signature in place of the one that was made up."""
        body = prepared.body or b""
        if isinstance(body, str):
            body = body.encode()
        assert isinstance(body, bytes)
        prepared.headers["Runflow-Signature"] = Secret(os.environ["SECRET"]).sign(body)
        return prepared


@schemathesis.hook
def before_call(_context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Signs callbacks; leaves out a cursor that was made up, as any text is one by its schema, and none of it is good."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if case.operation.path == CALLBACK:
        kwargs["auth"] = Signed()
    if case.query:
        case.query.pop("cursor", None)
