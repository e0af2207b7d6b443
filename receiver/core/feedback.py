"""What a person thinks of an evaluation, with Runflow's limits. (docs.runflow.io/concepts/evaluations)"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

LONGEST_REASON = 2_000


class Feedback(BaseModel):
    """`is_positive`: True for a thumb up, False for one down, None to take it back. It must be there, also as None."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    is_positive: bool | None
    reason: str | None = Field(default=None, min_length=1, max_length=LONGEST_REASON)

    def content(self) -> dict[str, Any]:
        """The body that Runflow takes: `is_positive` also where it is null, a reason only where there is one to keep."""
        if self.is_positive is None or self.reason is None:
            return {"is_positive": self.is_positive}
        return {"is_positive": self.is_positive, "reason": self.reason}
