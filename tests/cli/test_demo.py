"""`receiver demo`: the whole flow with nothing but this package, whatever the caller's environment."""

import gc
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from receiver.cli import demo as demo_module
from tests.cli.installation import Installation, Process, Result, until

LINE = re.compile(r"  (passed|FAILED|no verdict|[a-z_]+_failed|invalid_media|timed_out) .*\S")
SUMMARY = "20 of 20 verdicts went all the way: signed callback, stored once, tree fetched, forwarded."


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    """A process that serves keeps the collector from what is there at its start; this one goes on."""
    yield
    gc.unfreeze()


@pytest.fixture
def hostile(here: Installation) -> Installation:
    """A caller whose settings would break anything that reads them."""
    here.environ = {
        "RUNFLOW_WEBHOOK_SECRET": "", "RUNFLOW_API_URL": "nonsense", "DATABASE_URL": "nonsense", "RECEIVER_PORT": "-1",
        "RECEIVER_CONFIG": "none.toml", "RECEIVER_LOG_LEVEL": "loud", "RECEIVER_API_TOKENS": ",", "RECEIVER_HOST": "?",
        "RUNFLOW_API_KEY_FILE": "/none", "SLACK_WEBHOOK_URL": "nonsense", "HTTP_PROXY": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1", "NO_PROXY": "",
    }  # fmt: skip
    here.configure("this is no TOML")
    return here


def verdict_lines(out: str) -> list[str]:
    return [line for line in out.splitlines() if LINE.fullmatch(line)]


def is_whole(said: Result) -> bool:
    """Whether 20 verdicts were shown, and that this was all of them."""
    return said.status == 0 and len(verdict_lines(said.out)) == 20 and SUMMARY in said.out.splitlines()


def test_the_demo(here: Installation) -> None:
    """20 verdicts must be shown as they arrive, then the sum, with status 0 and nothing on standard error."""
    said = here.run("demo")
    assert (is_whole(said), said.err) == (True, "")
    head = said.out.splitlines()[:3]
    assert re.fullmatch(r"offline Runflow   http://127\.0\.0\.1:\d+", head[0])
    assert re.fullmatch(r"receiver          http://127\.0\.0\.1:\d+/webhook/runflow", head[1])
    assert re.fullmatch(r"submitted         20 images; their verdicts, as they arrive in (\S+):", head[2])
    assert "`receiver demo --keep` stays up" in said.out


def test_what_it_leaves_behind(here: Installation) -> None:
    """Nothing: neither in the caller's folder nor where it worked."""
    before = sorted(path.name for path in here.folder.iterdir())
    said = here.run("demo")
    worked = Path(re.findall(r"arrive in (\S+):", said.out)[0]).parent
    assert (worked.exists(), sorted(path.name for path in here.folder.iterdir())) == (False, before)


def test_blind_to_the_caller(hostile: Installation) -> None:
    """Neither the environment nor a `receiver.toml` of the caller may have an effect on it."""
    with hostile.process("demo") as process:
        ended = process.ended()
    assert (is_whole(ended), ended.err) == (True, "")


def curl_line(process: Process) -> str:
    """The command that it prints for people to try."""

    def printed() -> list[str]:
        assert process.is_running, process.err
        return re.findall(r"^  (curl .+)$", process.out, re.MULTILINE)

    return until(printed, "a line to run")[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_keep(hostile: Installation, number: signal.Signals) -> None:
    """`--keep` must stay up, print a line that works as it stands, and end with status 0 at a signal, or with its terminal."""
    with hostile.process("demo", "--keep") as process:
        line = curl_line(process)
        answer = subprocess.run(["sh", "-c", line], capture_output=True, check=True, env={"PATH": os.environ["PATH"]})
        items = orjson.loads(answer.stdout)["items"]
        assert 1 <= len(items) <= 3
        assert {item["overall_passed"] for item in items} == {False}
        assert shlex.split(line)[0] == "curl"
        process.send(number)
        ended = process.ended()
    assert (is_whole(ended), ended.err) == (True, "")


def test_keep_in_this_process(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, told to stop as soon as it has said where to look."""
    say = demo_module._say_where_to_look

    def say_and_stop(address: str, token: str, *, keep: bool) -> None:
        say(address, token, keep=keep)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(demo_module, "_say_where_to_look", say_and_stop)
    said = here.run("demo", "--keep")
    assert is_whole(said)
    assert "Still up; Ctrl-C ends it." in said.out


def test_verdicts_that_do_not_come(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """If something is wrong the demo must say how far it came, with status 1."""
    monkeypatch.setattr(demo_module, "LONGEST", 0.0)
    said = here.run("demo")
    assert (said.status, said.told) == (1, ["the others did not come within 0 s"])
    assert re.search(r"^\d+ of 20 verdicts went all the way", said.out, re.MULTILINE)


def test_an_impatient_caller(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before the end is heard."""

    def lines_of(_: Path) -> list[bytes]:
        os.kill(os.getpid(), signal.SIGINT)
        return []

    monkeypatch.setattr(demo_module, "_lines_of", lines_of)
    said = here.run("demo")
    assert (said.status, said.told) == (1, ["interrupted"])
