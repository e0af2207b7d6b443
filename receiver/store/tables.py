"""The tables. What each column means for people who read with SQL is in docs/sql.md; changes need a migration.

events        each evaluation's event once, as it came: the intake's only write
other_bodies  a repeat's body, where its bytes were others
set_aside     genuine callbacks that are no evaluation's event: ignored kinds, and what was not understood
verdicts      the newest result of each evaluation; revisions: the earlier ones that were forwarded
releases      what was released, in the order in which readers of the stream see it
trees         Runflow's answer, byte for byte; judges, issues, gate_failures, actions: the same as rows
fetches       the fetch lane's work          deliveries   the outbox
attempts      tries that failed, and trees that were fetched again: what the rows above do not tell, for the timeline
lanes         what all processes must agree on: a paused lane, who drains a paced sink
processes     who is alive
threads       where a sink keeps together what is about the same   ratings   what people say of an evaluation, on its way
hours         the tallies of each hour that is over; changed_hours: those that have to be made again
"""

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text, TextClause, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from receiver.store.types import EvaluationId, Moment

# Partial indexes serve a query that has their condition to the letter, so queries take it from here too.
WAITING = text("waiting")
CLAIMABLE = text("state IN ('pending', 'leased')")
DEAD = text("state = 'dead'")
UNAVAILABLE = text("tree = 'unavailable'")
NOT_BY_CALLBACK = text("origin <> 'callback'")
DUE = text("due_at IS NOT NULL")

_SERIAL = BigInteger().with_variant(Integer(), "sqlite")


def _id(**options: Any) -> Any:
    return Field(sa_type=EvaluationId, **options)


def _moment(**options: Any) -> Any:
    return Field(sa_type=Moment, **options)


def _text(**options: Any) -> Any:
    return Field(sa_type=Text, **options)


def _bytes(**options: Any) -> Any:
    return Field(sa_type=LargeBinary, **options)


def _where(name: str, column: str, condition: TextClause) -> Index:
    return Index(name, column, sqlite_where=condition, postgresql_where=condition)


class Event(SQLModel, table=True):
    """An evaluation's event. `waiting` until the pipeline has seen to it."""

    __tablename__ = "events"
    __table_args__ = (Index("events_waiting", "received_at", sqlite_where=WAITING, postgresql_where=WAITING),)

    evaluation_id: UUID = _id(primary_key=True)
    event: str = _text(primary_key=True)
    body: bytes = _bytes()
    origin: str = _text()
    secret_label: str | None = _text()
    request_id: str | None = _text()
    received_at: datetime = _moment()
    repeats: int = Field(default=0)
    last_repeat_at: datetime | None = _moment()
    waiting: bool = Field(default=True)


class OtherBody(SQLModel, table=True):
    """A later body of the same event with other bytes."""

    __tablename__ = "other_bodies"

    evaluation_id: UUID = _id(primary_key=True)
    event: str = _text(primary_key=True)
    sha256: bytes = _bytes(primary_key=True)
    body: bytes = _bytes()
    received_at: datetime = _moment()


class SetAside(SQLModel, table=True):
    """A genuine callback that is no evaluation's event, once for each SHA-256. `state`: kept, retried or discarded."""

    __tablename__ = "set_aside"
    __table_args__ = (Index("set_aside_by_time", "kind", "received_at"),)

    sha256: bytes = _bytes(primary_key=True)
    kind: str = _text()
    state: str = _text()
    event: str | None = _text()
    why: str | None = _text()
    body: bytes = _bytes()
    secret_label: str | None = _text()
    request_id: str | None = _text()
    received_at: datetime = _moment()
    repeats: int = Field(default=0)
    last_repeat_at: datetime | None = _moment()


class VerdictRow(SQLModel, table=True):
    """The newest result: `document` is verdict.v1 as JSON, the other columns are what filters look at."""

    __tablename__ = "verdicts"
    __table_args__ = (
        Index("verdicts_by_arrival", "received_at", "evaluation_id"),
        Index("verdicts_by_completion", "completed_at", "evaluation_id"),
        # In the order of the bytes, so that it finds what begins with a text, whatever the database's language.
        Index("verdicts_by_client_ref", "client_ref", postgresql_ops={"client_ref": "text_pattern_ops"}),
        Index("verdicts_by_run", "run_id"),
        # Of what may be rare: where it is common, a page is found by walking along the arrivals (`receiver.store.reading`).
        _where("verdicts_by_task_type", "task_type", text("task_type IS NOT NULL")),
        _where("verdicts_by_model", "model_id", text("model_id IS NOT NULL")),
        _where("verdicts_by_failure", "failure_code", text("failure_code IS NOT NULL")),
        _where("verdicts_unavailable", "tree", UNAVAILABLE),
        _where("verdicts_by_origin", "origin", NOT_BY_CALLBACK),
    )

    evaluation_id: UUID = _id(primary_key=True)
    event: str = _text()
    status: str | None = _text()
    overall_passed: bool | None
    weighted_pass_rate: float | None
    primary_action_code: str | None = _text()
    failure_code: str | None = _text()
    client_ref: str | None = _text()
    run_id: str | None = _text()
    model_id: str | None = _text()
    task_type: str | None = _text()
    tree: str = _text()
    tree_reason: str | None = _text()
    origin: str = _text()
    revision: int
    released_at: datetime | None = _moment()
    received_at: datetime = _moment()
    completed_at: datetime | None = _moment()
    tree_updated_at: datetime | None = _moment()
    due_to: str = _text()
    document: str = _text()
    cost: str | None = _text()
    eval_duration_ms: int | None = Field(sa_type=BigInteger)
    submitted_at: datetime | None = _moment()
    fetched_at: datetime | None = _moment()


class Revision(SQLModel, table=True):
    """An earlier result that was forwarded, kept for deliveries that still wait and for the audit."""

    __tablename__ = "revisions"

    evaluation_id: UUID = _id(primary_key=True)
    revision: int = Field(primary_key=True)
    released_at: datetime | None = _moment()
    due_to: str = _text()
    document: str = _text()


class Release(SQLModel, table=True):
    """A revision that was released, under its position. A position is never given twice."""

    __tablename__ = "releases"
    __table_args__ = (Index("releases_by_time", "released_at"), {"sqlite_autoincrement": True})

    position: int = Field(sa_column=Column("position", _SERIAL, primary_key=True, autoincrement=True))
    evaluation_id: UUID = _id()
    revision: int
    released_at: datetime = _moment()


class Tree(SQLModel, table=True):
    """Runflow's answer, byte for byte, with the fields that this service does not know."""

    __tablename__ = "trees"

    evaluation_id: UUID = _id(primary_key=True)
    fetched_at: datetime = _moment()
    body: bytes = _bytes()


class JudgeRow(SQLModel, table=True):
    """One judge's opinion."""

    __tablename__ = "judges"

    evaluation_id: UUID = _id(primary_key=True)
    position: int = Field(primary_key=True)
    id: str | None = _text()
    name: str | None = _text()
    description: str | None = _text()
    category: str | None = _text()
    passed: bool | None
    confidence: float | None
    weight: float | None
    reasoning: str | None = _text()
    evidence: str = _text()
    sub_point_results: str | None = _text()


class IssueRow(SQLModel, table=True):
    """One thing that a judge found wrong."""

    __tablename__ = "issues"
    __table_args__ = (Index("issues_by_category", "category", "evaluation_id"),)

    evaluation_id: UUID = _id(primary_key=True)
    position: int = Field(primary_key=True)
    judge: str | None = _text()
    category: str | None = _text()
    subcategory: str | None = _text()
    detail: str | None = _text()


class GateFailureRow(SQLModel, table=True):
    """A check that stopped the image."""

    __tablename__ = "gate_failures"

    evaluation_id: UUID = _id(primary_key=True)
    position: int = Field(primary_key=True)
    output_key: str | None = _text()
    module: str | None = _text()
    reason: str | None = _text()


class ActionRow(SQLModel, table=True):
    """What Runflow suggests to do."""

    __tablename__ = "actions"

    evaluation_id: UUID = _id(primary_key=True)
    primary_action: str | None = _text()
    failure_summary: str | None = _text()
    improved_prompt: str | None = _text()


class Fetch(SQLModel, table=True):
    """The fetch of one evaluation's tree. Nothing to do while `due_at` is null; leased until `due_at` while `leased`.

    `claim` counts the claims and is the fencing token. `asked` counts how often a fetch was asked for, so that a fetch that
    was under way when another was asked for is followed by one more.
    """

    __tablename__ = "fetches"
    __table_args__ = (
        Index(
            "fetches_due",
            "due_at",
            sqlite_where=text("due_at IS NOT NULL"),
            postgresql_where=text("due_at IS NOT NULL"),
        ),
        Index(
            "fetches_held",
            "hold_until",
            sqlite_where=text("hold_until IS NOT NULL"),
            postgresql_where=text("hold_until IS NOT NULL"),
        ),
    )

    evaluation_id: UUID = _id(primary_key=True)
    due_at: datetime | None = _moment()
    leased: bool = Field(default=False)
    claim: int = Field(default=0)
    asked: int = Field(default=1)
    attempts: int = Field(default=0)
    started_at: datetime = _moment()
    hold_until: datetime | None = _moment()
    last_error: str | None = _text()


class Delivery(SQLModel, table=True):
    """One revision on its way to one sink. While `pending`, due at `due_at`; while `leased`, claimable again from `due_at`.

    `claim` counts the claims and is the fencing token. `started_at` is when its attempts began: at the
    first that counts, and again at each `retry`.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("evaluation_id", "sink", "revision", "replay_id", name="deliveries_once"),
        Index("deliveries_claimable", "sink", "due_at", sqlite_where=CLAIMABLE, postgresql_where=CLAIMABLE),
        Index("deliveries_dead", "sink", "id", sqlite_where=DEAD, postgresql_where=DEAD),
    )

    id: int = Field(sa_column=Column("id", _SERIAL, primary_key=True, autoincrement=True))
    evaluation_id: UUID = _id()
    sink: str = _text()
    revision: int
    replay_id: str = _text(default="")
    state: str = _text()
    due_at: datetime | None = _moment()
    claim: int = Field(default=0)
    attempts: int = Field(default=0)
    created_at: datetime = _moment()
    started_at: datetime = _moment()
    ended_at: datetime | None = _moment()
    remote_id: str | None = _text()
    last_error: str | None = _text()


class Attempt(SQLModel, table=True):
    """A try that the rows of `fetches`, `trees` and `deliveries` do not tell any more, or never did.

    `delivery_id` is 0 for a fetch. `slot` is made of the claim's number, so that a fetch and a delivery keep their first tries
    and their last, and no more (`receiver.store.attempts`).
    """

    __tablename__ = "attempts"

    evaluation_id: UUID = _id(primary_key=True)
    delivery_id: int = Field(sa_column=Column("delivery_id", BigInteger, primary_key=True, autoincrement=False))
    slot: int = Field(primary_key=True)
    at: datetime = _moment()
    attempt: int | None
    outcome: str = _text()
    error: str | None = _text()
    detail: str | None = _text()
    status: int | None
    due_at: datetime | None = _moment()


class Lane(SQLModel, table=True):
    """`fetch`, or `sink:NAME`: paused until when and why; for a paced sink, which process drains it.

    `suspects` is JSON: by the id of a delivery, how many pauses began with it alone.
    """

    __tablename__ = "lanes"

    name: str = _text(primary_key=True)
    paused_until: datetime | None = _moment()
    failures: int = Field(default=0)
    reason: str | None = _text()
    holder: str | None = _text()
    held_until: datetime | None = _moment()
    suspects: str | None = _text()


class Thread(SQLModel, table=True):
    """Where a sink keeps what is about one subject: `thread` is its own word for that."""

    __tablename__ = "threads"
    __table_args__ = (Index("threads_by_age", "sink", "begun_at"),)

    sink: str = _text(primary_key=True)
    subject: str = _text(primary_key=True)
    thread: str = _text()
    begun_at: datetime = _moment()


class RatingRow(SQLModel, table=True):
    """A person's thumb for an evaluation, the newest. `is_positive` is null where it was taken back.

    While `due_at` is not null Runflow is still to be told of it; `state` is `due`, `told` or `refused`. `claim` is the fencing
    token. `place` is the message that was clicked, in the words of the sink that sent it.
    """

    __tablename__ = "ratings"
    __table_args__ = (Index("ratings_due", "due_at", sqlite_where=DUE, postgresql_where=DUE),)

    evaluation_id: UUID = _id(primary_key=True)
    person: str = _text(primary_key=True)
    is_positive: bool | None
    clicked_at: datetime = _moment()
    sink: str = _text()
    place: str = _text()
    revision: int
    state: str = _text()
    due_at: datetime | None = _moment()
    started_at: datetime = _moment()
    claim: int = Field(default=0)
    attempts: int = Field(default=0)
    last_error: str | None = _text()


class Process(SQLModel, table=True):
    """A process that runs the pipeline. Gone when it was not seen for a while."""

    __tablename__ = "processes"

    id: str = _text(primary_key=True)
    host: str = _text()
    pid: int
    started_at: datetime = _moment()
    seen_at: datetime = _moment()


class Hour(SQLModel, table=True):
    """An hour that is over: the tallies of the verdicts that arrived in it, by ever more dimensions (`receiver.store.hours`).

    `by_client_ref` is null where there were too many. `version` counts how often they were made.
    """

    __tablename__ = "hours"

    hour: datetime = _moment(primary_key=True)
    version: int
    everything: bytes = _bytes()
    by_task_type: bytes = _bytes()
    by_model_id: bytes = _bytes()
    by_client_ref: bytes | None = _bytes()


class ChangedHour(SQLModel, table=True):
    """Something about a verdict that arrived in this hour has changed since the hour was over."""

    __tablename__ = "changed_hours"
    __table_args__ = (Index("changed_hours_by_hour", "hour"),)

    id: int = Field(sa_column=Column("id", _SERIAL, primary_key=True, autoincrement=True))
    hour: datetime = _moment()
    at: datetime = _moment()


def _table(model: type[SQLModel]) -> Table:
    return cast("Table", model.__dict__["__table__"])


events = _table(Event)
other_bodies = _table(OtherBody)
set_aside = _table(SetAside)
verdicts = _table(VerdictRow)
revisions = _table(Revision)
releases = _table(Release)
trees = _table(Tree)
judges = _table(JudgeRow)
issues = _table(IssueRow)
gate_failures = _table(GateFailureRow)
actions = _table(ActionRow)
fetches = _table(Fetch)
deliveries = _table(Delivery)
attempts = _table(Attempt)
lanes = _table(Lane)
processes = _table(Process)
threads = _table(Thread)
ratings = _table(RatingRow)
hours = _table(Hour)
changed_hours = _table(ChangedHour)

metadata = SQLModel.metadata
