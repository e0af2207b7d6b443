"""Callbacks over real HTTP: what is sent, the schedule, and each fault of sending."""

import json
import socket
from collections import deque
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from receiver.core.signature import Keyring, Secret
from receiver.offline import OfflineRunflow
from receiver.offline.faults import Delayed, Fault, Reordered
from receiver.offline.listener import Listener

KEYRING = Keyring([Secret("whsec_offline_tests", "ours")])


class Inbox:
    """Takes callbacks, answers with the statuses of `script` first and 202 afterwards; None is no answer at all."""

    def __init__(self) -> None:
        self.script: deque[int | None] = deque()
        self.headers: list[httpx.Headers] = []
        self.bodies: list[bytes] = []
        self.app = Starlette(routes=[Route("/webhook/runflow", self._take, methods=["POST"])])
        self.url = ""

    async def _take(self, request: Request) -> Response:
        self.headers.append(httpx.Headers(request.headers.raw))
        self.bodies.append(await request.body())
        status = self.script.popleft() if self.script else 202
        if status is None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
        return PlainTextResponse("noted", status or 500)

    @property
    def ids(self) -> list[str]:
        return [json.loads(body)["evaluation_id"] for body in self.bodies]


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    """A place that callbacks go to."""
    inbox = Inbox()
    listener = Listener(inbox.app)
    await listener.start()
    inbox.url = f"{listener.url}/webhook/runflow"
    yield inbox
    await listener.close()


async def test_a_submission_is_called_back(runflow: OfflineRunflow, api: httpx.AsyncClient, inbox: Inbox) -> None:
    """A submission by HTTP leads to one signed POST of JSON, whose fields agree with the tree."""
    sent = {
        "generated_image_url": "https://images.example.com/1.png",
        "task_type": "headshot",
        "client_ref": "bestellung-ä",
        "callback_url": inbox.url,
    }
    evaluation_id = (await api.post("/v1/evaluations", json=sent)).json()["id"]
    await runflow.answered(1)

    [headers], [body] = inbox.headers, inbox.bodies
    assert KEYRING.label_of_signer(body, [headers["runflow-signature"].encode()]) == "ours"
    assert headers["content-type"] == "application/json"
    assert headers["runflow-request-id"] == runflow.callbacks[0].request_id
    callback, tree = json.loads(body), (await api.get(f"/v1/evaluations/{evaluation_id}")).json()
    assert callback["evaluation_id"] == evaluation_id
    assert callback["status"] == tree["status_code"] == callback["event"].removeprefix("evaluation.")
    for name in ("client_ref", "run_id", "overall_passed", "weighted_pass_rate", "top_issues", "failure_code"):
        assert callback[name] == tree[name]
    assert body == runflow.callback_body(UUID(evaluation_id))
    assert runflow.sign(body) == headers["runflow-signature"]


async def test_retries_until_a_2xx(runflow: OfflineRunflow, inbox: Inbox) -> None:
    """Anything but a 2xx is tried again with the same bytes and signature, and each attempt and answer is on record."""
    inbox.script.extend([500, 401, 302])
    evaluation_id = runflow.submit(callback_url=inbox.url)
    await runflow.answered(1)
    assert len(set(inbox.bodies)) == len({headers["runflow-signature"] for headers in inbox.headers}) == 1
    assert len({headers["runflow-request-id"] for headers in inbox.headers}) == 4
    tried = list(runflow.callbacks)
    assert [sent.status for sent in tried] == [500, 401, 302, 202]
    assert [sent.attempt for sent in tried] == [1, 2, 3, 4]
    assert {sent.evaluation_id for sent in tried} == {evaluation_id}
    assert {sent.answer for sent in tried} == {b"noted"}


async def test_the_schedule_ends(runflow: OfflineRunflow, inbox: Inbox) -> None:
    """After the last wait of the schedule it is given up."""
    inbox.script.extend([503] * 10)
    runflow.submit(callback_url=inbox.url)
    await runflow.until(lambda: runflow.journal.given_up == 1)
    assert [sent.status for sent in runflow.callbacks] == [503] * 4
    assert runflow.journal.accepted == 0


async def test_an_attempt_waits_for_its_time(inbox: Inbox) -> None:
    """What failed is not tried again before its wait is over, and holds up nothing else meanwhile."""
    async with OfflineRunflow(secret="whsec_x", decide_delay=0, retries=(0, 3600), callback_timeout=60) as runflow:
        inbox.script.extend([500, 500])
        failed = runflow.submit(callback_url=inbox.url)
        await runflow.until(lambda: len(runflow.callbacks) == 2)
        others = [runflow.submit(callback_url=inbox.url) for _ in range(5)]
        await runflow.answered(5)
        assert inbox.ids.count(str(failed)) == 2
        assert set(inbox.ids) == {str(failed), *map(str, others)}


async def test_slow_and_absent_receivers(inbox: Inbox) -> None:
    """No answer in time and nobody there are failed attempts like any other."""
    async with OfflineRunflow(secret="whsec_x", decide_delay=0, retries=[0.01] * 20, callback_timeout=0.5) as runflow:
        inbox.script.append(None)
        runflow.submit(callback_url=inbox.url)
        await runflow.answered(1)
        assert (runflow.callbacks[0].status, runflow.callbacks[0].error) == (None, "no answer in time")
        assert runflow.callbacks[-1].is_accepted

        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # nobody listens, and nobody else can take the port
            runflow.submit(callback_url=f"http://127.0.0.1:{taken.getsockname()[1]}/")
            await runflow.until(lambda: runflow.journal.given_up == 1)
        assert (runflow.callbacks[-1].status, runflow.callbacks[-1].error) == (None, "cannot connect")


async def test_nothing_leaves_loopback(runflow: OfflineRunflow) -> None:
    """An address elsewhere is taken, as Runflow takes it, and never called."""
    runflow.submit(callback_url="https://hooks.example.com/runflow")
    await runflow.until(lambda: runflow.journal.given_up == 1)
    assert {sent.error for sent in runflow.callbacks} == {"not on loopback: not sent"}


async def test_announcing_and_not(runflow: OfflineRunflow, inbox: Inbox) -> None:
    """What is only added is not called back until it is announced, each time as a delivery of its own."""
    evaluation_id = runflow.add(callback_url=inbox.url)
    with pytest.raises(ValueError, match="no callback_url"):
        runflow.announce(runflow.add())
    runflow.announce(evaluation_id)
    await runflow.answered(1)
    runflow.announce(evaluation_id, inbox.url + "?again")
    await runflow.answered(2)
    assert inbox.bodies == [runflow.callback_body(evaluation_id)] * 2
    assert [sent.attempt for sent in runflow.callbacks] == [1, 1]
    assert len({sent.delivery for sent in runflow.callbacks}) == 2


async def test_a_new_secret_signs_later_callbacks(runflow: OfflineRunflow, inbox: Inbox) -> None:
    """After a rotation later deliveries are signed with the new secret."""
    runflow.use_secret("whsec_new")
    runflow.submit(callback_url=inbox.url)
    await runflow.answered(1)
    signature = [inbox.headers[0]["runflow-signature"].encode()]
    assert KEYRING.label_of_signer(inbox.bodies[0], signature) is None
    assert Keyring([Secret("whsec_new", "new")]).label_of_signer(inbox.bodies[0], signature) == "new"


async def test_lost_callbacks(runflow: OfflineRunflow, inbox: Inbox) -> None:
    """A lost callback is never tried, though the evaluation is decided; the next one is sent."""
    runflow.faults.callback_lost = Fault(count=1)
    lost = runflow.evaluations.get(runflow.submit(callback_url=inbox.url))
    await runflow.until(lambda: lost.completed_at is not None)
    sent = runflow.submit(callback_url=inbox.url)
    await runflow.answered(1)
    assert inbox.ids == [str(sent)]


async def test_callbacks_sent_twice(runflow: OfflineRunflow, inbox: Inbox) -> None:
    """The same bytes and signature come once more, as another delivery."""
    runflow.faults.callback_twice = Fault(count=1)
    runflow.submit(callback_url=inbox.url)
    await runflow.answered(2)
    assert len(inbox.bodies) == 2
    assert len(set(inbox.bodies)) == 1
    assert len({headers["runflow-signature"] for headers in inbox.headers}) == 1
    assert len({sent.delivery for sent in runflow.callbacks}) == 2


async def test_callbacks_in_other_bytes(runflow: OfflineRunflow, inbox: Inbox) -> None:
    """The same content comes once more in other bytes, well signed."""
    runflow.faults.callback_rewritten = Fault(count=1)
    runflow.submit(callback_url=inbox.url)
    await runflow.answered(2)
    first, second = inbox.bodies
    assert first != second
    assert json.loads(first) == json.loads(second)
    for headers, body in zip(inbox.headers, inbox.bodies, strict=True):
        assert KEYRING.label_of_signer(body, [headers["runflow-signature"].encode()]) == "ours"


async def test_reordered_callbacks(runflow: OfflineRunflow, inbox: Inbox) -> None:
    """So many callbacks are held back and then go out newest first; later ones are not held."""
    runflow.faults.callback_reordered = Reordered(count=3)
    held = [str(runflow.submit(callback_url=inbox.url)) for _ in range(3)]
    await runflow.answered(3)
    assert inbox.ids == held[::-1]
    later = str(runflow.submit(callback_url=inbox.url))
    await runflow.answered(4)
    assert inbox.ids[3:] == [later]


async def test_reordering_that_is_switched_off(runflow: OfflineRunflow, inbox: Inbox) -> None:
    """What is held back when the fault is switched off goes out then."""
    runflow.faults.callback_reordered = reordered = Reordered(count=10)
    held = [str(runflow.submit(callback_url=inbox.url)) for _ in range(2)]
    await runflow.until(lambda: all(runflow.evaluations.get(one).completed_at for one in map(UUID, held)))
    assert reordered.count == 8
    assert inbox.ids == []
    runflow.faults.callback_reordered = None
    await runflow.answered(2)
    assert inbox.ids == held[::-1]


async def test_delayed_callbacks(runflow: OfflineRunflow, inbox: Inbox) -> None:
    """A callback may come late, or so late that those submitted after it are there first."""
    runflow.faults.callback_delayed = Delayed(count=1, seconds=0.01)
    first = runflow.submit(callback_url=inbox.url)
    await runflow.answered(1)
    runflow.faults.callback_delayed = Delayed(count=1, seconds=3600)
    late = runflow.submit(callback_url=inbox.url)
    early = [runflow.submit(callback_url=inbox.url) for _ in range(3)]
    await runflow.answered(4)
    assert str(late) not in inbox.ids
    assert set(inbox.ids) == {str(one) for one in (first, *early)}


async def test_callbacks_over_http(runflow: OfflineRunflow, api: httpx.AsyncClient, inbox: Inbox) -> None:
    """Another process sees each attempt and how it was answered."""
    inbox.script.append(500)
    evaluation_id = runflow.submit(callback_url=inbox.url)
    await runflow.answered(1)
    shown = (await api.get("/offline/callbacks")).json()
    assert (shown["evaluations"], shown["accepted"], shown["given_up"]) == (1, 1, 0)
    first, second = shown["items"]
    assert (first["evaluation_id"], first["attempt"], first["status"]) == (str(evaluation_id), 1, 500)
    assert (second["attempt"], second["status"], second["answer"]) == (2, 202, "noted")
    assert first["body"].encode() == runflow.callback_body(evaluation_id)


async def test_waiting_has_an_end(runflow: OfflineRunflow) -> None:
    """Waiting for what does not come ends with an error that says what did."""
    with pytest.raises(TimeoutError, match="0 accepted"):
        await runflow.answered(1, within=0.01)


async def test_many_at_once(runflow: OfflineRunflow, inbox: Inbox) -> None:
    """A hundred submissions at once are called back once each."""
    sent = {str(runflow.submit(callback_url=inbox.url)) for _ in range(100)}
    await runflow.answered(100)
    assert sorted(inbox.ids) == sorted(sent)


async def test_what_breaks_is_not_kept_quiet() -> None:
    """An error in the background, here an address that is none, is raised when it ends."""
    runflow = OfflineRunflow(secret="whsec_x")
    runflow.announce(runflow.add(), "http://[")
    assert runflow.under_way == 1
    await runflow.until(lambda: runflow.under_way == 0)
    with pytest.raises(ValueError, match="IPv6"):
        await runflow.close()
