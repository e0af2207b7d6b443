"""`POST /webhook/runflow`: every row of the table of answers, what is stored for it, and the order in which it is decided."""

import json
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

import pytest

from receiver.core.signature import Secret
from receiver.store.tables import events, fetches, other_bodies, set_aside, verdicts
from receiver.web.hook import PATH
from tests.web.logged import Lines
from tests.web.receivers import FIRST, SECOND, Receiver, callback, matches, signed, until
from tests.web.wire import Answer, Header

KEY = "0193a5c0-1111-7222-8333-944444444444"
UNAUTHORIZED = {
    "code": "UNAUTHORIZED",
    "message": "Runflow-Signature is missing, malformed, repeated or not made with a secret known here",
    "errors": None,
}
INTAKE = (events, other_bodies, set_aside)


def event_body(**fields: object) -> bytes:
    return json.dumps({"event": "evaluation.completed", "evaluation_id": KEY, **fields}).encode()


def is_unauthorized(answer: Answer) -> bool:
    return (answer.status, answer.json) == (401, UNAUTHORIZED)


async def test_a_new_callback(receiver: Receiver) -> None:
    """A genuine callback must be stored byte for byte, with the label of its secret and its request id, and answered 202."""
    key, body = callback()
    before = datetime.now(UTC)
    answer = await receiver.post(body, signed(body, SECOND), ("Runflow-Request-Id", "req_1"))
    assert (answer.status, answer.body) == (202, b'{"result":"accepted","evaluation_id":"%s"}' % str(key).encode())
    assert answer.all("content-type") == ["application/json"]
    [row] = await receiver.rows(events)
    assert matches(
        row._asdict(), evaluation_id=key, event="evaluation.completed", body=body, origin="callback", repeats=0,
        secret_label="green", request_id="req_1", last_repeat_at=None,
    )  # fmt: skip
    assert abs((row.received_at - before).total_seconds()) < 3600


async def test_the_same_callback_again(receiver: Receiver) -> None:
    """A repeat must be answered 200 and counted on its row, whichever secret signed it."""
    key, body = callback()
    await receiver.post(body)
    for secret in (FIRST, SECOND):
        answer = await receiver.post(body, signed(body, secret))
        assert (answer.status, answer.body) == (
            200,
            b'{"result":"duplicate","evaluation_id":"%s"}' % str(key).encode(),
        )
    [row] = await receiver.rows(events)
    assert row.repeats == 2
    assert row.last_repeat_at >= row.received_at
    assert await receiver.count(other_bodies) == 0


async def test_the_same_event_in_other_bytes(receiver: Receiver) -> None:
    """Other bytes than before must be kept, once each, the first stay as they are, and the evaluation is fetched again."""
    key, body = callback()
    await receiver.post(body)

    async def asked() -> list[int]:
        return [row.asked for row in await receiver.rows(fetches)]

    async def is_asked_for() -> bool:
        return await asked() == [1]

    async def is_asked_for_again() -> bool:
        return await asked() == [2]

    await until(is_asked_for, "a fetch")
    for _ in range(2):
        answer = await receiver.post(body + b"\n")
        assert (answer.status, answer.json["result"]) == (200, "duplicate")
    await until(is_asked_for_again, "another fetch")
    [row] = await receiver.rows(events)
    assert (row.body, row.repeats) == (body, 2)
    [other] = await receiver.rows(other_bodies)
    assert matches(other._asdict(), evaluation_id=key, event="evaluation.completed", body=body + b"\n")
    assert other.sha256 == sha256(body + b"\n").digest()


async def test_both_events_of_one_evaluation(receiver: Receiver) -> None:
    """`completed` and `failed` for one evaluation are two events, each new, of one verdict."""
    key, completed = callback()
    _, failed = callback("evaluation.failed", key)
    assert [(await receiver.post(body)).status for body in (completed, failed)] == [202, 202]
    assert {row.event for row in await receiver.rows(events)} == {"evaluation.completed", "evaluation.failed"}

    async def both_seen_to() -> bool:
        return [row.waiting for row in await receiver.rows(events)] == [False, False]

    await until(both_seen_to, "both events staged")
    assert [row.evaluation_id for row in await receiver.rows(verdicts)] == [key]


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ("run.succeeded", "run.succeeded"),
        ("batch.completed", "batch.completed"),
        ("evaluation.superseded", "evaluation.superseded"),
        ("", ""),
        ("é\u2028\u0000\ud83d", "é\u2028\ufffd\ufffd"),
        ("x" * 3000, "x" * 3000),
    ],
)
async def test_another_kind_of_event(receiver: Receiver, event: str, told: str) -> None:
    """A genuine event of another kind must be kept byte for byte, its repeats counted, and answered 200 with its name."""
    body = json.dumps({"event": event, "evaluation_id": KEY, "run_id": KEY}).encode()
    for _ in range(2):
        answer = await receiver.post(body)
        assert (answer.status, answer.json) == (200, {"result": "ignored", "event": told})
    [row] = await receiver.rows(set_aside)
    assert matches(
        row._asdict(), sha256=sha256(body).digest(), kind="ignored", state="kept", event=told[:255], why=None,
        body=body, repeats=1, secret_label="blue",
    )  # fmt: skip
    assert await receiver.count(events) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\xff\xfe not JSON",
        b'{"event": "evaluation.completed"',
        b'["evaluation.completed"]',
        b'"evaluation.completed"',
        b"null",
        b"{}",
        event_body(event=None),
        event_body(event=["evaluation.completed"]),
        event_body(evaluation_id=None),
        event_body(evaluation_id=""),
        event_body(evaluation_id=17),
        event_body(evaluation_id=f"{{{KEY}}}"),
        event_body(evaluation_id=KEY.replace("-", "")),
        event_body(evaluation_id=KEY + " "),
        event_body(event="evaluation.superseded", evaluation_id="none"),
        b"[" * 100_000,
        b'{"event": "evaluation.completed", "evaluation_id": "\xff"}',
    ],
    ids=range(18),
)
async def test_a_body_that_is_not_understood(on_sqlite: Receiver, body: bytes) -> None:
    """A genuine body that cannot be read as an event must be quarantined byte for byte, counted, and told to ops."""
    for _ in range(2):
        answer = await on_sqlite.post(body)
        assert (answer.status, answer.body) == (202, b'{"result":"quarantined"}')
    [row] = await on_sqlite.rows(set_aside)
    assert matches(row._asdict(), kind="quarantined", state="kept", event=None, body=body, repeats=1)
    assert row.why
    assert await on_sqlite.count(events) == 0


async def test_what_ops_are_told(receiver: Receiver, lines: Lines) -> None:
    """A quarantined body must be an error in the log that says why and what to do; its content stays out of it."""
    await receiver.post(b'{"event": 5, "client_ref": "not for the log"}')
    [line] = lines.of("callback.quarantined")
    assert matches(line, level="error", why="no string `event`", remedy="receiver quarantine list")
    assert "not for the log" not in lines.text


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + event_body(),
        b" \t\r\n " + event_body() + b" \n\n",
        event_body().replace(b"{", b"{\r\n\t"),
        event_body().replace(b"completed", b"compl\\u0065ted", 1),
        event_body(client_ref="\ud83d half a pair", note="\u0000"),
        event_body(extra={"deep": [[[]]]}, completed_at=5, overall_passed="perhaps", weighted_pass_rate=1e400),
        event_body(status="failed", client_ref=["no", "text"], top_issues="none"),
        event_body().replace(KEY.encode(), KEY.upper().encode()),
        b'{"event": "run.succeeded", "event": "evaluation.completed", "evaluation_id": "%s"}' % KEY.encode(),
    ],
    ids=["bom", "outside", "inside", "escape", "surrogate", "types", "status", "upper case", "twice"],
)
async def test_odd_ways_to_write_an_event(receiver: Receiver, body: bytes) -> None:
    """The signature is over the bytes as they came; odd space, escapes and fields are no reason to hold an event back."""
    answer = await receiver.post(body)
    assert (answer.status, answer.json) == (202, {"result": "accepted", "evaluation_id": KEY})
    [row] = await receiver.rows(events)
    assert (row.evaluation_id, row.event, row.body) == (UUID(KEY), "evaluation.completed", body)

    async def is_staged() -> bool:
        return await receiver.count(verdicts) == 1

    await until(is_staged, "a verdict")


async def test_a_sample(receiver: Receiver) -> None:
    """An id that starts with 00000000- marks a sample, which must be stored as one."""
    key, body = callback(evaluation_id="00000000-1111-7222-8333-944444444444")
    assert (await receiver.post(body)).status == 202
    assert [(row.evaluation_id, row.origin) for row in await receiver.rows(events)] == [(key, "sample")]


def bad_signatures(body: bytes) -> dict[str, list[Header]]:
    good = Secret(FIRST).sign(body)
    name = "Runflow-Signature"
    return {
        "none": [],
        "empty": [(name, "")],
        "of another secret": [(name, Secret("whsec_of_nobody").sign(body))],
        "of another body": [(name, Secret(FIRST).sign(body + b" "))],
        "upper case": [(name, good.upper())],
        "sha256=": [(name, f"sha256={good}")],
        "quoted": [(name, f'"{good}"')],
        "short": [(name, good[:-1])],
        "long": [(name, good + "0")],
        "not hex": [(name, good[:-1] + "g")],
        "not ASCII": [(name, good[:-1] + "\xe9")],
        "twice": [(name, good), (name, good)],
        "good and bad": [(name, good), (name, "0" * 64)],
        "two in one": [(name, f"{good}, {good}")],
        "another header": [("X-Runflow-Signature", good)],
    }


@pytest.mark.parametrize("case", bad_signatures(b""))
async def test_a_bad_signature(on_sqlite: Receiver, case: str) -> None:
    """Whatever is wrong with a signature, the answer is the same 401, nothing is stored, and it is counted."""
    _, body = callback()
    answer = await on_sqlite.post(body, ("X-Any", "thing"), *bad_signatures(body)[case])
    assert is_unauthorized(answer)
    assert answer.all("www-authenticate") == ["Runflow-Signature"]
    assert await on_sqlite.count(*INTAKE) == 0
    assert on_sqlite.service._hook.turned_away == {"Unauthorized": 1}


async def test_the_case_of_a_headers_name(on_sqlite: Receiver) -> None:
    """Names of headers have no case, so the signature's may come in any."""
    _, body = callback()
    name, value = signed(body)
    assert (await on_sqlite.post(body, (name.upper(), value))).status == 202


async def test_a_bad_signature_is_logged_without_it(on_sqlite: Receiver, lines: Lines) -> None:
    """A flood of bad signatures must not fill the log: one line a second tells the counts, and nothing of the signatures."""
    _, body = callback()
    for _ in range(20):
        await on_sqlite.post(body, ("Runflow-Signature", "ab" * 32))
    told = lines.of("callback.turned_away")
    assert told[0]["turned_away"] == {"Unauthorized": 1}
    assert len(told) < 20 or len(told) == len({line["timestamp"][:19] for line in told})
    assert on_sqlite.service._hook.turned_away == {"Unauthorized": 20}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH", "TRACE"])
async def test_another_method(on_sqlite: Receiver, method: str) -> None:
    """Only POST is served; the answer to any other names it, stores nothing, and has no body where the method has none."""
    _, body = callback()
    answer = await on_sqlite.ask(method, PATH, [signed(body)], body)
    assert (answer.status, answer.all("allow")) == (405, ["POST"])
    error = {"code": "METHOD_NOT_ALLOWED", "message": "only POST is served here", "errors": None}
    assert answer.body == b"" if method == "HEAD" else answer.json == error
    assert await on_sqlite.count(*INTAKE) == 0


async def test_the_order_of_checks(on_sqlite: Receiver) -> None:
    """Method before size, size before signature, signature before body."""
    too_large, garbage, bad = b"x" * (1024 * 1024 + 1), b"no JSON", ("Runflow-Signature", "bad")
    assert (await on_sqlite.ask("PUT", PATH, [bad], too_large)).status == 405
    assert (await on_sqlite.ask("POST", PATH, [bad], too_large)).status == 413
    assert (await on_sqlite.ask("POST", PATH, [signed(too_large)], too_large)).status == 413
    assert (await on_sqlite.ask("POST", PATH, [bad], garbage)).status == 401
    assert (await on_sqlite.ask("POST", PATH, [signed(garbage)], garbage)).json == {"result": "quarantined"}
    assert await on_sqlite.count(*INTAKE) == 1


async def test_headers_that_do_not_matter(on_sqlite: Receiver) -> None:
    """Content type, encoding, query and credentials are nobody's business: the bytes and their signature decide."""
    _, body = callback()
    odd = [
        ("Content-Type", "text/plain"),
        ("Content-Encoding", "gzip"),
        ("Authorization", "Basic x"),
        ("Cookie", "a=b"),
    ]
    answer = await on_sqlite.ask("POST", f"{PATH}?source=1", [signed(body), *odd], body)
    assert answer.status == 202


async def test_a_request_id_of_any_kind(receiver: Receiver) -> None:
    """A request id is cut to 200 characters and never keeps a callback from being stored."""
    _, body = callback()
    answer = await receiver.post(body, signed(body), ("Runflow-Request-Id", "\xe9" + "x" * 10_000))
    assert answer.status == 202
    assert [row.request_id for row in await receiver.rows(events)] == ["\xe9" + "x" * 199]
