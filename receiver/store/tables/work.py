"""What is to be done and by whom: fetches, the outbox, what people click; and what lanes and processes must know."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from receiver.store.tables.columns import CLAIMABLE, DEAD, DUE, SERIAL, id_column, moment_column, table_of, text_column


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

    evaluation_id: UUID = id_column(primary_key=True)
    due_at: datetime | None = moment_column()
    leased: bool = Field(default=False)
    claim: int = Field(default=0)
    asked: int = Field(default=1)
    attempts: int = Field(default=0)
    started_at: datetime = moment_column()
    hold_until: datetime | None = moment_column()
    last_error: str | None = text_column()


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

    id: int = Field(sa_column=Column("id", SERIAL, primary_key=True, autoincrement=True))
    evaluation_id: UUID = id_column()
    sink: str = text_column()
    revision: int
    replay_id: str = text_column(default="")
    state: str = text_column()
    due_at: datetime | None = moment_column()
    claim: int = Field(default=0)
    attempts: int = Field(default=0)
    created_at: datetime = moment_column()
    started_at: datetime = moment_column()
    ended_at: datetime | None = moment_column()
    remote_id: str | None = text_column()
    last_error: str | None = text_column()


class Attempt(SQLModel, table=True):
    """A try that the rows of `fetches`, `trees` and `deliveries` do not tell any more, or never did.

    `delivery_id` is 0 for a fetch. `slot` is made of the claim's number, so that a fetch and a delivery keep their first tries
    and their last, and no more (`receiver.store.attempts`).
    """

    __tablename__ = "attempts"

    evaluation_id: UUID = id_column(primary_key=True)
    delivery_id: int = Field(sa_column=Column("delivery_id", BigInteger, primary_key=True, autoincrement=False))
    slot: int = Field(primary_key=True)
    at: datetime = moment_column()
    attempt: int | None
    outcome: str = text_column()
    error: str | None = text_column()
    detail: str | None = text_column()
    status: int | None
    due_at: datetime | None = moment_column()


class Lane(SQLModel, table=True):
    """`fetch`, or `sink:NAME`: paused until when and why; for a paced sink, which process drains it.

    `suspects` is JSON: by the id of a delivery, or of an evaluation, how many pauses began with it alone.
    """

    __tablename__ = "lanes"

    name: str = text_column(primary_key=True)
    paused_until: datetime | None = moment_column()
    failures: int = Field(default=0)
    reason: str | None = text_column()
    holder: str | None = text_column()
    held_until: datetime | None = moment_column()
    suspects: str | None = text_column()


class Thread(SQLModel, table=True):
    """Where a sink keeps what is about one subject: `thread` is its own word for that."""

    __tablename__ = "threads"
    __table_args__ = (Index("threads_by_age", "sink", "begun_at"),)

    sink: str = text_column(primary_key=True)
    subject: str = text_column(primary_key=True)
    thread: str = text_column()
    begun_at: datetime = moment_column()


class RatingRow(SQLModel, table=True):
    """A person's thumb for an evaluation, the newest. `is_positive` is null where it was taken back.

    While `due_at` is not null Runflow is still to be told of it; `state` is `due`, `told` or `refused`. `claim` is the fencing
    token. `place` is the message that was clicked, in the words of the sink that sent it.
    """

    __tablename__ = "ratings"
    __table_args__ = (Index("ratings_due", "due_at", sqlite_where=DUE, postgresql_where=DUE),)

    evaluation_id: UUID = id_column(primary_key=True)
    person: str = text_column(primary_key=True)
    is_positive: bool | None
    clicked_at: datetime = moment_column()
    sink: str = text_column()
    place: str = text_column()
    revision: int
    state: str = text_column()
    due_at: datetime | None = moment_column()
    started_at: datetime = moment_column()
    claim: int = Field(default=0)
    attempts: int = Field(default=0)
    last_error: str | None = text_column()


class Process(SQLModel, table=True):
    """A process that runs the pipeline. Gone when it was not seen for a while."""

    __tablename__ = "processes"

    id: str = text_column(primary_key=True)
    host: str = text_column()
    pid: int
    started_at: datetime = moment_column()
    seen_at: datetime = moment_column()


fetches = table_of(Fetch)
deliveries = table_of(Delivery)
attempts = table_of(Attempt)
lanes = table_of(Lane)
threads = table_of(Thread)
ratings = table_of(RatingRow)
processes = table_of(Process)
