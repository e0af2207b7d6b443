"""Tries that failed, and what people did, each with a row of its own, for the timeline. What succeeds at once costs nothing.

They are written in the transaction that settles the try, and fenced as it is. A fetch, and each delivery, keep their first
tries and their last: a row's slot follows from the number of its claim, so that each round overwrites the one before.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, case, literal, select

from receiver.store.intake import upsert
from receiver.store.tables import attempts, deliveries
from receiver.store.types import moment_text

FIRST_KEPT = 10
LAST_KEPT = 40

Outcome = Literal["again", "paused", "dead", "given_up", "fetched", "older"]
Deed = Literal["retried", "discarded"]
"""`again`: it is tried again. `paused`: it is the lane's own failure, and used up no attempt. `dead`, `given_up`: it is not
tried again. Of a fetch that succeeded: `fetched` where another took its place, `older` where there was a newer one already."""


class Failure(NamedTuple):
    """How a try failed. `error`: a word for Runflow's trouble, or what the sink said. `status`: an HTTP answer's, if any."""

    at: datetime
    outcome: Outcome
    error: str | None
    detail: str | None = None
    status: int | None = None


class Noted(NamedTuple):
    """A try that failed under this claim of a fetch or a delivery. `due_at`: when it is tried again."""

    key: UUID | int
    claim: int
    failure: Failure
    due_at: datetime | None = None


def note_deliveries(conn: Connection, noted: Sequence[Noted]) -> None:
    """Notes deliveries' tries, each key once. One whose lease was lost is not noted."""
    _run(conn, _DELIVERIES, noted, _slot)


def note_fetches(conn: Connection, noted: Sequence[Noted]) -> None:
    """Notes fetches' tries, each key once. One whose lease was lost is not noted."""
    _run(conn, _FETCHES, noted, _slot)


def note_replaced(conn: Connection, keys: Sequence[tuple[UUID, int]]) -> None:
    """Notes when the trees that there are were fetched, for these fetches, by id and claim, may replace them."""
    fetched = Failure(datetime.min.replace(tzinfo=UTC), "fetched", None)
    _run(conn, _TREES, [Noted(key, claim, fetched) for key, claim in keys], lambda claim: -_slot(claim))


def note_deed(conn: Connection, deed: Deed, these: ColumnElement[bool], now: datetime, by: str | None) -> None:
    """Notes what somebody does to these deliveries; of what is done twice between two tries, the last."""
    claim = deliveries.c.claim
    turn = case((claim <= FIRST_KEPT, claim), else_=FIRST_KEPT + 1 + claim % LAST_KEPT)
    values = {
        "evaluation_id": deliveries.c.evaluation_id,
        "delivery_id": deliveries.c.id,
        "slot": turn + _DEEDS[deed],
        "at": literal(now, attempts.c.at.type),
        "attempt": deliveries.c.attempts,
        "outcome": literal(deed),
        "detail": literal(by, attempts.c.detail.type),
    }
    made = upsert(conn)(attempts).from_select([*values], select(*values.values()).where(these))
    newest = {name: made.excluded[name] for name in ("at", "attempt", "detail")}
    keys = [column.name for column in attempts.primary_key]
    conn.execute(made.on_conflict_do_update(index_elements=keys, set_=newest))


_DEEDS: Mapping[Deed, int] = {"retried": 1000, "discarded": 2000}
"""Where their slots begin, beyond those of tries."""


def _slot(claim: int) -> int:
    return claim if claim <= FIRST_KEPT else FIRST_KEPT + 1 + claim % LAST_KEPT


def _run(conn: Connection, statements: Mapping[str, str], noted: Sequence[Noted], slot: Callable[[int], int]) -> None:
    if not noted:
        return
    # In one order, so that two processes cannot wait for each other.
    rows = [
        # What is paused is tried again when the pause is over.
        (
            each.key,
            each.claim,
            slot(each.claim),
            *each.failure,
            None if each.failure.outcome == "paused" else each.due_at,
        )
        for each in sorted(noted, key=lambda each: each.key)  # all of one kind
    ]
    if conn.dialect.name == "postgresql":
        columns = tuple(list(column) for column in zip(*rows, strict=True))
        conn.exec_driver_sql(statements["postgresql"], columns)
    else:
        conn.exec_driver_sql(statements["sqlite"], [tuple(map(_sqlite_value, row)) for row in rows])


def _sqlite_value(value: Any) -> Any:
    match value:
        case UUID():
            return value.bytes
        case datetime():
            return moment_text(value)
    return value


_GIVEN = "key, claim, slot, at, outcome, error, detail, status, due_at"
_TYPES = "int[], int[], timestamptz[], text[], text[], text[], int[], timestamptz[]"
_COLUMNS = "evaluation_id, delivery_id, slot, at, attempt, outcome, error, detail, status, due_at"


def _statements(of: str, key: str, values: str, *, kind: str, held: str = "") -> Mapping[str, str]:
    """For each dialect the statement that notes what is given, for rows of the table `of` that are held under its claims."""
    arrays = ", ".join(f"${n}::{each}" for n, each in enumerate([f"{kind}[]", *_TYPES.split(", ")], 1))
    given = {
        "postgresql": f"unnest({arrays}) AS it ({_GIVEN})",
        "sqlite": f"(SELECT {', '.join(f'? AS {name}' for name in _GIVEN.split(', '))}) AS it",
    }
    newest = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS.split(", ")[3:])
    return {
        dialect: f"INSERT INTO attempts ({_COLUMNS}) SELECT {of}.evaluation_id, {values}"  # noqa: S608 (constants)
        f" FROM {those} JOIN {of} ON {of}.{key} = it.key {held} WHERE true"
        f" ON CONFLICT (evaluation_id, delivery_id, slot) DO UPDATE SET {newest}"
        for dialect, those in given.items()
    }


_DELIVERIES = _statements(
    "deliveries",
    "id",
    "deliveries.id, it.slot, it.at, deliveries.attempts, it.outcome, it.error, it.detail, it.status, it.due_at",
    kind="bigint",
    held="AND deliveries.claim = it.claim AND deliveries.state = 'leased'",
)
_FETCHES = _statements(
    "fetches",
    "evaluation_id",
    "0, it.slot, it.at, fetches.attempts, it.outcome, it.error, it.detail, it.status, it.due_at",
    kind="uuid",
    held="AND fetches.claim = it.claim AND fetches.leased",
)
_TREES = _statements(
    "trees", "evaluation_id", "0, it.slot, trees.fetched_at, NULL, it.outcome, NULL, NULL, NULL, NULL", kind="uuid"
)
