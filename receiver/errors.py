"""Every failure that this package raises on purpose, in one tree. Imports nothing of ours.

    ReceiverError
    ├── SettingsError            a setting is wrong or missing            exit status 2
    ├── SchemaError              the database is newer or not migrated    exit status 2
    ├── PipelineTaken            another process runs the pipeline on this SQLite file
    ├── StoreUnavailable         cannot store just now: `reason` says why  → 503
    ├── SinkError                a destination cannot be reached as it is set up   (in receiver.sinks.base)
    ├── RunflowRefused           Runflow's API answered with an error, or not at all
    └── RequestError             what a caller of our HTTP side did        → its status
        ├── Unauthorized             401  UNAUTHORIZED
        ├── PermissionDenied         403  PERMISSION_DENIED
        ├── NotFound                 404  NOT_FOUND
        ├── MethodNotAllowed         405  METHOD_NOT_ALLOWED
        ├── Conflict                 409  CONFLICT
        ├── BodyTooLarge             413  BODY_TOO_LARGE
        ├── UnsupportedMediaType     415  UNSUPPORTED_MEDIA_TYPE
        ├── Invalid                  422  VALIDATION_ERROR, `errors` names each field
        ├── RunflowRefusesKey        502  RUNFLOW_REFUSED      the operator must mend the key
        └── RunflowNotNow            Runflow may take it another time
            ├── RateLimited          429  RATE_LIMITED         what Runflow answered to what was handed on to it
            └── RunflowAway          504  RUNFLOW_UNAVAILABLE

The status of each is in one table, in `receiver.web.answers`. A message never holds a secret, a signature or the full
address of a sink: it is shown, logged and kept by others.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

Unstorable = Literal["database", "disk", "queue_full", "stopping", "schema"]
"""Why nothing can be stored just now; `/readyz` answers with one of these words."""


class ReceiverError(Exception):
    """The root: catch this to catch all that is ours."""


class SettingsError(ReceiverError):
    """A setting is wrong or missing. Each line of the message names one, what is wrong, and what would be right."""


class SchemaError(ReceiverError):
    """The database is newer than this program, or not migrated. The message says what to do."""


class PipelineTaken(ReceiverError):
    """Another process already runs the pipeline on this SQLite file."""


class StoreUnavailable(ReceiverError):
    """The store cannot take anything just now. Nothing was stored, and trying again later is right."""

    def __init__(self, reason: Unstorable, message: str) -> None:
        super().__init__(message)
        self.reason: Unstorable = reason


class RunflowRefused(ReceiverError):
    """Runflow's API answered with an error (`status`), or could not be reached (`status` is None).

    `after`: the seconds that it asks to wait. `problems`: the fields that it calls wrong.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        *,
        after: float | None = None,
        problems: "Sequence[FieldProblem]" = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.after = after
        self.problems = list(problems)


class FieldProblem(NamedTuple):
    """One wrong field of a request, as it stands in the answer's `errors`."""

    field: str
    message: str


class RequestError(ReceiverError):
    """A request that cannot be served as it is. `code` is Runflow's own word for it, where it has one."""

    code = "BAD_REQUEST"


class Unauthorized(RequestError):
    """No token or signature, or a wrong one; which of the two is not told. `scheme` is what the address wants instead."""

    code = "UNAUTHORIZED"

    def __init__(self, message: str, scheme: str = "Bearer") -> None:
        super().__init__(message)
        self.scheme = scheme


class PermissionDenied(RequestError):
    """A good token without the right to do this."""

    code = "PERMISSION_DENIED"


class NotFound(RequestError):
    """There is no such thing here."""

    code = "NOT_FOUND"


class MethodNotAllowed(RequestError):
    """The address exists; this method does not. `allowed` are those that do, as the `Allow` header writes them."""

    code = "METHOD_NOT_ALLOWED"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"only {allowed} is served here")
        self.allowed = allowed


class Conflict(RequestError):
    """It is not in a state in which this can be done."""

    code = "CONFLICT"


class BodyTooLarge(RequestError):
    """The body is over the limit."""

    code = "BODY_TOO_LARGE"


class UnsupportedMediaType(RequestError):
    """The body is not of the kind that is taken here."""

    code = "UNSUPPORTED_MEDIA_TYPE"


class Invalid(RequestError):
    """A parameter or a field is wrong; `problems` names each."""

    code = "VALIDATION_ERROR"

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(f"{field}: {message}" for field, message in problems))
        self.problems = list(problems)


class RunflowRefusesKey(RequestError):
    """Runflow does not take this service's key for this, or there is none: whoever runs the service has to mend it."""

    code = "RUNFLOW_REFUSED"


class RunflowNotNow(RequestError):
    """Runflow may take it another time. `after`: the seconds that it asks to wait."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class RateLimited(RunflowNotNow):
    """Runflow takes no more just now."""

    code = "RATE_LIMITED"


class RunflowAway(RunflowNotNow):
    """Runflow did not answer, or is in trouble."""

    code = "RUNFLOW_UNAVAILABLE"
