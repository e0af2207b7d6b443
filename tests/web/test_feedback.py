"""`PATCH /v1/verdicts/{evaluation_id}/feedback`, handed on to an offline Runflow that checks it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pytest

from receiver.errors import FieldProblem, RunflowRefused
from receiver.offline import OfflineRunflow
from receiver.offline.access import EDIT, READ, SCOPES
from receiver.offline.faults import Garbage, RateLimited, RequestFault, ServerError
from receiver.web.answers import error_answer
from receiver.web.feedback import relayed
from tests.store.places import copied
from tests.web.logged import captured
from tests.web.receivers import API_KEY, OPERATOR, READER, SECRETS, Receiver, serving, settings_for
from tests.web.seeds import key, store, verdict
from tests.web.wire import Answer

JSON = ("Content-Type", "application/json")


class Both(NamedTuple):
    """A receiver, its Runflow, and an evaluation that both know."""

    receiver: Receiver
    runflow: OfflineRunflow
    evaluation_id: UUID
    folder: Path
    url: str

    async def give(self, body: object, evaluation_id: object = None, token: str = OPERATOR) -> Answer:
        """The answer to a thumb."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = [("Authorization", f"Bearer {token}"), JSON]
        target = f"/v1/verdicts/{evaluation_id or self.evaluation_id}/feedback"
        return await self.receiver.ask("PATCH", target, headers, content)

    async def refused(self) -> tuple[int, str]:
        """Status and code of the answer to a good thumb."""
        answer = await self.give({"is_positive": True})
        assert set(answer.json) == {"code", "message", "errors"}
        return answer.status, answer.json["code"]


@pytest.fixture(scope="module")
async def running(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    folder = tmp_path_factory.mktemp("feedback")
    url = f"sqlite:///{copied(migrated_file, folder)}"
    async with (
        OfflineRunflow(secret="whsec_of_the_web_tests", api_key=API_KEY) as runflow,
        serving(settings_for(url, folder, RUNFLOW_API_URL=runflow.url)) as receiver,
    ):
        evaluation_id = runflow.add()
        await store(receiver, verdict(1, evaluation_id=evaluation_id))
        yield Both(receiver, runflow, evaluation_id, folder, url)


@pytest.fixture
def both(running: Both) -> Both:
    """As they are at first."""
    running.runflow.access.api_key = API_KEY
    running.runflow.access.scopes = SCOPES
    for name in ("rate_limited", "server_error", "garbage", "reset", "hanging"):
        setattr(running.runflow.faults, name, None)
    running.runflow.requests.clear()
    return running


async def test_given_and_taken_back(both: Both) -> None:
    """Runflow keeps it and its answer is ours; null takes it back; to say it twice does no harm."""
    thought = {"is_positive": False, "reason": "six fingers"}
    with captured(SECRETS) as lines:
        for _ in range(2):
            answer = await both.give(thought)
            assert answer.status == 200
            assert (answer.json["id"], answer.json["status_code"]) == (str(both.evaluation_id), "completed")
            assert (answer.json["feedback_is_positive"], answer.json["feedback_reason"]) == (False, "six fingers")
    assert [(line["is_positive"], line["by"]) for line in lines if line["event"] == "feedback.given"] == [
        (False, "operator"), (False, "operator"),
    ]  # fmt: skip
    answer = await both.give({"is_positive": None, "reason": "never mind"})
    assert (answer.status, answer.json["feedback_is_positive"], answer.json["feedback_reason"]) == (200, None, None)
    assert json.loads(both.runflow.requests[-1].body) == {"is_positive": None}


@pytest.mark.parametrize(
    ("body", "status", "fields"),
    [
        ({}, 422, ["is_positive"]),
        ({"is_positive": "true"}, 422, ["is_positive"]),
        ({"is_positive": 1}, 422, ["is_positive"]),
        ({"is_positive": True, "reason": ""}, 422, ["reason"]),
        ({"is_positive": True, "reason": "x" * 2001}, 422, ["reason"]),
        ({"is_positive": True, "reason": 7, "colour": "red"}, 422, ["reason", "colour"]),
        ([], 422, ["body"]),
        (b"", 422, ["body"]),
        (b"{", 422, ["body"]),
        (b'{"is_positive":true,"reason":"\\ud800"}', 422, ["body"]),
        (b"\xff", 422, ["body"]),
        (b" " * 70_000, 413, None),
    ],
)
async def test_wrong_bodies(both: Both, body: object, status: int, fields: list[str] | None) -> None:
    """Each wrong field is named, and nothing is handed on."""
    answer = await both.give(body)
    assert answer.status == status
    assert (answer.json["errors"] and [problem["field"] for problem in answer.json["errors"]]) == fields
    assert not both.runflow.requests


async def test_wrong_requests(both: Both) -> None:
    """What is not JSON, no evaluation of here, a sample, a token that may only read, a parameter, another method."""
    target = f"/v1/verdicts/{both.evaluation_id}/feedback"
    operator = ("Authorization", f"Bearer {OPERATOR}")
    good = b'{"is_positive":true}'
    assert (await both.receiver.ask("PATCH", target, [operator], good)).status == 415
    assert (await both.receiver.ask("PATCH", f"{target}?x=1", [operator, JSON], good)).status == 422
    assert (await both.receiver.ask("POST", target, [operator, JSON], good)).status == 405
    assert (await both.give({"is_positive": True}, key(9))).status == 404
    assert (await both.give({"is_positive": True}, "one")).status == 404
    assert (await both.give({"is_positive": True}, token=READER)).status == 403
    assert (await both.give({"is_positive": True}, token="nobody")).status == 401
    sample = UUID("00000000-0000-4000-8000-000000000001")
    await store(both.receiver, verdict(2, evaluation_id=sample, origin="sample"))
    answer = await both.give({"is_positive": True}, sample)
    assert (answer.status, answer.json["code"]) == (409, "CONFLICT")
    assert not both.runflow.requests


async def test_what_runflow_refuses(both: Both) -> None:
    """Each has a status that says who can do something about it; ours is never 401 for the sake of the key."""
    both.runflow.access.api_key = "another"
    assert await both.refused() == (502, "RUNFLOW_REFUSED")
    both.runflow.access.api_key = API_KEY
    both.runflow.access.scopes = frozenset({READ})
    answer = await both.give({"is_positive": True})
    assert (answer.status, answer.json["code"]) == (502, "RUNFLOW_REFUSED")
    assert "RUNFLOW_API_KEY needs the scope evaluations:edit" in answer.json["message"]
    both.runflow.access.scopes = frozenset({EDIT})
    await store(both.receiver, verdict(3))
    answer = await both.give({"is_positive": True}, key(3))
    assert (answer.status, answer.json["code"]) == (404, "NOT_FOUND")
    assert "another organisation's" in answer.json["message"]


async def test_when_runflow_is_in_trouble(both: Both) -> None:
    """Too many requests, 5xx, no answer, no JSON: to be said again, in so many seconds."""
    faults = both.runflow.faults
    faults.rate_limited = RateLimited(method="PATCH", count=1, retry_after=7)
    answer = await both.give({"is_positive": True})
    assert (answer.status, answer.json["code"], answer.all("retry-after")) == (429, "RATE_LIMITED", ["7"])
    faults.server_error = ServerError(method="PATCH", count=1)
    answer = await both.give({"is_positive": True})
    assert (answer.status, answer.json["code"], answer.all("retry-after")) == (504, "RUNFLOW_UNAVAILABLE", ["5"])
    faults.reset = RequestFault(method="PATCH", count=1)
    assert await both.refused() == (504, "RUNFLOW_UNAVAILABLE")
    faults.garbage = Garbage(method="PATCH", count=1)
    assert await both.refused() == (504, "RUNFLOW_UNAVAILABLE")
    assert (await both.give({"is_positive": True})).status == 200


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RunflowRefused("answered 400", 400), 422, "VALIDATION_ERROR"),
        (RunflowRefused("answered 402", 402), 502, "RUNFLOW_REFUSED"),
        (RunflowRefused("answered 408", 408), 504, "RUNFLOW_UNAVAILABLE"),
        (RunflowRefused("answered 409", 409), 409, "CONFLICT"),
        (RunflowRefused("answered 307", 307), 502, "RUNFLOW_REFUSED"),
        (RunflowRefused("answered 503", 503, after=3600), 504, "RUNFLOW_UNAVAILABLE"),
        (RunflowRefused("cannot connect"), 504, "RUNFLOW_UNAVAILABLE"),
    ],
)
def test_other_refusals(error: RunflowRefused, status: int, code: str) -> None:
    """What the offline Runflow does not answer has its meaning, too, and Runflow's own words are in the message."""
    answer = error_answer(relayed(error))
    content = json.loads(bytes(answer.body))
    assert (answer.status_code, content["code"]) == (status, code)
    assert str(error) in content["message"]


def test_the_fields_that_runflow_names() -> None:
    """Are told as ours are."""
    error = RunflowRefused("answered 422", 422, problems=[FieldProblem("reason", "too long")])
    assert json.loads(bytes(error_answer(relayed(error)).body))["errors"] == [
        {"field": "reason", "message": "too long"}
    ]


async def test_the_key_of_now(both: Both) -> None:
    """After a reload the new key is used, also while a request with the old one is under way; without a key that is told."""
    service = both.receiver.service
    both.runflow.faults.hanging = RequestFault(method="PATCH", count=1)
    hanging = asyncio.create_task(both.give({"is_positive": True}))
    await both.runflow.until(lambda: both.runflow.faults.hanging is not None and both.runflow.faults.hanging.count == 0)
    await service.reload(settings_for(both.url, both.folder, RUNFLOW_API_URL=both.runflow.url, RUNFLOW_API_KEY=None))
    answer = await both.give({"is_positive": True})
    assert (answer.status, answer.json["code"]) == (502, "RUNFLOW_REFUSED")
    assert answer.json["message"].startswith("RUNFLOW_API_KEY is not set")
    assert not hanging.done()
    await service.reload(settings_for(both.url, both.folder, RUNFLOW_API_URL=both.runflow.url))
    assert (await both.give({"is_positive": True})).status == 200
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)


async def test_nothing_secret_is_logged(both: Both) -> None:
    """Neither the key nor a token, when it is refused."""
    both.runflow.access.api_key = "another"
    with captured(SECRETS) as lines:
        await both.give({"is_positive": True})
    assert [line["reason"] for line in lines if line["event"] == "feedback.refused"] == ["answered 401 UNAUTHORIZED"]
