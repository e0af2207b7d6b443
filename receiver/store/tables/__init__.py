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

from sqlmodel import SQLModel

from receiver.store.tables.columns import CLAIMABLE, DEAD, DUE, NOT_BY_CALLBACK, UNAVAILABLE, WAITING
from receiver.store.tables.evaluations import (
    BY_ARRIVAL,
    actions,
    events,
    gate_failures,
    issues,
    judges,
    other_bodies,
    releases,
    revisions,
    set_aside,
    trees,
    verdicts,
)
from receiver.store.tables.figures import changed_hours, hours
from receiver.store.tables.work import attempts, deliveries, fetches, lanes, processes, ratings, threads

metadata = SQLModel.metadata

__all__ = [
    "BY_ARRIVAL",
    "CLAIMABLE",
    "DEAD",
    "DUE",
    "NOT_BY_CALLBACK",
    "UNAVAILABLE",
    "WAITING",
    "actions",
    "attempts",
    "changed_hours",
    "deliveries",
    "events",
    "fetches",
    "gate_failures",
    "hours",
    "issues",
    "judges",
    "lanes",
    "metadata",
    "other_bodies",
    "processes",
    "ratings",
    "releases",
    "revisions",
    "set_aside",
    "threads",
    "trees",
    "verdicts",
]
