"""The evaluations that this Runflow holds, and the list of them. What a decided one says is made from it, in `trees`.

Kept for as long as the process lives: about a kilobyte each, for the trees themselves are not kept.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from receiver.errors import Conflict, FieldProblem, Invalid, NotFound
from receiver.offline.kinds import FAILURES, Kind
from receiver.offline.luck import Luck
from receiver.offline.submission import Feedback, Submission

MOST_ITEMS: Final = 500
_DEFAULT_ITEMS: Final = 50
_CONDITION = re.compile(r"(client_ref|status_code)(?:\.EQ)?:(?:'([^']*)'|([^\s']+))")


@dataclass
class Evaluation:
    """One evaluation. `seed` decides all that is drawn for it, `kind` how it ends; `changes` counts later overrides."""

    id: UUID
    seed: str
    kind: Kind
    submission: Submission
    submitted_at: datetime
    updated_at: datetime
    completed_at: datetime | None = None
    changes: int = 0
    feedback: Feedback | None = None
    run_feedback: Feedback | None = None
    source_code: Literal["api", "platform"] = "api"
    superseded_at: datetime | None = None

    @property
    def status(self) -> str:
        """`running` until it is decided."""
        if self.completed_at is None:
            return "running"
        return "failed" if self.kind in FAILURES else "completed"

    def touch(self, now: datetime) -> None:
        """Makes it newer than it was, whatever the clock does."""
        self.updated_at = max(now, self.updated_at + timedelta(microseconds=1))

    def luck(self, purpose: str) -> Luck:
        """The draws for one purpose: the same each time, and independent of those for another."""
        return Luck(f"{self.seed}/{purpose}")


class Page(NamedTuple):
    """One page of the list and the cursors around it."""

    items: list[Evaluation]
    first: str | None
    next: str | None
    previous: str | None


class Evaluations:
    """All of them, oldest first."""

    def __init__(self) -> None:
        self._by_id: dict[UUID, Evaluation] = {}
        self._by_key: dict[str, tuple[bytes, Evaluation]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, evaluation: Evaluation) -> None:
        """Holds it from now on."""
        self._by_id[evaluation.id] = evaluation

    def get(self, evaluation_id: UUID) -> Evaluation:
        """Raises NotFound."""
        try:
            return self._by_id[evaluation_id]
        except KeyError:
            raise NotFound("no evaluation with this id") from None

    def of_run(self, run_id: UUID) -> list[Evaluation]:
        """Those that judge an output of this run, oldest first."""
        return [each for each in self._by_id.values() if each.submission.run_id == run_id]

    def once(self, key: str | None, body: bytes, make: Callable[[], Evaluation]) -> Evaluation:
        """The evaluation that was made under this `Idempotency-Key`, or a new one.

        Raises Conflict if the key came with another body before: Runflow does not say what it does then.
        """
        if key is None:
            return make()
        digest = hashlib.sha256(body).digest()
        if key not in self._by_key:
            self._by_key[key] = (digest, make())
        known, evaluation = self._by_key[key]
        if known != digest:
            raise Conflict("this Idempotency-Key came with another body before")
        return evaluation

    def page(self, parameters: Mapping[str, str]) -> Page:
        """The page that these query parameters ask for. Raises Invalid, naming the first wrong one."""
        matches = _conditions(parameters.get("q", ""))
        limit = _limit(parameters.get("limit", str(_DEFAULT_ITEMS)))
        rows = [(number, row) for number, row in enumerate(self._by_id.values()) if matches(row)]
        newest_first = _newest_first(parameters.get("sort_by", "created_at:desc"))
        if newest_first:
            rows.reverse()
        at = _number(parameters.get("pq"))
        start = 0 if at is None else sum(1 for number, _ in rows if (number > at if newest_first else number < at))
        if parameters.get("from_prev") == "true":
            start, end = max(start - limit, 0), start
        else:
            end = start + limit
        return Page(
            items=[row for _, row in rows[start:end]],
            first=_cursor(rows[0][0]) if rows else None,
            next=_cursor(rows[end][0]) if end < len(rows) else None,
            previous=_cursor(rows[start][0]) if 0 < start < len(rows) else None,
        )


def _invalid(field: str, message: str) -> Invalid:
    return Invalid([FieldProblem(field, message)])


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_ITEMS:
        raise _invalid("limit", f"must be 1 to {MOST_ITEMS}")
    return int(text)


def _newest_first(sort_by: str) -> bool:
    field, _, direction = sort_by.partition(":")
    if field != "created_at" or direction not in ("asc", "desc"):
        raise _invalid("sort_by", "this offline Runflow sorts by created_at:asc or created_at:desc")
    return direction == "desc"


def _conditions(expression: str) -> Callable[[Evaluation], bool]:
    wanted: list[tuple[str, str]] = []
    for part in re.split(r"\s+AND\s+", expression.strip()) if expression.strip() else []:
        found = _CONDITION.fullmatch(part)
        if found is None:
            raise _invalid("q", "this offline Runflow knows client_ref.EQ:'x' and status_code:x, joined by AND")
        wanted.append((found[1], found[2] if found[2] is not None else found[3]))

    def matches(row: Evaluation) -> bool:
        values: dict[str, Any] = {"client_ref": row.submission.client_ref, "status_code": row.status}
        return all(values[field] == value for field, value in wanted)

    return matches


def _cursor(number: int) -> str:
    """Names a row, not a place: what arrives in between moves no row to another page."""
    return base64.urlsafe_b64encode(f"row:{number}".encode()).decode()


def _number(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    try:
        return int(base64.urlsafe_b64decode(cursor).decode().removeprefix("row:"))
    except (binascii.Error, ValueError) as error:
        raise _invalid("pq", "not a cursor of this list") from error
