"""The hook's part of the route table. It is described there and served before all routing (`receiver.web.hook`)."""

from collections.abc import Sequence

from receiver.errors import BodyTooLarge, MethodNotAllowed, StoreUnavailable, Unauthorized
from receiver.web.examples import CALLBACK, EVALUATION
from receiver.web.hook import PATH
from receiver.web.operations import Answer, Operation, Parameter
from receiver.web.shapes import StoredBefore, StoredNow

_ACCEPTED = {"result": "accepted", "evaluation_id": EVALUATION}


class Callbacks:
    """What is said of `POST /webhook/runflow`."""

    def operations(self) -> Sequence[Operation]:
        """The one."""
        signature = Parameter(
            "Runflow-Signature",
            "The HMAC-SHA256 of the body, made with a callback secret: 64 lower-case hex digits.",
            {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "header",
            required=True,
        )
        return (
            Operation(
                "take_callback",
                "POST",
                PATH,
                None,
                "Runflow's callback",
                description="Answered after it is durably stored, and never before. `receiver send` makes and signs one.",
                tag="callbacks",
                parameters=(signature,),
                body={},
                body_example=CALLBACK,
                answers=(
                    Answer(202, "Stored; or genuine, not understood and kept.", StoredNow, _ACCEPTED),
                    Answer(
                        200, "Stored before; or of another kind.", StoredBefore, _ACCEPTED | {"result": "duplicate"}
                    ),
                ),
                errors=(Unauthorized, MethodNotAllowed, BodyTooLarge, StoreUnavailable),
            ),
        )
