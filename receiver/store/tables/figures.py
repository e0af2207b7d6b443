"""What is kept of many verdicts together."""

from datetime import datetime

from sqlalchemy import Column, Index
from sqlmodel import Field, SQLModel

from receiver.store.tables.columns import SERIAL, bytes_column, moment_column, table_of


class Hour(SQLModel, table=True):
    """An hour that is over: the tallies of the verdicts that arrived in it, by ever more dimensions (`receiver.store.hours`).

    `by_client_ref` is null where there were too many. `version` counts how often they were made.
    """

    __tablename__ = "hours"

    hour: datetime = moment_column(primary_key=True)
    version: int
    everything: bytes = bytes_column()
    by_task_type: bytes = bytes_column()
    by_model_id: bytes = bytes_column()
    by_client_ref: bytes | None = bytes_column()


class ChangedHour(SQLModel, table=True):
    """Something about a verdict that arrived in this hour has changed since the hour was over."""

    __tablename__ = "changed_hours"
    __table_args__ = (Index("changed_hours_by_hour", "hour"),)

    id: int = Field(sa_column=Column("id", SERIAL, primary_key=True, autoincrement=True))
    hour: datetime = moment_column()
    at: datetime = moment_column()


hours = table_of(Hour)
changed_hours = table_of(ChangedHour)
