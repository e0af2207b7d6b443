"""`receiver check`: a line for each part, and an exit status that says whether one failed."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
import pytest
from redis import Redis

from receiver.core.verdict import Verdict
from receiver.offline import OfflineRunflow
from receiver.sinks.base import Never
from receiver.sinks.file import FileSink
from receiver.store import lanes
from receiver.store.schema import versions
from tests.cli.installation import API_KEY, SECRET, Installation, Result, beside
from tests.sinks.servers import Connection, Request, WebServer, nobody_listens, response
from tests.store.places import migrate, sql
from tests.web.seeds import NOON

SIGNING = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
SETTINGS = ("settings", "ok", "all are well-formed")
CALLBACK_SECRET = ("callback secrets", "ok", "1: blue")
NOT_CHECKED = ("Runflow", "not checked", "evaluations:read of one evaluation, evaluations:edit, evaluations:create")
NO_KEY = ("Runflow", "warning", "no RUNFLOW_API_KEY: verdicts are forwarded without their tree")
NO_SINKS = ("sinks", "warning", "none: verdicts are stored and forwarded nowhere")

Line = tuple[str, str, str]


def lines_of(said: Result) -> list[Line]:
    """Part, result and detail of each line."""
    rest = [(line[:12].strip(), line[12:].partition(": ")) for line in said.lines]
    return [(part, result, detail) for result, (part, _, detail) in rest]


def line_about(said: Result, part: str) -> tuple[str, str]:
    [(result, detail)] = [(result, detail) for name, result, detail in lines_of(said) if name == part]
    return result, detail


class World:
    """All that a check can reach: an offline Runflow, a file, a Redis stream, an HTTP destination, a Slack one."""

    def __init__(self, folder: Path, redis_url: str, stack: ExitStack) -> None:
        self.runflow = stack.enter_context(beside(OfflineRunflow(secret=SECRET, api_key=API_KEY)))
        self.shop = stack.enter_context(beside(WebServer()))
        self.slack = stack.enter_context(beside(WebServer()))
        self.file = folder / "verdicts.ndjson"
        self.redis = stack.enter_context(Redis.from_url(redis_url, decode_responses=True))
        self.stream = f"test:{uuid4()}"
        self.environ = {"RUNFLOW_API_KEY": API_KEY, "RUNFLOW_API_URL": self.runflow.url}
        self.toml = f"""
            [[sinks]]
            name = "lines"
            type = "file"
            path = "{self.file}"
            [[sinks]]
            name = "queue"
            type = "redis"
            url = "{redis_url}"
            stream = "{self.stream}"
            [[sinks]]
            name = "shop"
            type = "http"
            url = "{self.shop.url}"
            secret = "{SIGNING}"
            [[sinks]]
            name = "people"
            type = "slack"
            url = "{self.slack.url}"
        """

    def forget(self) -> None:
        """Takes away what was put into Redis."""
        for key in [self.stream, *self.redis.scan_iter(f"{{{self.stream}}}:*")]:
            self.redis.delete(key)


@pytest.fixture
def world(tmp_path: Path, redis_url: str) -> Iterator[World]:
    with ExitStack() as stack:
        world = World(tmp_path, redis_url, stack)
        yield world
        world.forget()


def test_all_is_well(here: Installation, world: World) -> None:
    """With every part in order each has its line, what cannot be tried is told, the status is 0, and nothing was sent."""
    here.configure(world.toml)
    said = here.run("check", **world.environ)
    assert (said.status, said.err) == (0, "")
    told = lines_of(said)
    assert [result for _, result, _ in told] == ["ok"] * 8 + ["not checked"]
    assert told[:4] == [
        SETTINGS,
        CALLBACK_SECRET,
        ("database", "ok", f"{here.url}, schema {versions()[-1]}"),
        ("Runflow", "ok", f"{world.runflow.url} takes the key"),
    ]
    assert [part for part, _, _ in told[4:8]] == ["sink lines", "sink queue", "sink shop", "sink people"]
    assert told[8] == NOT_CHECKED
    assert (world.file.exists(), world.redis.exists(world.stream)) == (False, 0)
    assert (world.shop.requests, world.slack.requests) == ([], [])


def test_a_test_message(here: Installation, world: World) -> None:
    """`--send-test` must send each sink one message that says in every form what it is."""
    here.configure(world.toml)
    said = here.run("check", "--send-test", **world.environ)
    assert said.status == 0
    for sink in ("lines", "queue", "shop", "people"):
        result, detail = line_about(said, f"sink {sink}")
        assert (result, detail.endswith("; the test message was taken")) == ("ok", True)
    [(_, entry)] = world.redis.xrange(world.stream)
    [posted] = world.shop.requests
    for event in (orjson.loads(world.file.read_bytes()), orjson.loads(entry["event"]), orjson.loads(posted.body)):
        verdict = Verdict.model_validate(event["data"])
        assert (verdict.origin, verdict.client_ref) == ("sample", "receiver check --send-test")
        assert str(verdict.evaluation_id).startswith("00000000-")
        assert verdict.top_issues == ["This is a test of runflow-receiver: no image was judged"]
        assert event["source"] == f"{world.runflow.url}/v1/evaluations"
    [told] = world.slack.requests
    assert b"This is a test of runflow-receiver: no image was judged" in told.body


def test_as_json(here: Installation, world: World) -> None:
    """`--json` is the same lines as objects."""
    here.configure(world.toml)
    plain = lines_of(here.run("check", **world.environ))
    said = here.run("check", "--json", **world.environ)
    assert said.status == 0
    assert [(line["part"], line["result"], line["detail"]) for line in said.json] == plain


def test_nothing_configured(fresh: Installation) -> None:
    """With nothing but a secret all that could be better is a warning, which is no failure."""
    said = fresh.run("check")
    database = ("database", "ok", f"{fresh.url} is not there yet: made at start")
    assert (said.status, lines_of(said)) == (0, [SETTINGS, CALLBACK_SECRET, NO_SINKS, database, NO_KEY])
    assert not (fresh.folder / "receiver.db").exists()


def test_an_empty_file(fresh: Installation) -> None:
    """A file without tables is as good as none."""
    (fresh.folder / "receiver.db").touch()
    assert line_about(fresh.run("check"), "database") == ("ok", f"{fresh.url}, schema none yet: made at start")


def test_a_name_that_is_likely_wrong(here: Installation) -> None:
    """What the settings remark is a warning."""
    said = here.run("check", RECEIVER_PROT="1")
    assert said.status == 0
    assert [detail for part, result, detail in lines_of(said) if (part, result) == ("settings", "warning")] == [
        "RECEIVER_PROT: is not a setting and is passed over; did you mean RECEIVER_PORT?"
    ]


def test_no_callback_secret(here: Installation) -> None:
    """Without a secret `serve` would not start, which is a failure."""
    del here.environ["RUNFLOW_WEBHOOK_SECRET"]
    said = here.run("check")
    told = ("failed", "RUNFLOW_WEBHOOK_SECRET is missing: `serve` would not start")
    assert (said.status, line_about(said, "callback secrets")) == (1, told)


def test_several_secrets(here: Installation) -> None:
    """Secrets are told by their labels."""
    said = here.run("check", RUNFLOW_WEBHOOK_SECRET=f"old={SECRET},whsec_of_no_label")
    assert line_about(said, "callback secrets")[1].startswith("2: old, ")


@pytest.mark.parametrize(
    ("key", "detail"), [("rf_live_of_another", "answered 401 UNAUTHORIZED"), (API_KEY, "cannot connect")]
)
def test_runflow_fails(here: Installation, key: str, detail: str) -> None:
    """A key that is refused, and an API that cannot be reached, must be told and end with status 1."""
    with nobody_listens() as port, beside(OfflineRunflow(secret=SECRET, api_key=API_KEY)) as runflow:
        url = runflow.url if key != API_KEY else f"http://127.0.0.1:{port}"
        said = here.run("check", RUNFLOW_API_KEY=key, RUNFLOW_API_URL=url)
    assert (said.status, next(each[1:] for each in lines_of(said) if each[0] == "Runflow")) == (1, ("failed", detail))


def test_each_sink_fails(here: Installation) -> None:
    """A sink that cannot be reached must be named with the reason, and hold up no other part. No address is shown whole."""
    with nobody_listens() as port:
        here.configure(f"""
            [[sinks]]
            name = "lines"
            type = "file"
            path = "{here.folder}/none/verdicts.ndjson"
            [[sinks]]
            name = "queue"
            type = "redis"
            url = "redis://:{SECRET}@127.0.0.1:{port}/0"
            stream = "s"
            [[sinks]]
            name = "shop"
            type = "http"
            url = "http://127.0.0.1:{port}/{SECRET}"
            secret = "{SIGNING}"
            [[sinks]]
            name = "people"
            type = "slack"
            url = "http://127.0.0.1:{port}/services/{SECRET}"
        """)
        said = here.run("check")
    assert said.status == 1
    failed = {part: detail for part, result, detail in lines_of(said) if result == "failed"}
    assert set(failed) == {"sink lines", "sink queue", "sink shop", "sink people"}
    assert all(failed.values())
    assert line_about(said, "database")[0] == "ok"


def test_a_test_message_that_is_refused(here: Installation) -> None:
    """A sink that can be reached and does not take the message has failed, with what it answered."""

    async def refuse(_: Request, connection: Connection) -> None:
        await connection.say(response(400))

    with beside(WebServer(refuse)) as shop:
        here.configure(f'[[sinks]]\nname = "shop"\ntype = "http"\nurl = "{shop.url}"\nsecret = "{SIGNING}"\n')
        assert here.run("check").status == 0
        said = here.run("check", "--send-test")
    told = ("failed", "the test message: answered 400: it does not take this message")
    assert (said.status, line_about(said, "sink shop")) == (1, told)


def test_a_part_that_does_not_answer(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """No part may hold up the check for ever."""

    async def hang(*_: Any) -> list[Never]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    monkeypatch.setattr("receiver.cli.check.LONGEST", 0.01)
    monkeypatch.setattr(FileSink, "check", hang)
    here.configure(f'[[sinks]]\nname = "lines"\ntype = "file"\npath = "{here.folder}/x"\n')
    said = here.run("check")
    assert (said.status, line_about(said, "sink lines")) == (1, ("failed", "no answer within 0.01 s"))


def test_a_sqlite_file_that_cannot_be(here: Installation) -> None:
    """A database that cannot be made, or is none, has failed."""
    said = here.run("check", DATABASE_URL=f"sqlite:///{here.folder}/none/receiver.db")
    told = f"DATABASE_URL: the folder of {here.folder}/none/receiver.db is not there or cannot be written; name one that can"
    assert (said.status, line_about(said, "database")) == (1, ("failed", told))
    result, detail = line_about(here.run("check", DATABASE_URL=f"sqlite:///{here.folder}"), "database")
    assert (result, "unable to open database file" in detail) == ("failed", True)


def test_what_is_paused(here: Installation, world: World) -> None:
    """A sink and fetches that are paused have a line that says until when and why, and `--json` has the moment."""
    here.configure(world.toml)
    for name in (lanes.FETCH, lanes.sink_lane("shop")):
        here.write(lanes.pause, name, until=NOON, reason="answered 401\x1b[2J", now=NOON)
    said = here.run("check", **world.environ)
    told = "paused until 2026-11-25 12:00:00: answered 401 [2J; then it is tried by itself"
    assert said.status == 0
    assert [line for line in lines_of(said) if line[1] == "warning"] == [
        ("Runflow", "warning", told), ("sink shop", "warning", told),
    ]  # fmt: skip
    moments = [line["paused_until"] for line in here.run("check", "--json", **world.environ).json]
    assert [moment for moment in moments if moment] == ["2026-11-25T12:00:00Z"] * 2


def test_a_database_that_does_not_wait_for_its_disk(on_postgres: Installation) -> None:
    """`synchronous_commit = off` breaks the promise of a 2xx; a role or a database may have it, unknown to the server."""
    migrate(on_postgres.url)

    def warnings() -> list[str]:
        said = on_postgres.run("check")
        assert said.status == 0
        return [detail for part, result, detail in lines_of(said) if (part, result) == ("database", "warning")]

    def set_to(value: str) -> None:
        on_postgres.write(
            sql, f'ALTER DATABASE "{urlsplit(on_postgres.url).path[1:]}" SET synchronous_commit = {value}'
        )

    for value in ("local", "on"):
        set_to(value)
        assert warnings() == []
    set_to("off")
    [told] = warnings()
    assert told.startswith("synchronous_commit is off for this role or database")


def test_postgresql(on_postgres: Installation) -> None:
    """Not migrated is a failure with its remedy, unless it is done at the start; away is one; migrated is well."""
    missing = on_postgres.run("check")
    assert (missing.status, line_about(missing, "database")[0]) == (1, "failed")
    assert "receiver db upgrade" in line_about(missing, "database")[1]
    assert on_postgres.run("check", DATABASE_AUTO_UPGRADE="on").status == 0
    migrate(on_postgres.url)
    assert on_postgres.run("check").status == 0
    with nobody_listens() as port:
        away = on_postgres.run("check", DATABASE_URL=f"postgresql://someone:{SECRET}@127.0.0.1:{port}/x")
    assert (away.status, line_about(away, "database")[0]) == (1, "failed")
    assert "cannot be reached" in line_about(away, "database")[1]
