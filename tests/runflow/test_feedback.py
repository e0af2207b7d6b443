"""Feedback through the client: against the offline Runflow, which checks it, and against answers of all kinds."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import orjson
import pytest

from receiver.core.feedback import Feedback
from receiver.core.fetching import LONGEST
from receiver.errors import FieldProblem, RunflowRefused
from receiver.offline import OfflineRunflow
from receiver.offline.access import READ
from receiver.offline.faults import RateLimited, RequestFault
from receiver.runflow.client import RunflowClient
from tests.runflow.conftest import KEY, PATIENCE, RawServer, http

PERSON = "rf_user_feedback_tests"
ID = UUID("01a1ef00-87be-711d-ab0d-549b6f03675a")
UP = Feedback(is_positive=True)


@pytest.fixture
async def runflow() -> AsyncIterator[OfflineRunflow]:
    """Knows a key and a person."""
    async with OfflineRunflow(secret="whsec_client_tests", api_key=KEY, user_token=PERSON) as running:
        yield running


@pytest.fixture
async def by_key(runflow: OfflineRunflow) -> AsyncIterator[RunflowClient]:
    """A client that holds the key."""
    client = RunflowClient(runflow.url, KEY, timeout=PATIENCE)
    yield client
    await client.close()


@pytest.fixture
async def by_person(runflow: OfflineRunflow) -> AsyncIterator[RunflowClient]:
    """A client that holds the person's token."""
    client = RunflowClient(runflow.url, PERSON, timeout=PATIENCE)
    yield client
    await client.close()


async def refused(client: RunflowClient, evaluation_id: UUID = ID) -> RunflowRefused:
    with pytest.raises(RunflowRefused) as caught:
        await client.give_feedback(evaluation_id, UP)
    return caught.value


async def test_a_thumb_is_given_and_taken_back(runflow: OfflineRunflow, by_key: RunflowClient) -> None:
    """Runflow keeps it with its reason and answers with the whole evaluation; None clears both."""
    evaluation_id = runflow.add()
    given = await by_key.give_feedback(evaluation_id, Feedback(is_positive=False, reason="six fingers"))
    assert (given["id"], given["feedback_is_positive"]) == (str(evaluation_id), False)
    assert given["feedback_reason"] == "six fingers"
    cleared = await by_key.give_feedback(evaluation_id, Feedback(is_positive=None, reason="never mind"))
    assert (cleared["feedback_is_positive"], cleared["feedback_reason"]) == (None, None)
    bodies = [orjson.loads(request.body) for request in runflow.requests]
    assert bodies == [{"is_positive": False, "reason": "six fingers"}, {"is_positive": None}]


async def test_runs_are_for_people(runflow: OfflineRunflow, by_key: RunflowClient, by_person: RunflowClient) -> None:
    """A person's token may say what it thinks of a run, an API key may not; an unknown run is 404 by Runflow's own word."""
    run_id = uuid4()
    runflow.add(run_id=run_id)
    given = await by_person.give_run_feedback(run_id, Feedback(is_positive=True, reason="good light"))
    assert (given["id"], given["feedback_is_positive"], given["feedback_reason"]) == (str(run_id), True, "good light")
    assert (await by_person.give_run_feedback(run_id, Feedback(is_positive=None)))["feedback_is_positive"] is None
    with pytest.raises(RunflowRefused, match=r"^answered 403 PERMISSION_DENIED$"):
        await by_key.give_run_feedback(run_id, UP)
    with pytest.raises(RunflowRefused, match=r"^answered 404 RUN_NOT_FOUND$"):
        await by_person.give_run_feedback(uuid4(), UP)


async def test_refusals_have_their_status(runflow: OfflineRunflow, by_key: RunflowClient) -> None:
    """Unknown, not allowed, another key, too often, no answer."""
    evaluation_id = runflow.add()
    assert (await refused(by_key)).status == 404
    runflow.access.scopes = frozenset({READ})
    assert (await refused(by_key, evaluation_id)).status == 403
    runflow.access.api_key = "another"
    assert (await refused(by_key, evaluation_id)).status == 401
    runflow.access.api_key = None
    runflow.access.scopes = frozenset({"evaluations:edit"})
    runflow.faults.rate_limited = RateLimited(method="PATCH", count=1, retry_after=7)
    limited = await refused(by_key, evaluation_id)
    assert (limited.status, limited.after) == (429, 7)
    runflow.faults.reset = RequestFault(method="PATCH", count=1)
    broken = await refused(by_key, evaluation_id)
    assert (broken.status, broken.after) == (None, None)
    assert (await by_key.give_feedback(evaluation_id, UP))["feedback_is_positive"] is True


@pytest.mark.parametrize(
    ("errors", "problems"),
    [
        ([{"field": "reason", "message": "too long"}], [FieldProblem("reason", "too long")]),
        ([{"field": "a\nb", "message": "c" * 500}], [FieldProblem("a b", "c" * 200)]),
        ([{"field": 7, "message": "x"}, "reason", None, {"message": "x"}], []),
        ({"reason": "too long"}, []),
        (None, []),
        ([{"field": "x", "message": "y"}] * 99, [FieldProblem("x", "y")] * 20),
    ],
)
async def test_the_fields_that_it_names_are_told(
    server: RawServer, client: RunflowClient, errors: object, problems: list[FieldProblem]
) -> None:
    """As far as they are readable; what is in another shape is passed over."""
    body = {"code": "VALIDATION_ERROR", "message": "no", "errors": errors}
    server.answer = http(422, orjson.dumps(body))
    assert (await refused(client)).problems == problems
    server.answer = http(422, orjson.dumps({"error": body}))
    error = await refused(client)
    assert (str(error), error.problems) == ("answered 422 VALIDATION_ERROR", problems)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff", b"[" * 100_000])
async def test_a_good_answer_is_an_object(server: RawServer, client: RunflowClient, body: bytes) -> None:
    """Whether a proxy's page stands for done nobody knows, so it is not taken for it."""
    server.answer = http(200, body)
    error = await refused(client)
    assert (str(error), error.status) == ("answered, but with no JSON object", None)


async def test_a_wait_is_capped_and_a_redirect_not_followed(server: RawServer, client: RunflowClient) -> None:
    """A day is as good as never; the key goes nowhere else."""
    server.answer = http(503, Retry_After="86400")
    assert timedelta(seconds=(await refused(client)).after or 0) == LONGEST
    server.answer = http(307, Location=f"{server.url}/elsewhere")
    assert (await refused(client)).status == 307
    assert all("/elsewhere" not in request.partition("\r\n")[0] for request in server.requests)
