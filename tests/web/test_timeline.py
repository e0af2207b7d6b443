"""`GET /v1/verdicts/{evaluation_id}/timeline`."""

import pytest

from receiver.core.timeline import Timeline
from receiver.store.tables import events
from tests.web.receivers import READER, SECOND, Receiver, callback, signed, until
from tests.web.seeds import key, store, verdict


async def test_what_was_received(receiver: Receiver) -> None:
    """Under which secret, by which request, what was odd, how often, and other bytes; and the fetch that is to come."""
    evaluation_id, body = callback(overall_passed="perhaps")
    headers = [signed(body, SECOND), ("Runflow-Request-Id", "req_42")]
    assert (await receiver.post(body, *headers)).status == 202
    assert (await receiver.post(body)).status == 200
    assert (await receiver.post(body + b" ")).status == 200

    async def is_staged() -> bool:
        return not any(row.waiting for row in await receiver.rows(events))

    await until(is_staged, "the stage")
    answer = await receiver.get(f"/v1/verdicts/{evaluation_id}/timeline")
    assert answer.status == 200
    items = answer.json["items"]
    assert [item["what"] for item in items if item["what"] != "fetch_due"] == ["received", "repeated", "other_bytes"]
    assert items[0] == {
        "at": items[0]["at"], "what": "received", "event": "evaluation.completed", "origin": "callback",
        "secret_label": "green", "request_id": "req_42", "oddities": ["overall_passed is not readable"], "waiting": False,
    }  # fmt: skip
    assert items[1]["repeats"] == 2
    assert Timeline.model_validate(answer.json).complete


async def test_released(receiver: Receiver) -> None:
    """A result that was released says so, with what it said."""
    await store(receiver, verdict(1, overall_passed=False))
    [item] = (await receiver.get(f"/v1/verdicts/{key(1)}/timeline")).json["items"][1:]
    assert (item["what"], item["revision"], item["overall_passed"], item["sinks"]) == ("released", 1, False, [])


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        (f"/v1/verdicts/{key(9)}/timeline", 404, "NOT_FOUND"),
        ("/v1/verdicts/one/timeline", 404, "NOT_FOUND"),
        (f"/v1/verdicts/{key(1)}/timeline?embed=run", 422, "VALIDATION_ERROR"),
        (f"/v1/verdicts/{key(1)}/timeline/", 404, "NOT_FOUND"),
    ],
)
async def test_refused(on_sqlite: Receiver, target: str, status: int, code: str) -> None:
    """What is not there, and what is asked wrongly."""
    answer = await on_sqlite.get(target)
    assert (answer.status, answer.json["code"]) == (status, code)


async def test_not_for_everybody(on_sqlite: Receiver) -> None:
    """Without a token there is nothing, known or not; another method is not served."""
    await store(on_sqlite, verdict(1))
    for evaluation_id in (key(1), key(2)):
        assert (await on_sqlite.get(f"/v1/verdicts/{evaluation_id}/timeline", token="wrong")).status == 401
    answer = await on_sqlite.ask("POST", f"/v1/verdicts/{key(1)}/timeline", [("Authorization", f"Bearer {READER}")])
    assert answer.status == 405
