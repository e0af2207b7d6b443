"""Runflow's endpoints over real HTTP: submit, read, list, feedback, and who may."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from receiver.offline import OfflineRunflow
from receiver.offline.access import CREATE, EDIT, READ

IMAGE = {"generated_image_url": "https://images.example.com/1.png", "task_type": "headshot"}


def assert_refused(answer: httpx.Response, status: int, code: str, *fields: str) -> None:
    """An error in Runflow's envelope that names these fields."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"code", "message", "errors"}
    assert body["code"] == code
    assert body["message"]
    assert [problem["field"] for problem in body["errors"] or []] == list(fields)


async def ids(api: httpx.AsyncClient, **parameters: Any) -> tuple[list[UUID], dict[str, Any]]:
    """The ids on one page of the list, and the page."""
    answer = await api.get("/v1/evaluations", params=parameters)
    assert answer.status_code == 200, answer.text
    page = answer.json()
    return [UUID(item["id"]) for item in page["items"]], page


async def test_submissions_are_taken_and_decided(runflow: OfflineRunflow, api: httpx.AsyncClient) -> None:
    """A submission is answered 202 and pending with what was sent, and decided after a while."""
    sent = {
        **IMAGE,
        "task_description": "a portrait",
        "generation_prompt": "soft light",
        "evaluation_instructions": "be strict",
        "input_attributes": {"aspect_ratio": "1:1"},
        "reference_images": [{"url": "runflow://assets/01a1ef00-87be-711d-ab0d-549b6f03675a", "kind": "face"}],
        "run_id": str(uuid4()),
        "client_ref": "order-1",
        "job_class": "standard",
        "callback_url": "https://hooks.example.com/runflow",
        "a_field_of_tomorrow": 1,
    }
    answer = await api.post("/v1/evaluations", json=sent)
    assert answer.status_code == 202
    pending = answer.json()
    assert pending["status_code"] == "pending"
    assert pending["completed_at"] is None
    assert pending["overall_passed"] is None
    for name in set(sent) - {"reference_images", "job_class", "a_field_of_tomorrow"}:
        assert pending[name] == sent[name]
    assert pending["job_class_code"] == "standard"

    evaluation = runflow.evaluations.get(UUID(pending["id"]))
    await runflow.until(lambda: evaluation.completed_at is not None)
    decided = (await api.get(f"/v1/evaluations/{evaluation.id}")).json()
    assert decided["status_code"] in {"completed", "failed"}
    assert decided["created_at"] == pending["created_at"]
    assert decided["updated_at"] == decided["completed_at"]
    assert decided["completed_at"].endswith("Z")


async def test_an_undecided_evaluation_is_running() -> None:
    """Until it is decided, a read shows it running and its embeds empty."""
    async with (
        OfflineRunflow(secret="whsec_x", decide_delay=3600) as runflow,
        httpx.AsyncClient(base_url=runflow.url, trust_env=False) as client,
    ):
        evaluation_id = runflow.submit()
        tree = (await client.get(f"/v1/evaluations/{evaluation_id}?embed=judges,action")).json()
        assert (tree["status_code"], tree["judges"], tree["action"]) == ("running", [], None)
        with pytest.raises(ValueError, match="not decided"):
            runflow.callback_body(evaluation_id)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"generated_image_url": None}, "generated_image_url"),
        ({"generated_image_url": "http://images.example.com/1.png"}, "generated_image_url"),
        ({"generated_image_url": "https://169.254.169.254/latest"}, "generated_image_url"),
        ({"generated_image_url": "https://localhost/1.png"}, "generated_image_url"),
        ({"generated_image_url": "runflow://assets/not-a-uuid"}, "generated_image_url"),
        ({"task_type": ""}, "task_type"),
        ({"task_type": "x" * 101}, "task_type"),
        ({"task_description": "x" * 4_001}, "task_description"),
        ({"generation_prompt": "x" * 10_001}, "generation_prompt"),
        ({"evaluation_instructions": "x" * 4_001}, "evaluation_instructions"),
        ({"input_attributes": []}, "input_attributes"),
        ({"reference_images": [{"url": "data:image/png;base64,AA"}] * 5}, "reference_images"),
        ({"reference_images": [{"url": "ftp://example.com/1"}]}, "reference_images.0.url"),
        ({"run_id": "run-1"}, "run_id"),
        ({"client_ref": "x" * 256}, "client_ref"),
        ({"job_class": "quick"}, "job_class"),
        ({"callback_url": "http://hooks.example.com/"}, "callback_url"),
        ({"callback_url": "hooks"}, "callback_url"),
        ({"callback_url": "https://hooks.example.com/" + "x" * 2_048}, "callback_url"),
    ],
)
async def test_wrong_submissions_are_refused(api: httpx.AsyncClient, change: dict[str, Any], field: str) -> None:
    """A field outside Runflow's limits is named in a 422."""
    assert_refused(await api.post("/v1/evaluations", json=IMAGE | change), 422, "VALIDATION_ERROR", field)


async def test_bodies_that_are_not_json_are_refused(api: httpx.AsyncClient) -> None:
    """What is not JSON is a 400, what is no object a 422."""
    assert_refused(await api.post("/v1/evaluations", content=b"{"), 400, "BAD_REQUEST")
    assert_refused(await api.post("/v1/evaluations", json=[]), 422, "VALIDATION_ERROR", "")


async def test_an_idempotency_key_makes_one_evaluation(runflow: OfflineRunflow, api: httpx.AsyncClient) -> None:
    """The same body under the same key is one evaluation; another body under it is a conflict; no key is a new one."""
    headers = {"Idempotency-Key": "one"}
    first = await api.post("/v1/evaluations", json=IMAGE, headers=headers)
    again = await api.post("/v1/evaluations", json=IMAGE, headers=headers)
    assert first.json()["id"] == again.json()["id"]
    assert again.status_code == 202
    other = await api.post("/v1/evaluations", json=IMAGE | {"client_ref": "2"}, headers=headers)
    assert_refused(other, 409, "CONFLICT")
    assert (await api.post("/v1/evaluations", json=IMAGE)).json()["id"] != first.json()["id"]
    assert len(runflow.evaluations) == 2


async def test_reads_of_what_is_not_there(api: httpx.AsyncClient) -> None:
    """An unknown id is a 404, no id a 422, an unknown embed a 422 that names it, another address or method has the envelope."""
    assert_refused(await api.get(f"/v1/evaluations/{uuid4()}"), 404, "NOT_FOUND")
    assert_refused(await api.get("/v1/evaluations/one"), 422, "VALIDATION_ERROR", "evaluation_id")
    assert_refused(await api.get(f"/v1/evaluations/{uuid4()}?embed=judges,issues"), 422, "VALIDATION_ERROR", "embed")
    assert_refused(await api.get("/v2"), 404, "NOT_FOUND")
    assert_refused(await api.delete("/v1/evaluations"), 405, "METHOD_NOT_ALLOWED")


async def test_the_list_goes_by_pages(runflow: OfflineRunflow, api: httpx.AsyncClient) -> None:
    """Cursors lead through all evaluations in order, once each, forward and back, also while others arrive."""
    added = [runflow.add() for _ in range(5)]
    newest = added[::-1]

    found, page = await ids(api, limit=2, sort_by="created_at:desc")
    assert found == newest[:2]
    assert page["previous"] is None
    runflow.add()
    found, page = await ids(api, limit=2, pq=page["next"])
    assert found == newest[2:4]
    found, last = await ids(api, limit=2, pq=page["next"])
    assert found == newest[4:]
    assert last["next"] is None
    found, _ = await ids(api, limit=2, pq=last["previous"], from_prev="true")
    assert found == newest[2:4]

    found, page = await ids(api, limit=3, sort_by="created_at:asc")
    assert found == added[:3]
    found, page = await ids(api, limit=3, sort_by="created_at:asc", pq=page["next"])
    assert found[:2] == added[3:]
    assert (await ids(api, limit=3, sort_by="created_at:asc", pq=page["first"]))[0] == added[:3]


async def test_the_empty_list(api: httpx.AsyncClient) -> None:
    """With nothing to list every cursor is null."""
    assert (await ids(api))[1] == {"items": [], "first": None, "next": None, "previous": None}


async def test_the_list_filters(runflow: OfflineRunflow, api: httpx.AsyncClient) -> None:
    """`q` takes Runflow's own form and the plain one, and conditions that must all hold."""
    failed = runflow.add(kind="timed_out", client_ref="order 1")
    passed = runflow.add(kind="passed", client_ref="order 1")
    runflow.add(kind="passed", client_ref="order-2")
    assert (await ids(api, q="client_ref.EQ:'order 1'"))[0] == [passed, failed]
    assert (await ids(api, q="status_code:failed"))[0] == [failed]
    assert (await ids(api, q="status_code:completed AND client_ref.EQ:'order 1'"))[0] == [passed]
    assert (await ids(api, q="client_ref:order-3"))[0] == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit", "0"),
        ("limit", "501"),
        ("limit", "many"),
        ("sort_by", "cost:asc"),
        ("sort_by", "created_at"),
        ("q", "cost>1"),
        ("pq", "!"),
        ("pq", "bm90"),
    ],
)
async def test_wrong_list_parameters_are_refused(api: httpx.AsyncClient, field: str, value: str) -> None:
    """A parameter that the list cannot follow is named in a 422."""
    assert_refused(await api.get("/v1/evaluations", params={field: value}), 422, "VALIDATION_ERROR", field)


async def test_feedback_is_set_and_cleared(runflow: OfflineRunflow, api: httpx.AsyncClient) -> None:
    """Feedback is answered with the whole evaluation, null clears it with its reason, and no callback is sent."""
    url = f"/v1/evaluations/{runflow.add()}/feedback"
    given = (await api.patch(url, json={"is_positive": False, "reason": "not her"})).json()
    assert (given["feedback_is_positive"], given["feedback_reason"]) == (False, "not her")
    cleared = (await api.patch(url, json={"is_positive": None, "reason": "never mind"})).json()
    assert (cleared["feedback_is_positive"], cleared["feedback_reason"]) == (None, None)
    assert datetime.fromisoformat(given["updated_at"]) < datetime.fromisoformat(cleared["updated_at"])
    assert not runflow.callbacks


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "is_positive"),
        ({"is_positive": "yes"}, "is_positive"),
        ({"is_positive": True, "reason": ""}, "reason"),
        ({"is_positive": True, "reason": "x" * 2_001}, "reason"),
    ],
)
async def test_wrong_feedback_is_refused(
    runflow: OfflineRunflow, api: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    """`is_positive` must be there, and a reason must not be empty or too long."""
    answer = await api.patch(f"/v1/evaluations/{runflow.add()}/feedback", json=body)
    assert_refused(answer, 422, "VALIDATION_ERROR", field)


async def test_feedback_on_nothing_is_refused(api: httpx.AsyncClient) -> None:
    """Feedback on an unknown evaluation is a 404."""
    answer = await api.patch(f"/v1/evaluations/{uuid4()}/feedback", json={"is_positive": True})
    assert_refused(answer, 404, "NOT_FOUND")


async def test_the_key_is_checked(runflow: OfflineRunflow, api: httpx.AsyncClient) -> None:
    """All but the health page want the right key; `auth/me` tells what it may do."""
    evaluation_id = runflow.add()
    for authorization in (b"", b"Bearer wrong", "Bearer rf_live_ö".encode(), b"Basic rf_live_offline_tests"):
        headers = {b"Authorization": authorization}
        for path in ("/v1/auth/me", "/v1/evaluations", f"/v1/evaluations/{evaluation_id}"):
            assert_refused(await api.get(path, headers=headers), 401, "UNAUTHORIZED")
        assert (await api.get("/v1/health", headers=headers)).json() == {"status": "ok"}
    me = (await api.get("/v1/auth/me")).json()
    assert me["scopes"] == sorted([READ, CREATE, EDIT])


async def test_scopes_are_checked(runflow: OfflineRunflow, api: httpx.AsyncClient) -> None:
    """A key without a scope is refused what needs it, and nothing else."""
    url = f"/v1/evaluations/{runflow.add()}"
    runflow.access.scopes = frozenset({EDIT})
    assert_refused(await api.get(url), 403, "PERMISSION_DENIED")
    assert_refused(await api.get("/v1/evaluations"), 403, "PERMISSION_DENIED")
    assert_refused(await api.post("/v1/evaluations", json=IMAGE), 403, "PERMISSION_DENIED")
    assert (await api.patch(f"{url}/feedback", json={"is_positive": True})).status_code == 200
    assert (await api.get("/v1/auth/me")).json()["scopes"] == [EDIT]


async def test_requests_are_noted(runflow: OfflineRunflow, api: httpx.AsyncClient) -> None:
    """Each request is on record with its evaluation, its body and its status, and without its key."""
    created = (await api.post("/v1/evaluations", json=IMAGE, headers={"X-Organization-Id": "org-1"})).json()
    await api.get(f"/v1/evaluations/{created['id']}", params={"embed": "judges"})
    await api.get("/v1/evaluations/one")

    post, get, wrong = runflow.requests
    assert (post.method, post.path, post.status) == ("POST", "/v1/evaluations", 202)
    assert b"images.example.com" in post.body
    assert post.headers["x-organization-id"] == "org-1"
    assert "authorization" not in post.headers
    assert str(post.evaluation_id) == str(get.evaluation_id) == created["id"]
    assert (get.status, get.query) == (200, {"embed": "judges"})
    assert (wrong.status, wrong.evaluation_id) == (422, None)


async def test_records_are_bounded() -> None:
    """Only the last requests are kept."""
    async with (
        OfflineRunflow(secret="whsec_x", keep=3) as runflow,
        httpx.AsyncClient(base_url=runflow.url, trust_env=False) as client,
    ):
        for number in range(5):
            await client.get("/v1/evaluations", params={"limit": number + 1})
        assert [request.query["limit"] for request in runflow.requests] == ["3", "4", "5"]


async def test_run_feedback_is_for_people(runflow: OfflineRunflow, api: httpx.AsyncClient) -> None:
    """A person's token sets and clears it, an API key is refused, and a run that is not there has a code of its own."""
    runflow.access.user_token = "rf_user"
    run_id = uuid4()
    evaluation_id = runflow.add(run_id=run_id)
    url, person = f"/v1/runs/{run_id}/feedback", {"Authorization": "Bearer rf_user"}
    assert_refused(await api.patch(url, json={"is_positive": True}), 403, "PERMISSION_DENIED")
    stranger = await api.patch(url, json={"is_positive": True}, headers={"Authorization": "Bearer rf_other"})
    assert_refused(stranger, 401, "UNAUTHORIZED")
    given = (await api.patch(url, json={"is_positive": True, "reason": "good light"}, headers=person)).json()
    assert (given["id"], given["feedback_is_positive"], given["feedback_reason"]) == (str(run_id), True, "good light")
    embedded = (await api.get(f"/v1/evaluations/{evaluation_id}", params={"embed": "run"}, headers=person)).json()
    assert embedded["run"]["feedback_is_positive"] is True
    assert embedded["feedback_is_positive"] is None
    cleared = (await api.patch(url, json={"is_positive": None, "reason": "x"}, headers=person)).json()
    assert (cleared["feedback_is_positive"], cleared["feedback_reason"]) == (None, None)
    missing = await api.patch(f"/v1/runs/{uuid4()}/feedback", json={"is_positive": True}, headers=person)
    assert_refused(missing, 404, "RUN_NOT_FOUND")
    wrong = await api.patch("/v1/runs/one/feedback", json={"is_positive": True}, headers=person)
    assert_refused(wrong, 422, "VALIDATION_ERROR", "run_id")
    assert_refused(await api.patch(url, json={}, headers=person), 422, "VALIDATION_ERROR", "is_positive")
