"""`receiver send`: sample callbacks, and where their verdicts go."""

from collections.abc import Iterator
from uuid import uuid4

import orjson
import pytest

from receiver.core.signature import Secret
from receiver.store.tables import deliveries, events
from receiver.web.hook import PATH
from tests.cli.installation import API_KEY, SECRET, Installation, beside, until
from tests.sinks.servers import Connection, Request, WebServer, nobody_listens, response
from tests.store.places import rows
from tests.web.receivers import serving, settings_for

SIGNING = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@pytest.fixture
def running(here: Installation) -> Iterator[str]:
    """Where a receiver takes callbacks that stores into this installation's database and forwards to a file and a shop."""
    with nobody_listens() as port:
        toml = f"""
            [[sinks]]
            name = "lines"
            type = "file"
            path = "{here.folder}/verdicts.ndjson"
            [[sinks]]
            name = "shop"
            type = "http"
            url = "http://127.0.0.1:{port}/"
            secret = "{SIGNING}"
        """
        more = {"RUNFLOW_WEBHOOK_SECRET": SECRET, "RUNFLOW_API_KEY": API_KEY}
        settings = settings_for(here.url, here.folder, toml, **more)
        with beside(serving(settings, runs_pipeline=True)) as receiver:
            yield f"http://127.0.0.1:{receiver.port}{PATH}"


@pytest.fixture
def collecting() -> Iterator[WebServer]:
    """Takes whatever is posted."""
    with beside(WebServer()) as server:
        yield server


def forwarded(here: Installation, count: int) -> list[dict[str, object]]:
    """The verdicts in the file, once there are so many."""
    path = here.folder / "verdicts.ndjson"

    def lines() -> list[bytes]:
        return path.read_bytes().splitlines() if path.exists() else []

    until(lambda: len(lines()) >= count, "forwarded verdicts")
    return [orjson.loads(line)["data"] for line in lines()]


def test_one_sample(here: Installation, running: str) -> None:
    """A sample must be taken, reach the file and no other sink, and be marked as a sample all the way."""
    said = here.run("send", "--to", running)
    assert (said.status, said.told) == (0, [])
    status, _, answer = said.out.partition(" ")
    evaluation_id = orjson.loads(answer)["evaluation_id"]
    assert (status, orjson.loads(answer)["result"], evaluation_id[:9]) == ("202", "accepted", "00000000-")
    [verdict] = forwarded(here, 1)
    assert (verdict["evaluation_id"], verdict["origin"], verdict["event"]) == (
        evaluation_id,
        "sample",
        "evaluation.completed",
    )
    assert (verdict["tree"], verdict["tree_reason"], verdict["overall_passed"]) == ("unavailable", "sample", False)
    assert here.write(rows, deliveries, "sink") == [("lines",)]
    assert here.write(rows, events, "origin") == [("sample",)]


def test_a_failed_sample(here: Installation, running: str) -> None:
    """`failed` is the other event, with a failure code and no verdict."""
    assert here.run("send", "failed", "--to", running).status == 0
    [verdict] = forwarded(here, 1)
    assert (verdict["status"], verdict["failure_code"], verdict["overall_passed"]) == ("failed", "timed_out", None)


def test_several_samples(here: Installation, running: str) -> None:
    """`--count` sends so many, each with an id of its own."""
    said = here.run("send", "--count", "7", "--to", running)
    assert (said.status, len(said.lines)) == (0, 7)
    assert len({verdict["evaluation_id"] for verdict in forwarded(here, 7)}) == 7


def test_an_id_of_ones_own(here: Installation, running: str) -> None:
    """With `--evaluation-id` the same event can be sent twice; an id that is no sample's makes no sample."""
    key = uuid4()
    first, second = [here.run("send", "--evaluation-id", key, "--to", running) for _ in range(2)]
    assert first.out == f'202 {{"result":"accepted","evaluation_id":"{key}"}}\n'
    assert second.out == f'200 {{"result":"duplicate","evaluation_id":"{key}"}}\n'
    assert (first.status, second.status) == (0, 0)
    assert here.write(rows, events, "evaluation_id", "origin", "repeats") == [(key, "callback", 1)]


def test_a_body_of_ones_own(here: Installation, running: str) -> None:
    """`--body` sends a file's bytes as they are, signed."""
    body = b'\xef\xbb\xbf {"event": "run.succeeded"}\n'
    (here.folder / "body").write_bytes(body)
    said = here.run("send", "--body", "body", "--to", running)
    assert (said.status, said.out) == (0, '200 {"result":"ignored","event":"run.succeeded"}\n')


def test_what_is_sent(here: Installation, collecting: WebServer) -> None:
    """A sample is signed with the first secret and has Runflow's headers and fields."""
    other = "whsec_the_second"
    here.run("send", "--to", f"{collecting.url}?a=b", RUNFLOW_WEBHOOK_SECRET=f"blue={SECRET},{other}")
    [request] = collecting.requests
    assert request.target == "/hook?a=b"
    assert request.headers["runflow-signature"] == Secret(SECRET).sign(request.body)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["runflow-request-id"].startswith("req_")
    assert set(orjson.loads(request.body)) == {
        "event", "evaluation_id", "status", "client_ref", "run_id", "overall_passed", "weighted_pass_rate", "top_issues",
        "top_strengths", "primary_action_code", "failure_code", "completed_at",
    }  # fmt: skip


def test_as_json(here: Installation, running: str) -> None:
    """`--json` is one list, an object for each post."""
    said = here.run("send", "--json", "--count", "2", "--to", running)
    assert said.status == 0
    assert [post["status"] for post in said.json] == [202, 202]
    assert all(orjson.loads(post["answer"])["result"] == "accepted" for post in said.json)


@pytest.mark.parametrize("how", [[], ["--json"]], ids=["plain", "json"])
def test_a_port_where_nobody_listens(here: Installation, how: list[str]) -> None:
    """No answer must be told as such, with status 1."""
    with nobody_listens() as port:
        said = here.run("send", *how, "--count", "2", "--to", f"http://127.0.0.1:{port}{PATH}")
    assert (said.status, said.err) == (1, "2 of 2 not taken\n")
    if how:
        assert said.json == [{"status": None, "answer": "cannot connect"}] * 2
    else:
        assert said.lines == ["no answer: cannot connect"] * 2


def test_an_answer_that_is_not_2xx(here: Installation, running: str) -> None:
    """Any other answer must be shown, with status 1."""
    said = here.run("send", "--to", running, RUNFLOW_WEBHOOK_SECRET="whsec_of_another")
    assert (said.status, said.out[:4], said.told) == (1, "401 ", ["1 of 1 not taken"])
    assert '"code":"UNAUTHORIZED"' in said.out


def test_some_of_several_are_not_taken(here: Installation) -> None:
    """One refusal among many is enough for status 1; redirects are not followed."""
    statuses = iter((204, 307, 200))

    async def behave(_: Request, connection: Connection) -> None:
        await connection.say(response(next(statuses), b"", location="/other"))

    with beside(WebServer(behave)) as server:
        said = here.run("send", "--count", "3", "--to", server.url)
    assert (said.status, said.lines, said.err) == (1, ["204", "307", "200"], "1 of 3 not taken\n")


def test_an_answer_that_would_write_on_the_terminal(here: Installation) -> None:
    """What the other side answers is shown without control characters, and not all of it where it is long."""

    async def behave(_: Request, connection: Connection) -> None:
        await connection.say(response(200, b"\x1b]0;owned\x07\x1b[2J" + b"x" * 5000))

    with beside(WebServer(behave)) as server:
        said = here.run("send", "--to", server.url)
    assert said.out.rstrip("\n").isprintable()
    assert len(said.out) < 1100


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "127.0.0.1:8000",
        "ftp://host/",
        "http://",
        "http://[::1/",
        "http://host:99999/",
        "http://host:port/",
        "file:///x",
    ],
)
def test_what_is_no_address(here: Installation, url: str) -> None:
    """A wrong `--to` is wrong use, told before anything is sent."""
    said = here.run("send", "--to", url)
    assert (said.status, said.out) == (2, "")
    assert "Invalid value for '--to': must be an http:// or https:// address with a host" in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["passed"], ["--count", "0"], ["--count", "100001"], ["--evaluation-id", "1"], ["--body", "none"], ["--body", "."],
        ["--evaluation-id", str(uuid4()), "--count", "2"], ["--evaluation-id", str(uuid4()), "--body", "receiver.db"],
    ],
)  # fmt: skip
def test_wrong_use(here: Installation, arguments: list[str]) -> None:
    """What does not go together, or is none, must be told with status 2."""
    said = here.run("send", "--to", "http://127.0.0.1:9/", *arguments)
    assert (said.status, said.out, said.err[:7]) == (2, "", "Usage: ")


def test_no_secret_to_sign_with(here: Installation) -> None:
    """Without a secret nothing can be signed."""
    del here.environ["RUNFLOW_WEBHOOK_SECRET"]
    said = here.run("send", "--to", "http://127.0.0.1:9/")
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("RUNFLOW_WEBHOOK_SECRET: is missing")
