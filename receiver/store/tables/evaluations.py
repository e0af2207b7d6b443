"""What came of evaluations: their events, their verdicts, their trees as rows; and what was released, in order."""

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import BigInteger, Column, Index, text
from sqlmodel import Field, SQLModel

from receiver.store.tables.columns import (
    NOT_BY_CALLBACK,
    SERIAL,
    UNAVAILABLE,
    WAITING,
    bytes_column,
    id_column,
    moment_column,
    table_of,
    text_column,
    where,
)


class Event(SQLModel, table=True):
    """An evaluation's event. `waiting` until the pipeline has seen to it."""

    __tablename__ = "events"
    __table_args__ = (Index("events_waiting", "received_at", sqlite_where=WAITING, postgresql_where=WAITING),)

    evaluation_id: UUID = id_column(primary_key=True)
    event: str = text_column(primary_key=True)
    body: bytes = bytes_column()
    origin: str = text_column()
    secret_label: str | None = text_column()
    request_id: str | None = text_column()
    received_at: datetime = moment_column()
    repeats: int = Field(default=0)
    last_repeat_at: datetime | None = moment_column()
    waiting: bool = Field(default=True)


class OtherBody(SQLModel, table=True):
    """A later body of the same event with other bytes."""

    __tablename__ = "other_bodies"

    evaluation_id: UUID = id_column(primary_key=True)
    event: str = text_column(primary_key=True)
    sha256: bytes = bytes_column(primary_key=True)
    body: bytes = bytes_column()
    received_at: datetime = moment_column()


class SetAside(SQLModel, table=True):
    """A genuine callback that is no evaluation's event, once for each SHA-256. `state`: kept, retried or discarded."""

    __tablename__ = "set_aside"
    __table_args__ = (Index("set_aside_by_time", "kind", "received_at"),)

    sha256: bytes = bytes_column(primary_key=True)
    kind: str = text_column()
    state: str = text_column()
    event: str | None = text_column()
    why: str | None = text_column()
    body: bytes = bytes_column()
    secret_label: str | None = text_column()
    request_id: str | None = text_column()
    received_at: datetime = moment_column()
    repeats: int = Field(default=0)
    last_repeat_at: datetime | None = moment_column()


_ARRIVAL: Final = ("received_at", "evaluation_id")
BY_ARRIVAL: Final = ("run_id", "client_ref", "failure_code", "model_id", "task_type")
"""The columns whose index has the rows of each value in the order of arrival, those that tell the most apart first."""


class VerdictRow(SQLModel, table=True):
    """The newest result: `document` is verdict.v1 as JSON, the other columns are what filters look at."""

    __tablename__ = "verdicts"
    __table_args__ = (
        Index("verdicts_by_arrival", *_ARRIVAL),
        Index("verdicts_by_completion", "completed_at", "evaluation_id"),
        # In the order of the bytes, so that it finds what begins with a text, whatever the database's language.
        Index("verdicts_by_client_ref", "client_ref", *_ARRIVAL, postgresql_ops={"client_ref": "text_pattern_ops"}),
        Index("verdicts_by_run", "run_id", *_ARRIVAL),
        where("verdicts_by_task_type", "task_type", *_ARRIVAL, condition=text("task_type IS NOT NULL")),
        where("verdicts_by_model", "model_id", *_ARRIVAL, condition=text("model_id IS NOT NULL")),
        where("verdicts_by_failure", "failure_code", *_ARRIVAL, condition=text("failure_code IS NOT NULL")),
        where("verdicts_unavailable", "tree", condition=UNAVAILABLE),
        where("verdicts_by_origin", "origin", condition=NOT_BY_CALLBACK),
    )

    evaluation_id: UUID = id_column(primary_key=True)
    event: str = text_column()
    status: str | None = text_column()
    overall_passed: bool | None
    weighted_pass_rate: float | None
    primary_action_code: str | None = text_column()
    failure_code: str | None = text_column()
    client_ref: str | None = text_column()
    run_id: str | None = text_column()
    model_id: str | None = text_column()
    task_type: str | None = text_column()
    tree: str = text_column()
    tree_reason: str | None = text_column()
    origin: str = text_column()
    revision: int
    released_at: datetime | None = moment_column()
    received_at: datetime = moment_column()
    completed_at: datetime | None = moment_column()
    tree_updated_at: datetime | None = moment_column()
    due_to: str = text_column()
    document: str = text_column()
    cost: str | None = text_column()
    eval_duration_ms: int | None = Field(sa_type=BigInteger)
    submitted_at: datetime | None = moment_column()
    fetched_at: datetime | None = moment_column()


class Revision(SQLModel, table=True):
    """An earlier result that was forwarded, kept for deliveries that still wait and for the audit."""

    __tablename__ = "revisions"

    evaluation_id: UUID = id_column(primary_key=True)
    revision: int = Field(primary_key=True)
    released_at: datetime | None = moment_column()
    due_to: str = text_column()
    document: str = text_column()


class Release(SQLModel, table=True):
    """A revision that was released, under its position. A position is never given twice."""

    __tablename__ = "releases"
    __table_args__ = (Index("releases_by_time", "released_at"), {"sqlite_autoincrement": True})

    position: int = Field(sa_column=Column("position", SERIAL, primary_key=True, autoincrement=True))
    evaluation_id: UUID = id_column()
    revision: int
    released_at: datetime = moment_column()


class Tree(SQLModel, table=True):
    """Runflow's answer, byte for byte, with the fields that this service does not know."""

    __tablename__ = "trees"

    evaluation_id: UUID = id_column(primary_key=True)
    fetched_at: datetime = moment_column()
    body: bytes = bytes_column()


class JudgeRow(SQLModel, table=True):
    """One judge's opinion."""

    __tablename__ = "judges"

    evaluation_id: UUID = id_column(primary_key=True)
    position: int = Field(primary_key=True)
    id: str | None = text_column()
    name: str | None = text_column()
    description: str | None = text_column()
    category: str | None = text_column()
    passed: bool | None
    confidence: float | None
    weight: float | None
    reasoning: str | None = text_column()
    evidence: str = text_column()
    sub_point_results: str | None = text_column()


class IssueRow(SQLModel, table=True):
    """One thing that a judge found wrong."""

    __tablename__ = "issues"
    __table_args__ = (Index("issues_by_category", "category", "evaluation_id"),)

    evaluation_id: UUID = id_column(primary_key=True)
    position: int = Field(primary_key=True)
    judge: str | None = text_column()
    category: str | None = text_column()
    subcategory: str | None = text_column()
    detail: str | None = text_column()


class GateFailureRow(SQLModel, table=True):
    """A check that stopped the image."""

    __tablename__ = "gate_failures"

    evaluation_id: UUID = id_column(primary_key=True)
    position: int = Field(primary_key=True)
    output_key: str | None = text_column()
    module: str | None = text_column()
    reason: str | None = text_column()


class ActionRow(SQLModel, table=True):
    """What Runflow suggests to do."""

    __tablename__ = "actions"

    evaluation_id: UUID = id_column(primary_key=True)
    primary_action: str | None = text_column()
    failure_summary: str | None = text_column()
    improved_prompt: str | None = text_column()


events = table_of(Event)
other_bodies = table_of(OtherBody)
set_aside = table_of(SetAside)
verdicts = table_of(VerdictRow)
revisions = table_of(Revision)
releases = table_of(Release)
trees = table_of(Tree)
judges = table_of(JudgeRow)
issues = table_of(IssueRow)
gate_failures = table_of(GateFailureRow)
actions = table_of(ActionRow)
