"""From a click to Runflow and back into the message: whatever fails meanwhile, and several people at once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from receiver.core.rating import Click
from receiver.core.verdict import Verdict
from receiver.offline import OfflineRunflow
from receiver.offline.access import READ
from receiver.offline.faults import RateLimited, ServerError
from receiver.pipeline import ratings as pipeline
from receiver.pipeline.deliver import SinkLane
from receiver.pipeline.ratings import RatingLane
from receiver.runflow.client import RunflowClient
from receiver.sinks.base import Board, Sink
from receiver.sinks.slack import SlackOptions
from receiver.store import ratings
from tests.pipeline.clock import DEADLINE, Clock
from tests.pipeline.desk import KEY, SOURCE, Desk, plan_of, step
from tests.sinks.servers import nobody_listens
from tests.sinks.slack_side import CHANNEL, TOKEN, SlackServer, Workspace


@dataclass
class Room:
    """A message about an evaluation in a channel, with its buttons, and people who click them."""

    desk: Desk
    clock: Clock
    slack: Workspace
    sink: Sink
    key: UUID
    clicks: int = 0

    def lane(self, client: RunflowClient | None) -> RatingLane:
        assert isinstance(self.sink, Board)
        return RatingLane(self.desk.database, self.desk.bells, client, {"log": self.sink})

    async def click(self, person: str, is_positive: bool | None, *, place: str | None = None, **changes: Any) -> None:
        """One after the other."""
        self.clicks += 1
        at = self.clock() + timedelta(microseconds=self.clicks)
        place = place or f"{CHANNEL}:{self.slack.messages[0].ts}"
        made = Click(self.key, 1, person, is_positive, at, "log", place)._replace(**changes)
        await self.desk.database.write(ratings.rate, made, self.clock())

    @property
    def raters(self) -> str:
        """Who is shown in the message to have rated."""
        blocks = [each for each in self.slack.messages[0].content["blocks"] if each.get("block_id") == "raters"]
        return "".join(each["elements"][0]["text"] for each in blocks)

    @property
    def thumb(self) -> bool | None:
        """What Runflow holds."""
        feedback = self.desk.runflow.evaluations.get(self.key).feedback
        return None if feedback is None else feedback.is_positive

    @property
    def whispers(self) -> list[tuple[str, str]]:
        return [(each.user, each.text) for each in self.slack.whispers]


@pytest.fixture
async def room(desk: Desk, clock: Clock) -> AsyncIterator[Room]:
    """One verdict, posted by the bot."""
    async with SlackServer() as server:
        given = {"name": "log", "channel": CHANNEL, "token": TOKEN, "api_url": server.api_url, "buttons": True}
        sink = SlackOptions.model_validate(given | {"timeout": DEADLINE}).open(None)
        [key] = await desk.release()
        await step(SinkLane(desk.database, desk.bells, plan_of(sink), source=SOURCE, process="us"))
        yield Room(desk, clock, server.slack, sink, key)
        await sink.close()


async def test_a_click_goes_to_runflow_and_is_shown(room: Room, client: RunflowClient) -> None:
    """And nothing more is due."""
    await room.click("U1", False)
    lane = room.lane(client)
    await lane.step()
    assert (room.thumb, room.raters, room.whispers) == (False, "👎 <@U1>", [])
    assert await lane.step() is None


async def test_several_people_and_changing_ones_mind(room: Room, client: RunflowClient) -> None:
    """The message shows what each says now; Runflow holds the newest of all."""
    lane = room.lane(client)
    for person, is_positive, thumb, raters in (
        ("U1", True, True, "👍 <@U1>"),
        ("U2", False, False, "👍 <@U1>   👎 <@U2>"),
        ("U1", False, False, "👎 <@U2>, <@U1>"),
        ("U1", True, True, "👍 <@U1>   👎 <@U2>"),
        ("U1", None, False, "👎 <@U2>"),
        ("U2", None, None, ""),
    ):
        await room.click(person, is_positive)
        await lane.step()
        assert (room.thumb, room.raters) == (thumb, raters)


async def test_many_clicks_before_any_is_seen_to(room: Room, client: RunflowClient) -> None:
    """All are shown in the end, and Runflow holds the newest."""
    for number in range(12):
        await room.click(f"U{number}", number % 2 == 0)
    lane = room.lane(client)
    while await lane.step() is not None:
        pass
    assert room.thumb is False
    assert room.raters.count("<@U") == 12


async def test_two_processes_at_once(room: Room, client: RunflowClient) -> None:
    """Each sees to others' clicks; what is told and drawn last is what is so."""
    for number in range(10):
        await room.click(f"U{number}", number % 2 == 0)
    lanes = [room.lane(client), room.lane(client)]
    for _ in range(6):
        await asyncio.gather(*(lane.step() for lane in lanes))
    assert room.thumb is False
    assert room.raters.count("<@U") == 10


async def test_runflow_is_away_and_comes_back(room: Room, client: RunflowClient) -> None:
    """The person is told once, the click is kept, and goes when Runflow is there."""
    room.desk.runflow.faults.server_error = ServerError(count=3, method="PATCH")
    await room.click("U1", True)
    lane = room.lane(client)
    for _ in range(3):
        assert (await lane.step()) is not None
        assert (room.thumb, room.raters) == (None, "")
        room.clock.advance(minutes=15)
    await lane.step()
    assert (room.thumb, room.raters) == (True, "👍 <@U1>")
    assert room.whispers == [
        ("U1", "Runflow does not answer just now. Your rating is kept, and passed on when it does.")
    ]


async def test_runflow_says_how_long_to_wait(room: Room, client: RunflowClient) -> None:
    """429 with `Retry-After`."""
    room.desk.runflow.faults.rate_limited = RateLimited(count=1, retry_after=60, method="PATCH")
    await room.click("U1", True)
    lane = room.lane(client)
    await lane.step()
    assert await lane.step() == room.clock() + timedelta(seconds=60)


async def test_runflow_stays_away(room: Room) -> None:
    """After a day it is given up, and the person is told."""
    with nobody_listens() as port:
        client = RunflowClient(f"http://127.0.0.1:{port}", KEY)
        lane = room.lane(client)
        await room.click("U1", True)
        await lane.step()
        room.clock.advance(hours=25)
        for _ in range(pipeline.FEWEST_TRIES - 1):
            assert len(room.whispers) == 1
            await lane.step()
            room.clock.advance(hours=1)
        await client.close()
    assert room.whispers[-1] == ("U1", "Your rating was not taken: Runflow could not be told for 24 hours.")
    assert room.raters == ""
    assert await lane.step() is None


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (None, "This receiver has no RUNFLOW_API_KEY, so it cannot tell Runflow."),
        ("rf_live_wrong", "Runflow answered 401 UNAUTHORIZED: RUNFLOW_API_KEY is not taken."),
        (
            "may-read",
            (
                "Runflow answered 403 PERMISSION_DENIED: RUNFLOW_API_KEY needs the scope evaluations:edit, which a key does not"
                " get by itself."
            ),
        ),
    ],
)
async def test_a_rating_that_cannot_be_taken_is_told_in_plain_words(
    room: Room, runflow: OfflineRunflow, key: str | None, told: str
) -> None:
    """To the person alone; the message shows what is so."""
    if key == "may-read":
        runflow.access.scopes = frozenset({READ})
    client = None if key is None else RunflowClient(runflow.url, KEY if key == "may-read" else key)
    await room.click("U1", True)
    lane = room.lane(client)
    await lane.step()
    if client is not None:
        await client.close()
    assert room.whispers == [("U1", f"Your rating was not taken. {told}")]
    assert (room.thumb, room.raters) == (None, "")
    assert await lane.step() is None


async def test_an_evaluation_that_nobody_knows(room: Room, client: RunflowClient) -> None:
    """Erased here and unknown there: told, and no harm done."""
    await room.click("U1", True, evaluation_id=UUID(int=5))
    await room.lane(client).step()
    told = "Runflow answered 404 NOT_FOUND: there is no such evaluation, or it is another organisation's."
    assert room.whispers == [("U1", f"Your rating was not taken. {told}")]


async def test_slack_is_busy(room: Room, client: RunflowClient) -> None:
    """Runflow has it; the message is drawn later."""
    await room.click("U1", True)
    room.slack.refuse("ratelimited")
    lane = room.lane(client)
    await lane.step()
    assert (room.thumb, room.raters) == (True, "")
    room.clock.advance(minutes=15)
    await lane.step()
    assert (room.raters, room.whispers) == ("👍 <@U1>", [])


async def test_a_message_that_was_deleted(room: Room, client: RunflowClient) -> None:
    """The rating counts all the same."""
    place = f"{CHANNEL}:{room.slack.messages[0].ts}"
    room.slack.messages.clear()
    await room.click("U1", True, place=place)
    lane = room.lane(client)
    await lane.step()
    assert room.thumb is True
    assert await lane.step() is None


async def test_a_process_that_dies_on_the_way_loses_no_click(
    room: Room, client: RunflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runflow was told and nobody noted it: another does it once more when the lease has ended."""

    async def dies(*_: object) -> None:
        raise RuntimeError("killed")

    await room.click("U1", True)
    with monkeypatch.context() as patched:
        patched.setattr(RatingLane, "_show", dies)
        with pytest.raises(RuntimeError):
            await room.lane(client).step()
    assert (room.thumb, room.raters) == (True, "")
    room.clock.advance(pipeline.LEASE)
    await room.lane(client).step()
    assert room.raters == "👍 <@U1>"


async def test_a_sink_that_is_not_there_any_more(room: Room, client: RunflowClient) -> None:
    """Runflow is told all the same."""
    await room.click("U1", True, sink="before")
    await room.lane(client).step()
    assert room.thumb is True


async def test_the_message_keeps_its_own_revision(room: Room, client: RunflowClient) -> None:
    """A later one has a message of its own."""
    verdict: Verdict | None = await room.desk.database.read(ratings.rated, room.key, 1)
    assert verdict is not None
    assert verdict.revision == 1
    await room.click("U1", True, revision=99)
    await room.lane(client).step()
    assert "Revision" not in room.slack.messages[0].text
