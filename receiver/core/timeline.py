"""The timeline of one evaluation, as the API and the command line show it: what happened to it here, and what is to come.

Each entry has `at` and `what`; all other fields are there too, null where nothing is known.
"""

from datetime import datetime
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from receiver.core.verdict import Moment, Origin, Tree

MOST_ODDITIES = 20


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)

    at: Moment


class Received(_Entry):
    """Its callback arrived, or reconcile found that it had not and stored it all the same."""

    what: Literal["received"] = "received"
    event: str
    origin: Origin
    secret_label: str | None = Field(description="The callback secret that it was signed with.")
    request_id: str | None = Field(description="Runflow-Request-Id.")
    oddities: list[str] = Field(description="What was missing or not readable in it; the fetch settles that.")
    waiting: bool = Field(description="Whether the pipeline has yet to see to it.")


class Repeated(_Entry):
    """The same event came again, this often; `at` is the last time."""

    what: Literal["repeated"] = "repeated"
    event: str
    repeats: int


class OtherBytes(_Entry):
    """A repeat had other bytes than before: they are kept, and the tree is fetched again."""

    what: Literal["other_bytes"] = "other_bytes"
    event: str
    size: int = Field(description="In bytes.")
    oddities: list[str]


class FetchFailed(_Entry):
    """A fetch of the tree brought none. `paused`: the key's or the rate's fault, which used up no attempt."""

    what: Literal["fetch_failed"] = "fetch_failed"
    outcome: Literal["again", "paused", "given_up"]
    attempt: int | None
    reason: str | None = Field(description="In a word, as in `tree_reason`.")
    detail: str | None
    status: int | None = Field(description="Of Runflow's answer; null when there was none.")
    due_at: Moment | None = Field(description="When it is tried again.")


class Fetched(_Entry):
    """A fetch brought the tree. `older`: older than the one that was here, so it was dropped."""

    what: Literal["fetched"] = "fetched"
    outcome: Literal["stored", "older"] = "stored"
    oddities: list[str] = Field(default=[], description="What was not readable in it; told of the newest alone.")


class Released(_Entry):
    """A result was released, to the sinks that it was due to."""

    what: Literal["released"] = "released"
    revision: int
    tree: Tree
    tree_reason: str | None
    status: str | None
    overall_passed: bool | None
    sinks: list[str]


class _OfDelivery(_Entry):
    delivery: int = Field(description="The delivery's id.")
    sink: str
    revision: int
    replay_id: str = Field(description="Empty, or the replay that it belongs to.")


class Replayed(_OfDelivery):
    """Somebody asked for it to be sent again."""

    what: Literal["replayed"] = "replayed"


class Retried(_OfDelivery):
    """Somebody had a delivery begin anew."""

    what: Literal["retried"] = "retried"
    by: str | None = Field(description="The label of the API's token; null for the command line.")


class DeliveryFailed(_OfDelivery):
    """The sink did not take it. `dead`: it is not tried again.

    `paused`: the sink's own failure, which used up no attempt; it is tried again when the pause is over.
    """

    what: Literal["delivery_failed"] = "delivery_failed"
    outcome: Literal["again", "paused", "dead"]
    attempt: int | None
    reason: str | None
    due_at: Moment | None = Field(description="When it is tried again.")


class Delivered(_OfDelivery):
    """The sink has it."""

    what: Literal["delivered"] = "delivered"
    attempt: int
    remote_id: str | None = Field(description="The id that the other side gave the message, if it gave one.")


class Discarded(_OfDelivery):
    """Somebody gave up on a delivery."""

    what: Literal["discarded"] = "discarded"
    by: str | None = Field(description="The label of the API's token; null for the command line.")


class Rated(_Entry):
    """A person said what they think of it; the newest of each person. `is_positive` is null where they took it back."""

    what: Literal["rated"] = "rated"
    person: str = Field(description="The service's own name for them, such as Slack's user id.")
    is_positive: bool | None
    sink: str
    revision: int = Field(description="What they were shown.")
    state: Literal["due", "told", "refused"] = Field(description="Whether Runflow has been told of it, and took it.")
    reason: str | None = Field(description="Why it was not told yet, or was refused.")
    due_at: Moment | None = Field(description="When Runflow is told, or told again.")


class FetchDue(_Entry):
    """To come: the tree is fetched at this time, or, while it is being fetched, may be by another process."""

    what: Literal["fetch_due"] = "fetch_due"
    state: Literal["pending", "leased"]
    hold_until: Moment | None = Field(description="Without its tree the verdict is released then.")
    paused_until: Moment | None
    pause_reason: str | None


class DeliveryDue(_OfDelivery):
    """To come: it is sent at this time, or, while it is being sent, may be by another process."""

    what: Literal["delivery_due"] = "delivery_due"
    state: Literal["pending", "leased"]
    paused_until: Moment | None
    pause_reason: str | None


_Any = (
    Received | Repeated | OtherBytes | FetchFailed | Fetched | Released | Replayed | Retried
    | DeliveryFailed | Delivered | Discarded | Rated | FetchDue | DeliveryDue
)  # fmt: skip
Entry = Annotated[_Any, Field(discriminator="what")]
_ORDER = {model.model_fields["what"].default: rank for rank, model in enumerate(get_args(_Any))}


class Timeline(BaseModel):
    """All entries, the oldest first."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)

    items: list[Entry]
    complete: bool = Field(description="False where there are so many entries of a kind that only the newest are here.")


def in_order(entries: list[Entry]) -> list[Entry]:
    """The oldest first; of one moment, causes before what they cause."""

    def place(entry: Entry) -> tuple[datetime, int]:
        return entry.at, _ORDER[entry.what]

    return sorted(entries, key=place)
