"""`GET /v1/verdicts/stream`: each released revision once, from where one begins or goes on; and how it ends."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.core.routing import Route
from receiver.pipeline.station import RELEASES
from receiver.store.results import Found
from receiver.store.results import release as release_results
from receiver.web import stream, tail
from receiver.web.events import RETRY_MILLISECONDS
from tests.store.places import opened
from tests.web.gateway import Gateway
from tests.web.logged import Lines
from tests.web.receivers import READER, Receiver, serving, settings_for, until
from tests.web.seeds import NOON, stored, verdict
from tests.web.sources import Event, Source, numbers
from tests.web.wire import Wire, request

NO_SINKS: list[Route] = []


def source(receiver: Receiver, **params: str | list[str]) -> Source:
    """A reader of this receiver."""
    return Source(f"http://127.0.0.1:{receiver.port}", READER, params)


async def release(receiver: Receiver, *numbers: int, **fields: Any) -> None:
    """Releases verdicts as the pipeline does, and rings."""
    await receiver.service.database.write(stored, [verdict(number, **fields) for number in numbers])
    receiver.service._bells.ring(RELEASES)


async def revise(receiver: Receiver, number: int, **fields: Any) -> None:
    """Releases another result of an evaluation."""
    found = [Found(verdict(number, **fields), b"{}")]
    await receiver.service.database.write(release_results, found, NO_SINKS, NOON)
    receiver.service._bells.ring(RELEASES)


def seen(events: list[Event]) -> list[tuple[int, int]]:
    """Number and revision of each."""
    return [(int(event.verdict["evaluation_id"][-12:], 16), event.verdict["revision"]) for event in events]


async def test_as_they_are_released(receiver: Receiver) -> None:
    """Each event is the whole verdict, as the API shows it, with a cursor; what was there before is not among them."""
    await release(receiver, 1)
    async with source(receiver).opened() as reader:
        assert (reader.status, reader.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert (reader.headers["cache-control"], reader.headers["x-accel-buffering"]) == ("no-store", "no")
        await release(receiver, 2)
        events = await reader.next()
        await release(receiver, 3, 4)
        events += await reader.next(2)
        assert reader.parser.retry == RETRY_MILLISECONDS
    assert [event.type for event in events] == ["verdict"] * 3
    assert sorted(seen(events)) == [(2, 1), (3, 1), (4, 1)]
    assert sorted(set(numbers(events))) == list(numbers(events))
    for event in events:
        shown = await receiver.get(f"/v1/verdicts/{event.verdict['evaluation_id']}")
        assert event.verdict == shown.json


async def test_it_goes_on(receiver: Receiver) -> None:
    """With the last id that was seen it goes on behind that, whatever was released meanwhile, and however often."""
    reader = source(receiver)
    events: list[Event] = []
    async with reader.opened():
        await release(receiver, *range(1, 11))
        events += await reader.next(3)
    await release(receiver, 11, 12)
    for count in (1, 4, 4):
        async with reader.opened():
            events += await reader.next(count)
    assert sorted(seen(events)) == [(number, 1) for number in range(1, 13)]
    assert len(set(numbers(events))) == 12


async def test_before_its_first_event(receiver: Receiver) -> None:
    """A reader that was cut off before it saw any event comes back to where it began."""
    reader = source(receiver)
    async with reader.opened():
        await reader.line()
        await reader.line()
    await release(receiver, 1)
    async with reader.opened():
        assert seen(await reader.next()) == [(1, 1)]


async def test_revisions(receiver: Receiver) -> None:
    """Every revision is an event of its own, with what it said; also to those who read it when there is a later one."""
    reader, late = source(receiver), source(receiver)
    async with reader.opened(), late.opened():
        await late.line()
        await late.line()
        await release(receiver, 1, overall_passed=False)
        first = await reader.next()
        await revise(receiver, 1, overall_passed=True)
        await revise(receiver, 1, overall_passed=True, generated_image_url="https://cdn.example/fresher")  # no revision
        await revise(receiver, 1, overall_passed=None)
        events = first + await reader.next(2)
    assert seen(events) == [(1, 1), (1, 2), (1, 3)]
    assert [event.verdict["overall_passed"] for event in events] == [False, True, None]
    async with late.opened():
        again = await late.next(3)
    assert [event.id for event in again] == [event.id for event in events]
    assert [event.verdict["overall_passed"] for event in again] == [False, True, None]


async def test_since(receiver: Receiver) -> None:
    """From the beginning, or from a time on; a time at which nothing was released yet is now. The last id counts for more."""
    await release(receiver, 1, 2)  # at noon
    later = (NOON + timedelta(seconds=1)).isoformat()
    number = 2
    for since in ("beginning", NOON.isoformat(), "2026-11-25T12:00:00Z", later):
        async with source(receiver, since=since).opened() as reader:
            number += 1
            await release(receiver, number)
            first = 1 if since != later else number
            events = await reader.next(number + 1 - first)
            assert seen(events) == [(each, 1) for each in range(first, number + 1)]
    async with source(receiver, since="beginning").opened(events[0].id) as reader:
        await release(receiver, 9)
        assert seen(await reader.next()) == [(9, 1)]


async def test_filters(receiver: Receiver) -> None:
    """The list's filters; each revision is looked at by itself, in memory as in the database."""
    only_failed = source(receiver, overall_passed="false", client_ref=["a", "b"])
    async with only_failed.opened():
        await release(receiver, 1, overall_passed=False, client_ref="a")
        await release(receiver, 2, overall_passed=True, client_ref="a")
        await release(receiver, 3, overall_passed=False, client_ref="c")
        await release(receiver, 4, overall_passed=False, client_ref="b")
        await revise(receiver, 1, overall_passed=True, client_ref="a")
        await revise(receiver, 2, overall_passed=False, client_ref="a")
        events = await only_failed.next(3)
    assert seen(events) == [(1, 1), (4, 1), (2, 2)]
    async with source(receiver, since="beginning", overall_passed="false", client_ref=["a", "b"]).opened() as again:
        assert await again.next(3) == events


async def test_signs_of_life(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent stream has comments, and an id where something passed by that did not match: nothing is looked at twice."""
    monkeypatch.setattr(stream, "BEAT_SECONDS", 0.05)
    reader = source(receiver, client_ref="never")
    async with reader.opened():
        began = reader.parser
        while began.comments < 3:
            assert await reader.line() is None
        first = began.last_event_id
        await release(receiver, 1, 2)
        while began.last_event_id == first:
            assert await reader.line() is None
    assert int(began.last_event_id) == int(first) + 2


async def test_behind_what_is_in_memory(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is further behind than memory goes reads pages of the database, and then along with the others."""
    monkeypatch.setattr(tail, "WINDOW_BYTES", 4000)
    monkeypatch.setattr(tail, "CHUNK_BYTES", 1500)
    monkeypatch.setattr(tail, "RETURN", 3)
    monkeypatch.setattr(tail, "PAGE", 4)
    await release(receiver, *range(1, 31))
    params: tuple[dict[str, str], ...] = ({}, {"event": "evaluation.completed"}, {"client_ref": "this"})
    readers = [source(receiver, since="beginning", **each) for each in params]
    async with readers[0].opened(), readers[1].opened(), readers[2].opened():
        await release(receiver, *range(31, 51))
        await release(receiver, 51, client_ref="this")
        found = [await reader.next(51) for reader in readers[:2]]
        assert seen(await readers[2].next()) == [(51, 1)]
    assert found[0] == found[1]
    assert seen(found[0]) == [(number, 1) for number in range(1, 52)]


@pytest.mark.parametrize(
    ("target", "headers", "field", "says"),
    [
        ("?overall_passed=maybe", [], "overall_passed", "must be true, false or null"),
        ("?limit=5", [], "limit", "unknown; there are overall_passed, "),
        ("?sort=received_at&cursor=x", [], "sort", "unknown; there are"),
        ("?since=yesterday", [], "since", "or beginning"),
        ("?since=", [], "since", "or beginning"),
        ("?since=beginning&since=beginning", [], "since", "given more than once"),
        ("", [("Last-Event-ID", "x")], "Last-Event-ID", "is not one that this service made"),
        ("", [("Last-Event-ID", "-1")], "Last-Event-ID", "is not one that this service made"),
        ("", [("Last-Event-ID", "9" * 19)], "Last-Event-ID", "is not one that this service made"),
        ("", [("Last-Event-ID", "9" * 18)], "Last-Event-ID", "is none of this database's"),
    ],
)
async def test_wrong(on_sqlite: Receiver, target: str, headers: list[tuple[str, str]], field: str, says: str) -> None:
    """What is wrong is told before anything flows, as everywhere."""
    bearer = ("Authorization", f"Bearer {READER}")
    answer = await on_sqlite.ask("GET", f"/v1/verdicts/stream{target}", [bearer, *headers])
    assert answer.status == 422
    problems = {each["field"]: each["message"] for each in answer.json["errors"]}
    assert says in problems[field]


async def test_without_a_token(on_sqlite: Receiver) -> None:
    """401 as everywhere; 405 for other methods; HEAD has the headers and nothing that flows."""
    for token in (None, "wrong"):
        assert (await on_sqlite.get("/v1/verdicts/stream", token)).status == 401
    assert (await on_sqlite.ask("POST", "/v1/verdicts/stream")).status == 405
    async with httpx.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{on_sqlite.port}/v1/verdicts/stream"
        answer = await client.head(url, headers={"Authorization": f"Bearer {READER}"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert on_sqlite.service._tail.readers == 0


async def test_too_many(on_sqlite: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """More readers than there may be are told to come again."""
    monkeypatch.setattr(stream, "MOST_READERS", 1)
    async with source(on_sqlite).opened():
        answer = await on_sqlite.get("/v1/verdicts/stream")
        assert (answer.status, answer.all("retry-after")) == (503, ["5"])
    await nobody_reads(on_sqlite)
    async with source(on_sqlite).opened() as reader:
        assert reader.status == 200


async def nobody_reads(receiver: Receiver) -> None:
    """Waits until it is seen that all readers have gone; then nothing is followed any more."""

    async def is_so() -> bool:
        return receiver.service._tail.readers == 0

    await until(is_so, "the end of all readers")
    assert receiver.service._tail._following is None
    assert not receiver.service._tail._window


async def test_readers_that_go(receiver: Receiver, lines: Lines) -> None:
    """Whoever hangs up is forgotten, though nothing is sent; the log tells how far it came, and nothing is amiss."""
    await nobody_reads(receiver)
    before = len(lines.of("stream.ended"))
    async with source(receiver).opened(), source(receiver).opened():
        assert receiver.service._tail.readers == 2
    await nobody_reads(receiver)
    assert [line["why"] for line in lines.of("stream.ended")][before:] == ["left", "left"]
    assert {line["caller"] for line in lines.of("stream.ended")} == {"reader"}
    assert lines.above_info() == []


@pytest.fixture
async def own(database: str, tmp_path: Path, lines: Lines) -> AsyncIterator[Receiver]:
    """A receiver of the test's own, on each kind of database."""
    async with serving(settings_for(database, tmp_path)) as running:
        yield running


async def test_it_ends_with_the_service(own: Receiver, lines: Lines) -> None:
    """At a stop each stream ends as one that is complete, at once; whoever comes still is sent back to come again."""
    reader = source(own)
    async with reader.opened():
        await release(own, 1)
        events = await reader.next()
        await own.service.wind_down()
        assert [event async for event in reader.rest()] == []
        assert reader.headers["connection"] == "close"
    async with reader.opened():
        assert [event async for event in reader.rest()] == []
        assert reader.parser.last_event_id == events[-1].id
    assert [line["why"] for line in lines.of("stream.ended")][-2:] == ["dismissed"] * 2
    assert lines.above_info() == []


async def test_other_tokens(own: Receiver, database: str, tmp_path: Path) -> None:
    """New tokens end all streams, so that whoever may not read any more does not; the same tokens end none."""
    reader = source(own)
    async with reader.opened():
        await own.service.reload(settings_for(database, tmp_path))
        await release(own, 1)
        assert seen(await reader.next()) == [(1, 1)]
        await own.service.reload(settings_for(database, tmp_path, RECEIVER_API_TOKENS="another"))
        assert [event async for event in reader.rest()] == []
    async with reader.opened():
        assert reader.status == 401


async def test_another_process(own: Receiver, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process releases comes too: it rings on PostgreSQL, and is found by looking on SQLite."""
    if own.service.database.kind == "sqlite":
        monkeypatch.setattr(tail, "POLL", timedelta(seconds=0.05))
    async with serving(settings_for(database, tmp_path)) as other, source(own).opened() as reader:
        for number in range(1, 6):
            await release(other, number)
            assert seen(await reader.next()) == [(number, 1)]


BIG = "x" * 50_000


async def test_one_that_does_not_read(own: Receiver, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds a bounded piece, others get all, and it is hung up on in the end; then it can go on where it was."""
    monkeypatch.setattr(stream, "STUCK_SECONDS", 0.5)
    head = request("GET", "/v1/verdicts/stream", [("Authorization", f"Bearer {READER}")])
    async with Wire(own.port) as idle, source(own).opened() as reader:
        idle.stop_reading()
        await idle.send(head)

        async def has_begun() -> bool:
            return own.service._tail.readers == 2

        await until(has_begun, "a second reader")
        for first in range(1, 201, 25):
            await release(own, *range(first, first + 25), generation_prompt=BIG)
            assert len(await reader.next(25)) == 25

        async def is_gone() -> bool:
            return own.service._tail.readers == 1

        await until(is_gone, "the end of the one that does not read")
    [stuck] = [line for line in lines.of("stream.ended") if line["why"] == "stuck"]
    assert lines.above_info() == []
    async with source(own).opened(str(stuck["after"])) as again:
        assert seen(await again.next())[0][1] == 1


async def test_a_database_that_is_away(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream stays open and shows that it lives; when the database is back it goes on. Whoever comes meanwhile: 503."""
    monkeypatch.setattr(stream, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(stream, "AWAY_SECONDS", 0.05)
    monkeypatch.setattr(tail, "POLL_WHERE_HEARD", timedelta(seconds=0.1))
    async with Gateway(postgres) as gateway, serving(settings_for(gateway.url, tmp_path)) as receiver:
        reader, behind = source(receiver), source(receiver, since="beginning")
        async with reader.opened(), opened(postgres) as database:
            await release(receiver, 1)
            assert seen(await reader.next()) == [(1, 1)]
            await gateway.cut()
            await database.write(stored, [verdict(2)])
            for _ in range(3):
                await beat(reader)
            answer = await receiver.get("/v1/verdicts/stream")
            assert (answer.status, answer.all("retry-after")) == (503, ["5"])
            await gateway.mend()
            assert seen(await reader.next()) == [(2, 1)]
            gateway.stall()
            await database.write(stored, [verdict(3)])
            for _ in range(3):
                await beat(reader)
            await gateway.mend()
            assert seen(await reader.next()) == [(3, 1)]
            async with behind.opened():
                assert seen(await behind.next(3)) == [(1, 1), (2, 1), (3, 1)]


async def beat(reader: Source) -> None:
    """Waits for a sign of life, before which no event comes."""
    before = reader.parser.comments
    while reader.parser.comments == before:
        assert await reader.line() is None
