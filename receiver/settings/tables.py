"""The tables of `receiver.toml` other than the sinks: closed, so that a word that is wrong is told and not passed over."""

from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from receiver.settings.texts import base_address

KIB: Final = 1024
MIB: Final = 1024 * KIB
DAY: Final = 24 * 3600.0


def _no_flag(value: Any) -> Any:
    """Python takes true for 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number")
    return value


Whole = Annotated[int, BeforeValidator(_no_flag)]
Number = Annotated[float, BeforeValidator(_no_flag)]


class Table(BaseModel):
    """One table. An unknown key is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FetchOptions(Table):
    """`[fetch]`: how the tree of an evaluation is fetched from Runflow."""

    hold: Number = Field(
        default=600, ge=0, le=DAY, description="Seconds that a callback waits for its tree before it goes out without."
    )
    rate: Number | None = Field(
        default=None, gt=0, description="Most requests a second to Runflow, over all processes."
    )
    concurrency: Whole = Field(default=10, ge=1, le=20, description="Requests under way at once, in each process.")


class LimitsOptions(Table):
    """`[limits]`: what is taken in before the answer is 413 or 503."""

    body_bytes: Whole = Field(default=MIB, ge=KIB, le=64 * MIB, description="The longest body of a callback, in bytes.")
    queue_rows: Whole = Field(default=10_000, ge=1, description="The most callbacks that wait to be stored.")
    queue_bytes: Whole = Field(
        default=64 * MIB, ge=KIB, description="The most bytes of callbacks that wait to be stored."
    )

    @model_validator(mode="after")
    def _a_body_must_fit(self) -> Self:
        if self.body_bytes > self.queue_bytes:
            raise ValueError("body_bytes must not be more than queue_bytes, or the longest body could never be stored")
        return self


def _origin(text: str) -> str:
    """As browsers write it: scheme, host and port, in lower case."""
    if text == "*":
        return text
    address = base_address(text)
    if address != text or urlsplit(text).path or text != text.lower():
        raise ValueError(
            "is not an origin; give one such as https://host.example, in lower case and without a path, or *"
        )
    return text


class ApiOptions(Table):
    """`[api]`: how the read API answers."""

    cors_origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = Field(
        default=(),
        description="Origins whose scripts may read answers in a browser, such as https://host.example; * is any.",
    )


class RetentionOptions(Table):
    """`[retention]`: what is deleted when it is old. Nothing is, unless it says so."""

    events_days: Whole | None = Field(default=None, ge=1, description="Days that the bodies of callbacks are kept.")
    verdicts_days: Whole | None = Field(default=None, ge=1, description="Days that verdicts and trees are kept.")


class ReconcileOptions(Table):
    """`[reconcile]`: looking for callbacks that never came."""

    every: Number = Field(default=900, ge=60, le=DAY, description="Seconds from one look to the next.")
    overdue_after: Number = Field(default=600, gt=0, description="Seconds after which an expected callback is overdue.")


class AlertsOptions(Table):
    """`[alerts]`: who is told, and from which number on, for each kind of trouble. 0 switches a kind off."""

    to: tuple[str, ...] = Field(default=(), description="Names of the sinks that alerts go to.")
    quarantined: Whole = Field(default=1, ge=0, description="Bodies that were genuine and not understood.")
    callback_overdue: Whole = Field(default=1, ge=0, description="Expected callbacks that are overdue.")
    key_refused: Whole = Field(default=1, ge=0, description="Answers 401 or 403 from Runflow in a row.")
    sink_paused: Number = Field(default=300, ge=0, description="Seconds that a sink has been paused.")
    dead_letters: Whole = Field(default=1, ge=0, description="Messages that became dead letters.")
    pass_rate_drop: Number = Field(
        default=0.2, ge=0, le=1, description="How far the pass rate of the last hour is below that of the last day."
    )
    signature_failures: Whole = Field(default=20, ge=0, description="Callbacks with a bad signature in an hour.")
