"""Does it matter how SQLite holds an evaluation's id: as 16 bytes, as here, or as text of 36 characters?

The receiver's own table and its own statement, in one process without HTTP; the two forms by turns, nothing else different.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Literal, cast
from uuid import UUID

from pydantic import BaseModel

from bench.callbacks import NEW_ID, IdKind
from bench.figures import Figure, figure
from bench.fill import fill_events, hasty
from bench.inside import arrival
from bench.measure import How, folder, rotated
from bench.stores import database, file_of, migrate
from bench.tables import Claim, table
from receiver.store import intake
from receiver.store.database import Database, open_database

TITLE = "The form of ids"

Form = Literal["bytes", "text"]
FORMS: tuple[Form, ...] = ("bytes", "text")
BATCH = 48
BATCHES = 100


class AsText(UUID):
    """An id whose 16 bytes are its text: what stores the former stores the latter."""

    @property
    def bytes(self) -> bytes:
        """No bytes."""
        return cast("bytes", str(self))


class Stored(BaseModel):
    """One round: microseconds of wall time and of CPU time for each callback."""

    wall_us: float
    cpu_us: float


class Ids(BaseModel):
    """By kind of ids: the rounds of both forms, and bytes of the file for each event that was stored before."""

    rows: int
    rounds: dict[IdKind, list[dict[Form, Stored]]]
    bytes_each: dict[IdKind, dict[Form, float]]


def run(how: How) -> Ids:
    """Fills two files for each kind of ids, and stores batches in them by turns."""
    found = Ids(rows=how.rows, rounds={}, bytes_each={})
    for ids in NEW_ID:
        with folder() as here, database("sqlite", here, "") as one, database("sqlite", here, "") as other:
            urls: Mapping[Form, str] = {"bytes": one, "text": other}
            found.bytes_each[ids] = {form: _fill(url, how.rows, ids, form) for form, url in urls.items()}
            found.rounds[ids] = asyncio.run(_rounds(urls, ids, how.rounds))
    return found


def _fill(url: str, rows: int, ids: IdKind, form: Form) -> float:
    def text() -> str:
        return str(UUID(bytes=NEW_ID[ids]()))

    migrate(url)
    file = file_of(url)
    before = file.stat().st_size
    with hasty(file) as connection:
        fill_events(connection, rows, text if form == "text" else NEW_ID[ids])
    return (file.stat().st_size - before) / rows


async def _rounds(urls: Mapping[Form, str], ids: IdKind, rounds: int) -> list[dict[Form, Stored]]:
    opened = {form: open_database(url) for form, url in urls.items()}
    try:
        return [
            {form: await _round(opened[form], ids, form) for form in rotated(FORMS, number)} for number in range(rounds)
        ]
    finally:
        for each in opened.values():
            await each.close()


async def _round(database: Database, ids: IdKind, form: Form) -> Stored:
    made = AsText if form == "text" else UUID
    batches = [[arrival(database, made(bytes=NEW_ID[ids]())) for _ in range(BATCH)] for _ in range(BATCHES)]
    began, cpu = time.perf_counter(), time.process_time()
    for batch in batches:
        await database.write(intake.accept, batch)
    number = BATCH * BATCHES
    return Stored(
        wall_us=(time.perf_counter() - began) / number * 1e6, cpu_us=(time.process_time() - cpu) / number * 1e6
    )


def markdown(found: Ids) -> str:
    """Microseconds of both, and how much dearer text is."""
    head = [f"SQLite, {found.rows:,} events before", "16 bytes, µs a callback", "text, µs"]
    head += ["text over bytes", "the same by CPU", "bytes of the file for each before: 16 bytes", "text"]
    return table(head, [_row(found, ids) for ids in found.rounds])


def _row(found: Ids, ids: IdKind) -> list[str]:
    rounds = found.rounds[ids]
    walls = [figure(each[form].wall_us for each in rounds).shown(1) for form in FORMS]
    by_cpu = figure(each["text"].cpu_us / each["bytes"].cpu_us for each in rounds)
    sizes = [f"{found.bytes_each[ids][form]:.0f}" for form in FORMS]
    return [f"ids of version {ids[1]}", *walls, _ratio(found, ids).shown(2), by_cpu.shown(2), *sizes]


def _ratio(found: Ids, ids: IdKind) -> Figure:
    return figure(each["text"].wall_us / each["bytes"].wall_us for each in found.rounds[ids])


def claims(found: Ids) -> list[Claim]:
    """How much dearer text is."""
    return [
        Claim(
            f"SQLite, ids of version {ids[1]} on {found.rows:,}: as text, over as 16 bytes", _ratio(found, ids).middle
        )
        for ids in found.rounds
    ]
