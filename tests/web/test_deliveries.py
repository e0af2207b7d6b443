"""`GET /v1/deliveries` and `POST /v1/deliveries/{delivery_id}/retry`."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from receiver.core.routing import Route
from receiver.store import lanes, outbox, outbox_desk
from receiver.store.attempts import Failure
from receiver.store.outbox import STATES, Settled, State
from receiver.store.outbox_desk import DeliveryFilter
from receiver.web.deliveries import LARGEST_ID
from tests.web.receivers import OPERATOR, READER, Receiver
from tests.web.seeds import NOON, key, stored, verdict
from tests.web.wire import Answer

LATER = NOON + timedelta(days=9000)
ROUTES = (Route("one"), Route("other"))


def in_all_states(conn: Connection) -> dict[State, int]:
    """One delivery in each state to the sink `one`, by state; the sink `other` has five that are pending."""
    stored(conn, [verdict(n) for n in range(len(STATES))], routes=ROUTES)
    claims = outbox.claim(conn, "one", limit=9, lease=timedelta(days=20_000), now=LATER)
    ids: dict[State, int] = {}
    for state, claim in zip(STATES, claims, strict=True):
        ids[state] = claim.id
        if state != "leased":
            due_at = LATER if state == "pending" else None
            failure = None if state == "delivered" else Failure(NOON, "again", "503")
            it = Settled(claim.id, claim.claim, state, due_at, None if due_at else NOON, "1-0", "503", failure=failure)
            outbox.settle(conn, [it])
    return ids


@pytest.fixture
async def ids(receiver: Receiver) -> dict[State, int]:
    return await receiver.service.database.write(in_all_states)


async def found(receiver: Receiver, query: str) -> list[int]:
    """The ids that all pages of a query list, a page of two at a time, each once and the newest first."""
    seen: list[int] = []
    cursor = ""
    while True:
        answer = await receiver.get(f"/v1/deliveries?limit=2{query}{cursor}")
        assert answer.status == 200, answer.body
        seen += [item["id"] for item in answer.json["items"]]
        if answer.json["next"] is None:
            assert seen == sorted(set(seen), reverse=True)
            return seen
        cursor = f"&cursor={answer.json['next']}"


async def retry(receiver: Receiver, delivery: object, token: str = OPERATOR) -> Answer:
    return await receiver.ask("POST", f"/v1/deliveries/{delivery}/retry", [("Authorization", f"Bearer {token}")])


async def test_an_item(receiver: Receiver, ids: dict[State, int]) -> None:
    """All that is known of a delivery, and no more."""
    [item] = (await receiver.get("/v1/deliveries?state=dead")).json["items"]
    assert item == {
        "id": ids["dead"], "evaluation_id": item["evaluation_id"], "sink": "one", "revision": 1, "replay_id": "",
        "state": "dead", "attempts": 1, "created_at": "2026-11-25T12:00:00Z", "due_at": None,
        "ended_at": "2026-11-25T12:00:00Z", "remote_id": "1-0", "last_error": "503",
    }  # fmt: skip


async def test_filters(receiver: Receiver, ids: dict[State, int]) -> None:
    """All that is given must hold; given twice, any of; over as many pages as it takes."""
    everything = await found(receiver, "")
    assert len(everything) == 10
    assert await found(receiver, "&sink=one") == sorted(ids.values(), reverse=True)
    assert len(await found(receiver, "&sink=other&state=pending")) == 5
    for state in STATES:
        assert await found(receiver, f"&sink=one&state={state}") == [ids[state]]
    assert set(await found(receiver, "&sink=one&state=dead&state=delivered")) == {ids["dead"], ids["delivered"]}
    assert set(await found(receiver, "&sink=one&state=leased&state=pending")) == {ids["leased"], ids["pending"]}
    assert len(await found(receiver, f"&evaluation_id={key(0)}&evaluation_id={key(1)}")) == 4
    assert await found(receiver, "&sink=nobody") == []
    assert await found(receiver, f"&evaluation_id={key(99)}") == []
    assert await found(receiver, "&sink=%00&sink=%ff") == []


async def test_paused_sinks(receiver: Receiver) -> None:
    """The list tells which sinks are paused, until when and why; other lanes are none of its business."""
    database = receiver.service.database
    for name in (lanes.sink_lane("one"), lanes.FETCH):
        await database.write(lanes.pause, name, until=LATER, reason="refused: 401", now=NOON)
    paused = {"sink": "one", "paused_until": LATER.isoformat().replace("+00:00", "Z"), "failures": 1}
    assert (await receiver.get("/v1/deliveries")).json["paused"] == [paused | {"reason": "refused: 401"}]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("state=lost", ["state"]),
        ("state=", ["state"]),
        ("evaluation_id=one", ["evaluation_id"]),
        ("limit=0", ["limit"]),
        ("limit=501", ["limit"]),
        ("limit=1&limit=2", ["limit"]),
        ("cursor=x", ["cursor"]),
        ("cursor=AAAA&cursor=AAAA", ["cursor", "cursor"]),
        ("states=dead&sort=id", ["states", "sort"]),
        ("&".join(["sink=x"] * 101), ["sink"]),
    ],
)
async def test_refused_lists(on_sqlite: Receiver, query: str, fields: list[str]) -> None:
    """Each wrong parameter is named."""
    answer = await on_sqlite.get(f"/v1/deliveries?{query}")
    assert (answer.status, answer.json["code"]) == (422, "VALIDATION_ERROR")
    assert [problem["field"] for problem in answer.json["errors"]] == fields


async def test_a_cursor_goes_with_its_filters(on_sqlite: Receiver) -> None:
    """With others it is refused, and so is one of the verdicts' list."""
    await on_sqlite.service.database.write(in_all_states)
    cursor = (await on_sqlite.get("/v1/deliveries?limit=1&sink=one")).json["next"]
    assert (await on_sqlite.get(f"/v1/deliveries?limit=1&sink=one&cursor={cursor}")).status == 200
    refused = await on_sqlite.get(f"/v1/deliveries?limit=1&cursor={cursor}")
    assert refused.json["errors"] == [{"field": "cursor", "message": "was made with other filters; begin without it"}]
    assert (await on_sqlite.get(f"/v1/verdicts?cursor={cursor}")).status == 422
    of_verdicts = (await on_sqlite.get("/v1/verdicts?limit=1")).json["next"]
    assert (await on_sqlite.get(f"/v1/deliveries?cursor={of_verdicts}")).status == 422


@pytest.mark.parametrize("state", ["dead", "discarded", "pending"])
async def test_retry(receiver: Receiver, ids: dict[State, int], state: State) -> None:
    """It is due now, with all its attempts before it, and a paused sink tries at once; to do it twice does no harm."""
    database = receiver.service.database
    await database.write(lanes.pause, lanes.sink_lane("one"), until=LATER, reason="x", now=NOON)
    bell = receiver.service._bells.bell(lanes.sink_lane("one"))
    bell.clear()
    for _ in range(2):
        answer = await retry(receiver, ids[state])
        expected = {"id": ids[state], "state": "pending", "attempts": 0, "ended_at": None}
        assert (answer.status, {name: answer.json[name] for name in expected}) == (200, expected)
    assert bell.is_set()
    [lane] = await database.read(lanes.troubled)
    assert lane.paused_until is not None
    assert lane.paused_until <= database.now()
    [claim] = await database.write(
        outbox.claim, "one", limit=1, lease=timedelta(seconds=1), now=database.now() + timedelta(seconds=1)
    )
    assert claim.id == ids[state]


@pytest.mark.parametrize(("state", "why"), [("leased", "being sent just now"), ("delivered", "was delivered")])
async def test_not_in_this_state(receiver: Receiver, ids: dict[State, int], state: State, why: str) -> None:
    """What is under way or done stays as it is, and the answer says why."""
    before = await receiver.service.database.read(outbox_desk.page, DeliveryFilter(ids=(ids[state],)), limit=1)
    answer = await retry(receiver, ids[state])
    assert (answer.status, answer.json["code"]) == (409, "CONFLICT")
    assert why in answer.json["message"]
    assert before == await receiver.service.database.read(outbox_desk.page, DeliveryFilter(ids=(ids[state],)), limit=1)


async def test_refused_retries(receiver: Receiver, ids: dict[State, int]) -> None:
    """Unknown and impossible ids are 404, parameters 422; a token that may read is told that it may not."""
    for impossible in (10**6, LARGEST_ID, LARGEST_ID + 1, 0, -1, "one", "1.0", "%00", "9" * 4000, "²"):
        answer = await retry(receiver, impossible if isinstance(impossible, int) else impossible.replace("²", "%C2%B2"))
        assert (answer.status, answer.json["code"]) == (404, "NOT_FOUND"), impossible
    headers = [("Authorization", f"Bearer {OPERATOR}")]
    assert (await receiver.ask("POST", f"/v1/deliveries/{ids['dead']}/retry?all=1", headers)).status == 422
    assert (await retry(receiver, ids["dead"], READER)).status == 403
    assert (await retry(receiver, ids["dead"], "nobody")).status == 401
    assert (await receiver.get(f"/v1/deliveries/{ids['dead']}/retry")).status == 405
    assert (await receiver.get("/v1/deliveries", token=None)).status == 401
    [record] = await receiver.service.database.read(outbox_desk.page, DeliveryFilter(ids=(ids["dead"],)), limit=1)
    assert record.state == "dead"


async def test_who_did_it_is_logged(on_sqlite: Receiver, lines: Any) -> None:
    """Under the label of the token."""
    ids = await on_sqlite.service.database.write(in_all_states)
    await retry(on_sqlite, ids["dead"])
    [line] = [line for line in lines if line.get("event") == "delivery.retried"]
    assert (line["delivery"], line["sink"], line["by"]) == (ids["dead"], "one", "operator")
