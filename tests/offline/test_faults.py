"""Each fault of reads over real HTTP, from Python and from another process, and that the end comes promptly."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from receiver.offline import OfflineRunflow
from receiver.offline.faults import (
    EmbedsRefused,
    Fault,
    FirstReads,
    Garbage,
    RateLimited,
    RequestFault,
    ServerError,
    Slow,
)


async def statuses(api: httpx.AsyncClient, url: str, times: int) -> list[int]:
    return [(await api.get(url)).status_code for _ in range(times)]


@pytest.fixture
def url(runflow: OfflineRunflow) -> str:
    """Where a decided evaluation is read."""
    return f"/v1/evaluations/{runflow.add(kind='not_passed')}"


async def test_rate_limits_with_and_without_retry_after(
    runflow: OfflineRunflow, api: httpx.AsyncClient, url: str
) -> None:
    """The next reads are 429, with the header only if asked for."""
    runflow.faults.rate_limited = RateLimited(count=1, retry_after=7)
    answer = await api.get(url)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["code"] == "RATE_LIMITED"
    runflow.faults.rate_limited = RateLimited(count=1)
    answer = await api.get(url)
    assert answer.status_code == 429
    assert "retry-after" not in answer.headers
    assert (await api.get(url)).status_code == 200


async def test_counts_and_switching_off(runflow: OfflineRunflow, api: httpx.AsyncClient, url: str) -> None:
    """A fault with a count hits so often; one without hits until it is switched off."""
    runflow.faults.server_error = ServerError(count=2, status=500)
    assert await statuses(api, url, 3) == [500, 500, 200]
    assert runflow.faults.server_error.count == 0
    runflow.faults.server_error = ServerError()
    assert await statuses(api, url, 3) == [503, 503, 503]
    assert await statuses(api, "/v1/evaluations", 1) == [503]
    assert await statuses(api, "/v1/auth/me", 1) == [200]
    runflow.faults.server_error = None
    assert await statuses(api, url, 1) == [200]


async def test_faults_of_one_evaluation_or_method(runflow: OfflineRunflow, api: httpx.AsyncClient, url: str) -> None:
    """A fault can be bound to an evaluation, and to another method than GET."""
    other = runflow.add()
    runflow.faults.server_error = ServerError(evaluation_id=other)
    assert await statuses(api, url, 1) + await statuses(api, f"/v1/evaluations/{other}", 1) == [200, 503]
    runflow.faults.server_error = ServerError(method="POST", count=1)
    assert await statuses(api, url, 1) == [200]
    image = {"generated_image_url": "data:image/png;base64,AA", "task_type": "headshot"}
    assert (await api.post("/v1/evaluations", json=image)).status_code == 503
    assert (await api.post("/v1/evaluations", json=image)).status_code == 202


async def test_a_revoked_key_works_again(runflow: OfflineRunflow, api: httpx.AsyncClient, url: str) -> None:
    """While it is on every address behind the key answers 401."""
    runflow.faults.key_revoked = Fault()
    assert await statuses(api, url, 1) + await statuses(api, "/v1/auth/me", 1) == [401, 401]
    runflow.faults.key_revoked = None
    assert await statuses(api, url, 1) + await statuses(api, "/v1/auth/me", 1) == [200, 200]


async def test_slow_answers_are_right(runflow: OfflineRunflow, api: httpx.AsyncClient, url: str) -> None:
    """A slow answer is the right one; one that is slower yet is not there while others are served."""
    runflow.faults.slow = Slow(count=1, seconds=0.01)
    assert (await api.get(url)).json()["status_code"] == "completed"
    runflow.faults.slow = slow = Slow(count=1, seconds=3600)
    reading = asyncio.create_task(api.get(url))
    await runflow.until(lambda: slow.count == 0)
    assert await statuses(api, url, 2) == [200, 200]
    assert not reading.done()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def test_resets_break_the_connection(runflow: OfflineRunflow, api: httpx.AsyncClient, url: str) -> None:
    """The client sees a reset, and the next read is well."""
    runflow.faults.reset = RequestFault(count=1)
    with pytest.raises(httpx.ReadError):
        await api.get(url)
    await runflow.until(lambda: len(runflow.requests) == 1)
    assert runflow.requests[0].status is None
    assert await statuses(api, url, 1) == [200]


async def test_hanging_until_the_client_leaves(runflow: OfflineRunflow, api: httpx.AsyncClient, url: str) -> None:
    """No answer comes; when the client gives up, that is on record."""
    runflow.faults.hanging = hanging = RequestFault(count=1)
    reading = asyncio.create_task(api.get(url))
    await runflow.until(lambda: hanging.count == 0)
    assert not reading.done()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await runflow.until(lambda: len(runflow.requests) == 1)
    assert runflow.requests[0].status is None
    assert await statuses(api, url, 1) == [200]


async def test_garbage(runflow: OfflineRunflow, api: httpx.AsyncClient, url: str) -> None:
    """A 200 that is no JSON, or any body that is asked for."""
    runflow.faults.garbage = Garbage(count=1)
    answer = await api.get(url)
    assert answer.status_code == 200
    assert answer.text.startswith("<html>")
    runflow.faults.garbage = Garbage(count=1, body='{"id":')
    assert (await api.get(url)).content == b'{"id":'


@pytest.mark.parametrize("status", [403, 422])
async def test_refused_embeds(runflow: OfflineRunflow, api: httpx.AsyncClient, url: str, status: int) -> None:
    """Wide embeds are refused and narrow ones served, or both are refused; no embed is always served."""
    wide, narrow = f"{url}?embed=judges,run", f"{url}?embed=judges,action,gate_failures"
    runflow.faults.embeds_refused = EmbedsRefused(status=403 if status == 403 else 422)
    assert [*await statuses(api, wide, 1), *await statuses(api, narrow, 1)] == [status, 200]
    runflow.faults.embeds_refused.narrow = True
    assert [*await statuses(api, wide, 1), *await statuses(api, narrow, 1)] == [status, status]
    assert await statuses(api, url, 1) == [200]


async def test_first_reads_find_nothing(runflow: OfflineRunflow, api: httpx.AsyncClient, url: str) -> None:
    """Each evaluation is a 404 for its first reads, independently of the others."""
    runflow.faults.not_found_first = FirstReads(reads=2)
    assert await statuses(api, url, 3) == [404, 404, 200]
    assert await statuses(api, f"/v1/evaluations/{runflow.add()}", 3) == [404, 404, 200]
    runflow.faults.not_found_first = FirstReads(reads=2, count=1)
    assert await statuses(api, url, 2) == [404, 200]


async def test_first_reads_are_not_terminal(runflow: OfflineRunflow, api: httpx.AsyncClient, url: str) -> None:
    """The first reads show the evaluation running, without a verdict."""
    runflow.faults.not_found_first = FirstReads(reads=1)
    runflow.faults.pending_first = FirstReads(reads=2)
    assert await statuses(api, url, 1) == [404]
    trees = [(await api.get(url, params={"embed": "judges"})).json() for _ in range(3)]
    assert [tree["status_code"] for tree in trees] == ["running", "running", "completed"]
    assert [tree["overall_passed"] for tree in trees] == [None, None, False]
    assert [bool(tree["judges"]) for tree in trees] == [False, False, True]


async def test_changed_verdicts(runflow: OfflineRunflow, api: httpx.AsyncClient, url: str) -> None:
    """The read after the one that was hit differs and is newer; the one after that is the same."""
    runflow.faults.changed_verdict = Fault(count=1)
    first, second, third = [(await api.get(url)).json() for _ in range(3)]
    assert (first["overall_passed"], second["overall_passed"]) == (False, True)
    assert first["updated_at"] < second["updated_at"]
    assert second == third


async def test_faults_over_http(runflow: OfflineRunflow, api: httpx.AsyncClient, url: str) -> None:
    """Another process sees and sets the faults as a whole; an empty object switches all off; a wrong one changes nothing."""
    wanted = {
        "rate_limited": {"count": 1, "retry_after": 2},
        "key_revoked": {"count": 0},
        "slow": {"evaluation_id": str(uuid4())},
    }
    answer = await api.put("/offline/faults", json=wanted)
    assert answer.json()["rate_limited"] == {"count": 1, "retry_after": 2, "method": "GET"}
    assert runflow.faults.key_revoked is not None
    assert await statuses(api, url, 2) == [429, 200]
    assert (await api.get("/offline/faults")).json()["rate_limited"]["count"] == 0
    wrong: dict[str, Any]
    for wrong in ({"melted": {}}, {"slow": {"seconds": -1}}, {"server_error": {"status": 200}}):
        refused = await api.put("/offline/faults", json=wrong)
        assert refused.status_code == 422
        assert refused.json()["errors"]
        assert "rate_limited" in (await api.get("/offline/faults")).json()
    assert (await api.put("/offline/faults", json={})).json() == {}
    assert runflow.faults.rate_limited is None


async def test_the_end_does_not_wait_for_anyone(api: httpx.AsyncClient) -> None:
    """Closing breaks what hangs, what is slow and what is to be retried, and leaves nothing behind."""
    async with (
        httpx.AsyncClient(trust_env=False, timeout=30) as client,
        OfflineRunflow(secret="whsec_x", decide_delay=0, retries=(3600,)) as runflow,
    ):
        runflow.faults.slow = slow = Slow(count=1, seconds=3600)
        slow_read = asyncio.create_task(client.get(f"{runflow.url}/v1/evaluations"))
        await runflow.until(lambda: slow.count == 0)
        runflow.faults.hanging = hanging = RequestFault(count=2)
        hung = [asyncio.create_task(client.get(f"{runflow.url}/v1/evaluations/{uuid4()}")) for _ in range(2)]
        await runflow.until(lambda: hanging.count == 0)
        runflow.submit(callback_url=f"{runflow.url}/nowhere")
        await runflow.until(lambda: len(runflow.callbacks) == 1)
    results = await asyncio.gather(slow_read, *hung, return_exceptions=True)
    assert all(isinstance(result, httpx.TransportError) for result in results)
    assert runflow.callbacks[0].status == 404
