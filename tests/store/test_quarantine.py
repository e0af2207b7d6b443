"""What was genuine and no evaluation's event: listed, found, tried again, discarded."""

from hashlib import sha256

import pytest

from receiver.store import quarantine
from receiver.store.database import Database
from receiver.store.intake import Taken
from receiver.store.tables import events, set_aside
from tests.store.building import NOW, SAMPLE, SECOND, accepted, arrival, body, key, other, stage
from tests.store.places import rows

LATER = NOW + 60 * SECOND


def id_of(content: bytes) -> str:
    return sha256(content).hexdigest()


async def states(database: Database) -> dict[bytes, tuple[str, str]]:
    return {
        content: (kind, state) for content, kind, state in await database.read(rows, set_aside, "body", "kind", "state")
    }


async def test_listed(database: Database) -> None:
    """Each kind has its own list, the newest first, of those that nobody has seen to."""
    await accepted(database, *(other(b"%d" % n, at=NOW + n * SECOND) for n in range(5)))
    await accepted(database, other(b"i", kind="ignored"), other(b"3", at=LATER))
    assert [each.body for each in await database.read(quarantine.listed)] == [b"4", b"3", b"2", b"1", b"0"]
    assert [each.body for each in await database.read(quarantine.listed, limit=2)] == [b"4", b"3"]
    [ignored] = await database.read(quarantine.listed, kind="ignored")
    assert (ignored.body, ignored.event, ignored.why) == (b"i", "run.completed", None)
    [kept] = await database.read(quarantine.find, id_of(b"3"))
    assert kept == quarantine.Kept(
        id_of(b"3"), "quarantined", "kept", None, "not JSON", b"3", "old", "req-2", NOW + 3 * SECOND, 1, LATER
    )


async def test_found_by_its_beginning(database: Database) -> None:
    """Any beginning of an id that fits one alone names it; one that fits several is known as such."""
    contents = [b"%d" % n for n in range(20)]
    await accepted(database, *(other(each) for each in contents))
    for content in contents:
        for digits in (1, 2, 64):
            beginning = id_of(content)[:digits]
            fits = [each for each in contents if id_of(each).startswith(beginning)]
            found = [each.body for each in await database.read(quarantine.find, beginning)]
            assert len(found) == min(len(fits), 2)
            assert set(found) <= set(fits)
    assert await database.read(quarantine.find, id_of(b"no such")) == []


async def test_retry(database: Database) -> None:
    """A body that is understood today, because an older program had set it aside, goes on as the event that it is."""
    understood, sample, not_yet = body(key(1)), body(SAMPLE), b"not JSON"
    await accepted(database, *(other(each) for each in (understood, sample, not_yet)))
    ids = [id_of(each) for each in (understood, sample, not_yet)]
    went_on = await database.write(quarantine.retry, ids)
    assert {each.body for each in went_on} == {understood, sample}
    columns = (
        "evaluation_id",
        "event",
        "body",
        "origin",
        "secret_label",
        "request_id",
        "received_at",
        "repeats",
        "waiting",
    )
    rest = ("old", "req-2", NOW, 0, True)  # it goes on under the time when it came
    assert sorted(await database.read(rows, events, *columns)) == [
        (SAMPLE, "evaluation.completed", sample, "sample", *rest),
        (key(1), "evaluation.completed", understood, "callback", *rest),
    ]
    assert await states(database) == {
        understood: ("quarantined", "retried"),
        sample: ("quarantined", "retried"),
        not_yet: ("quarantined", "kept"),
    }
    assert len(await stage(database)) == 2


async def test_retry_of_what_came_since(database: Database) -> None:
    """An event that has come by another way since is one event: the body is a repeat of it."""
    await accepted(database, other(body(key(1)), at=LATER), arrival(1))
    assert len(await database.write(quarantine.retry, [id_of(body(key(1)))])) == 1
    assert await database.read(rows, events, "repeats", "last_repeat_at") == [(1, LATER)]


async def test_retry_of_another_kind(database: Database) -> None:
    """A body that is understood today as another kind of event is understood: it moves to the ignored ones."""
    content = b'{"event": "run.%s"}' % (b"x" * 1000)
    await accepted(database, other(content))
    assert [each.body for each in await database.write(quarantine.retry, [id_of(content)])] == [content]
    assert await database.read(rows, events, "event") == []
    assert await states(database) == {content: ("ignored", "kept")}
    assert await database.read(rows, set_aside, "event", "why") == [("run." + "x" * 251, None)]


@pytest.mark.parametrize("how", ["retried", "discarded"])
async def test_seen_to_once(database: Database, how: str) -> None:
    """What was retried or discarded is not retried again, and not counted as changed."""
    content = body(key(1))
    await accepted(database, other(content))
    if how == "retried":
        await database.write(quarantine.retry, [id_of(content)])
    else:
        assert await database.write(quarantine.discard, [id_of(content)]) == 1
    before = await database.read(rows, events, "evaluation_id", "repeats")
    assert await database.write(quarantine.retry, [id_of(content)]) == []
    assert await database.write(quarantine.discard, [id_of(content)]) == 0
    assert await database.read(rows, events, "evaluation_id", "repeats") == before
    assert await states(database) == {content: ("quarantined", how)}


async def test_discard(database: Database) -> None:
    """What is discarded is off the list, stays stored, and a repeat of it is known as one."""
    await accepted(database, other(b"1"), other(b"2"))
    assert await database.write(quarantine.discard, [id_of(b"1"), id_of(b"no such")]) == 1
    assert [each.body for each in await database.read(quarantine.listed)] == [b"2"]
    assert [each.body for each in await database.read(quarantine.listed, state="discarded")] == [b"1"]
    assert await database.accept([other(b"1")]) == [Taken.NEW]
    assert [(each.body, each.repeats) for each in await database.read(quarantine.listed, state="discarded")] == [
        (b"1", 1)
    ]
