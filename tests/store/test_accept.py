"""Storing what came in: once for each key or SHA-256, repeats counted, other bytes kept."""

from hashlib import sha256

import pytest

from receiver.store.database import Database
from receiver.store.intake import Arrival, Taken
from receiver.store.tables import events, other_bodies, set_aside
from tests.store.building import NOW, SECOND, accepted, arrival, body, key, other, stage, staged
from tests.store.places import rows


async def counted(database: Database) -> list[tuple[object, ...]]:
    return await database.read(rows, events, "evaluation_id", "event", "repeats", "last_repeat_at")


async def test_first_and_repeat(database: Database) -> None:
    """The first of a key is new and stored as it came; each further one is counted on its row, with when it last came."""
    first = arrival(1)
    assert await database.accept([first]) == [Taken.NEW]
    columns = (*first._fields, "repeats", "last_repeat_at", "waiting")
    assert await database.read(rows, events, *columns) == [(*first, 0, None, True)]
    for n in (1, 2):
        again = arrival(1, at=NOW + n * SECOND)._replace(secret_label="new", request_id="req-9")
        assert await database.accept([again]) == [Taken.REPEAT]
    assert await database.read(rows, events, *columns) == [(*first, 2, NOW + 2 * SECOND, True)]
    assert await database.read(rows, other_bodies, "event") == []


async def test_both_events(database: Database) -> None:
    """Both events of one evaluation are two rows."""
    both = [arrival(1), arrival(1, "evaluation.failed")]
    assert await database.accept(both) == [Taken.NEW, Taken.NEW]
    assert await counted(database) == [
        (key(1), "evaluation.completed", 0, None),
        (key(1), "evaluation.failed", 0, None),
    ]


async def test_repeat_with_other_bytes(database: Database) -> None:
    """Other bytes than before are kept, once for each SHA-256, and the event waits again, so that it is fetched again."""
    await staged(database, 1)
    changed = arrival(1, at=NOW + SECOND, overall_passed=True)
    assert await database.accept([changed]) == [Taken.REPEAT]
    kept = [(key(1), "evaluation.completed", sha256(changed.body).digest(), changed.body, NOW + SECOND)]
    columns = ("evaluation_id", "event", "sha256", "body", "received_at")
    assert await database.read(rows, other_bodies, *columns) == kept
    assert await database.read(rows, events, "waiting", "repeats") == [(True, 1)]

    await stage(database, now=NOW + SECOND)
    assert await database.accept([changed, arrival(1)]) == [Taken.REPEAT, Taken.REPEAT]
    assert await database.read(rows, other_bodies, *columns) == kept
    assert await database.read(rows, events, "waiting", "repeats", "body") == [(False, 3, body(key(1)))]


async def test_repeats_in_one_batch(database: Database) -> None:
    """Of the same key several times in one batch the first is new and the others are counted, in the order they came."""
    batch = [arrival(1), arrival(2), arrival(1, at=NOW + SECOND), arrival(1, at=NOW + 2 * SECOND), arrival(3)]
    assert await database.accept(batch) == [Taken.NEW, Taken.NEW, Taken.REPEAT, Taken.REPEAT, Taken.NEW]
    assert await counted(database) == [
        (key(1), "evaluation.completed", 2, NOW + 2 * SECOND),
        (key(2), "evaluation.completed", 0, None),
        (key(3), "evaluation.completed", 0, None),
    ]


async def test_other_bytes_in_one_batch(database: Database) -> None:
    """Of different bodies of one key in one batch the first is the event's, and each other is kept once."""
    batch = [arrival(1, n=1), arrival(1, n=2), arrival(1, n=3), arrival(1, n=2), arrival(1, n=1)]
    assert await database.accept(batch) == [Taken.NEW] + 4 * [Taken.REPEAT]
    assert await database.read(rows, events, "body", "repeats") == [(batch[0].body, 4)]
    assert await database.read(rows, other_bodies, "body") == [(batch[1].body,), (batch[2].body,)]


@pytest.mark.parametrize("kind", ["ignored", "quarantined"])
async def test_set_aside(database: Database, kind: str) -> None:
    """A body that is no evaluation's event is kept byte for byte, once for each SHA-256, and its repeats are counted."""
    content = b"\xff\xfe\x00 not UTF-8 \xc3"
    first = other(content)._replace(kind="ignored") if kind == "ignored" else other(content)
    later = [first._replace(received_at=NOW + n * SECOND, request_id="req-9") for n in (1, 2, 3)]
    assert await database.accept([first]) == [Taken.NEW]
    await accepted(database, *later[:2])
    await accepted(database, later[2], other(b"another"))
    columns = (
        "body",
        "sha256",
        "kind",
        "state",
        "event",
        "why",
        "secret_label",
        "request_id",
        "received_at",
        "repeats",
    )
    assert sorted(await database.read(rows, set_aside, *columns, "last_repeat_at")) == [
        (
            b"another",
            sha256(b"another").digest(),
            "quarantined",
            "kept",
            None,
            "not JSON",
            "old",
            "req-2",
            NOW,
            0,
            None,
        ),
        (content, sha256(content).digest(), kind, "kept", None, "not JSON", "old", "req-2", NOW, 3, NOW + 3 * SECOND),
    ]


async def test_odd_names(database: Database) -> None:
    """A huge event name is cut and one with U+0000 is changed, so that both databases can hold it; the body is whole."""
    huge, nul = other(b"1", kind="ignored"), other(b"2", kind="ignored")
    await accepted(database, huge._replace(event="run." + "é" * 100_000), nul._replace(event="run.\0x"))
    names = dict(await database.read(rows, set_aside, "body", "event"))
    assert names == {b"1": ("run." + "é" * 100_000)[:255], b"2": "run.\ufffdx"}


async def test_mixed_batch(database: Database) -> None:
    """Events and other bodies in one batch each get the answer that is theirs."""
    batch: list[Arrival] = [other(b"x"), arrival(1), other(b"y", kind="ignored"), arrival(1), other(b"x")]
    assert await database.accept(batch) == [Taken.NEW, Taken.NEW, Taken.NEW, Taken.REPEAT, Taken.NEW]
    assert await database.read(rows, set_aside, "body", "repeats") == [(b"x", 1), (b"y", 0)]


async def test_nothing(database: Database) -> None:
    """An empty batch is no error."""
    assert await database.accept([]) == []


async def test_large_batch(database: Database) -> None:
    """A full batch of large bodies is stored in one go, each in its place."""
    batch = [arrival(n, filler="x" * 20_000) for n in range(1000)]
    assert await database.accept([*batch, *batch[:5]]) == 1000 * [Taken.NEW] + 5 * [Taken.REPEAT]
    assert await database.read(rows, events, "evaluation_id", "body") == [
        (each.evaluation_id, each.body) for each in batch
    ]
