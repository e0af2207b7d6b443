"""Many rows in one statement: what they hold, and what is new."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from receiver.store.database import Database
from receiver.store.rows import insert_new, insert_rows, one_of, put_rows, update_rows
from receiver.store.tables import events, fetches, trees
from tests.store.building import NOW, SECOND, key


def fetch(number: int, **others: Any) -> dict[str, Any]:
    """A row of `fetches`."""
    return {
        "evaluation_id": key(number),
        "due_at": None,
        "leased": False,
        "claim": 0,
        "asked": 1,
        "attempts": 0,
        "started_at": NOW,
        "last_error": None,
    } | others


def stored(conn: Connection) -> dict[Any, Any]:
    """What is there, by id."""
    columns = (fetches.c.evaluation_id, fetches.c.due_at, fetches.c.leased, fetches.c.claim, fetches.c.last_error)
    return {row[0]: tuple(row[1:]) for row in conn.execute(select(*columns))}


async def test_insert_and_update(database: Database) -> None:
    """Ids, times, flags, numbers, texts and nulls come back as they went in; a row that is not named stays as it is."""
    elsewhere = NOW.astimezone(tz=UTC) + timedelta(microseconds=123)
    await database.write(insert_rows, fetches, [fetch(1, due_at=elsewhere), fetch(2, last_error="é \U0001f642 'x'")])
    assert await database.read(stored) == {
        key(1): (elsewhere, False, 0, None),
        key(2): (None, False, 0, "é \U0001f642 'x'"),
    }
    await database.write(update_rows, fetches, [{"evaluation_id": key(2), "leased": True, "due_at": NOW, "claim": 7}])
    assert await database.read(stored) == {
        key(1): (elsewhere, False, 0, None),
        key(2): (NOW, True, 7, "é \U0001f642 'x'"),
    }


async def test_nothing_to_do(database: Database) -> None:
    """No rows, no statement."""
    await database.write(insert_rows, fetches, [])
    await database.write(update_rows, fetches, [])
    await database.write(put_rows, trees, [])
    assert await database.write(insert_new, fetches, []) == set()
    assert await database.read(stored) == {}


async def test_only_what_is_new(database: Database) -> None:
    """Those that are there stay as they are, and are not told as new."""
    await database.write(insert_rows, fetches, [fetch(1, claim=3)])
    assert await database.write(insert_new, fetches, [fetch(1), fetch(2), fetch(3)]) == {key(2), key(3)}
    assert [row[2] for _, row in sorted((await database.read(stored)).items())] == [3, 0, 0]


async def test_put(database: Database) -> None:
    """A row that is there gets the newest values."""

    def bodies(conn: Connection) -> list[tuple[bytes, datetime]]:
        query = select(trees.c.body, trees.c.fetched_at).order_by(trees.c.evaluation_id)
        return [(row.body, row.fetched_at) for row in conn.execute(query)]

    one, two = ({"evaluation_id": key(n), "fetched_at": NOW, "body": b"\0first"} for n in (1, 2))
    await database.write(put_rows, trees, [one])
    await database.write(put_rows, trees, [one | {"fetched_at": NOW + SECOND, "body": b"second"}, two])
    assert await database.read(bodies) == [(b"second", NOW + SECOND), (b"\0first", NOW)]


async def test_a_key_of_two_columns(database: Database) -> None:
    """All columns of a table's key are looked at."""
    row = {
        "evaluation_id": key(1), "event": "a", "body": b"", "origin": "callback", "secret_label": None,
        "request_id": None, "received_at": NOW, "repeats": 0, "last_repeat_at": None, "waiting": True,
    }  # fmt: skip
    await database.write(insert_rows, events, [row, row | {"event": "b"}])
    await database.write(update_rows, events, [{"evaluation_id": key(1), "event": "b", "waiting": False}])

    def waiting(conn: Connection) -> dict[str, bool]:
        return {row.event: row.waiting for row in conn.execute(select(events))}

    assert await database.read(waiting) == {"a": True, "b": False}


async def test_one_of(database: Database) -> None:
    """Those that are named, of whatever number."""
    await database.write(insert_rows, fetches, [fetch(1), fetch(2), fetch(3)])

    def found(conn: Connection, *numbers: int) -> set[Any]:
        ids = [key(number) for number in numbers]
        return set(conn.scalars(select(fetches.c.evaluation_id).where(one_of(conn, fetches.c.evaluation_id, ids))))

    assert await database.read(found, 1, 3, 9) == {key(1), key(3)}
    assert await database.read(found) == set()
