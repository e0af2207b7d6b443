"""What answers look like, as models: where `verdict.v1` alone does not say it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model

from receiver.core.evaluation import EMBEDDED
from receiver.core.verdict import NOT_IN_LISTS, Verdict
from receiver.errors import Unstorable


class Shape(BaseModel):
    """A closed shape: what is not named here is not in the answer."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


class Problem(Shape):
    """One wrong parameter or field."""

    field: str
    message: str


class Error(Shape):
    """Every error, in Runflow's own shape."""

    code: str = Field(description="A word that programs may hold on to.")
    message: str = Field(description="For people. Nothing secret or internal is in it.")
    errors: list[Problem] | None = Field(description="Each wrong parameter or field; null for other errors.")


VerdictItem = create_model(
    "VerdictItem",
    __base__=Shape,
    __doc__="A verdict without what makes it long: judges, issues, gate failures, action and check summary.",
    **{name: (each.annotation, each) for name, each in Verdict.model_fields.items() if name not in NOT_IN_LISTS},
)  # type: ignore[call-overload]  # fields that are made of other fields have no types of their own

VerdictPage = create_model(
    "VerdictPage",
    __base__=Shape,
    __doc__="A page of verdicts, the newest first.",
    items=(list[VerdictItem], ...),
    next=(str | None, Field(description="The `cursor` of the next page; null when this is the last.")),
)


def _only_where_asked_for(schema: dict[str, Any]) -> None:
    schema["required"] = [name for name in schema["required"] if name not in EMBEDDED]


class ShownVerdict(Verdict):
    """A verdict, and what Runflow embedded where `embed` asks for it: as it came, null where there was none."""

    model_config = ConfigDict(title="Verdict, shown alone", json_schema_extra=_only_where_asked_for)

    run: Any = None
    model: Any = None
    flow: Any = None
    comfyui_workflow: Any = None
    parent_evaluation: Any = None


class Alive(Shape):
    """The process lives."""

    status: Literal["ok"]


class Ready(Shape):
    """A callback could be stored."""

    status: Literal["ready"]


class NotReady(Shape):
    """Nothing can be stored just now, and why."""

    status: Literal["unavailable"]
    reason: Unstorable


class About(Shape):
    """What became of a callback about an evaluation."""

    result: Literal["accepted", "duplicate"]
    evaluation_id: str


class Ignored(Shape):
    """A genuine callback of another kind. It is kept."""

    result: Literal["ignored"]
    event: str


class Quarantined(Shape):
    """A genuine callback that was not understood. It is kept byte for byte."""

    result: Literal["quarantined"]


class StoredNow(RootModel[About | Quarantined]):
    """It is durably stored, for the first time, or not understood and kept."""


class StoredBefore(RootModel[About | Ignored]):
    """It was stored before, or is of another kind."""
