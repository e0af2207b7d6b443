"""What people say of an evaluation where its verdict was shown to them."""

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

UP: Final = "rate_up"
DOWN: Final = "rate_down"
BACK: Final = "rate_back"
THUMBS: Final = {UP: True, DOWN: False, BACK: None}
"""The name of each button, and what a click on it says: a thumb up, one down, or that it is taken back."""


class Rating(NamedTuple):
    """One person's thumb, up or down. `person` is the service's own name for them."""

    person: str
    is_positive: bool


class Click(NamedTuple):
    """Somebody clicked: a thumb, or None to take it back. `place` is the message, in the words of the sink that sent it."""

    evaluation_id: UUID
    revision: int
    person: str
    is_positive: bool | None
    clicked_at: datetime
    sink: str
    place: str
