"""`receiver quarantine`: bodies that were genuine and not understood, and other kinds of event."""

import re
import subprocess
import sys
from hashlib import sha256
from typing import Literal

import pytest

from receiver.store.intake import OtherArrival, accept
from receiver.store.tables import events, set_aside
from tests.cli.installation import Installation
from tests.store.places import rows
from tests.web.receivers import callback
from tests.web.seeds import NOON

GARBAGE = b"\x00\xff not JSON\x1b[2J\r\n"
OTHER = b'{"event": "run.succeeded"}'


def put(
    here: Installation, body: bytes, kind: Literal["ignored", "quarantined"] = "quarantined", times: int = 1
) -> str:
    """Sets a body aside, as the intake does; returns its id."""
    event, why = ("run.succeeded", None) if kind == "ignored" else (None, "not JSON: by the test")
    arrival = OtherArrival(kind, event, why, body, "blue", "req_1", NOON)
    here.write(lambda conn: [accept(conn, [arrival]) for _ in range(times)])
    return sha256(body).hexdigest()


def states(here: Installation) -> dict[bytes, tuple[str, str]]:
    return {body: (kind, state) for body, kind, state in here.write(rows, set_aside, "body", "kind", "state")}


def test_list(here: Installation) -> None:
    """What was not understood: short id, when, why, size, repeats, request id. Other events have a list of their own."""
    garbage, other = put(here, GARBAGE, times=3), put(here, OTHER, "ignored")
    said = here.run("quarantine", "list")
    assert (said.status, said.err) == (0, "")
    assert said.lines[0].split() == ["id", "received_at", "why", "bytes", "repeats", "request_id"]
    [row] = said.lines[1:]
    assert re.split(r" {2,}", row) == [garbage[:12], "2026-11-25 12:00:00", "not JSON: by the test", "17", "2", "req_1"]
    ignored = here.run("quarantine", "list", "--ignored")
    assert [line.split()[0] for line in ignored.lines[1:]] == [other[:12]]
    assert "run.succeeded" in ignored.lines[1]
    assert here.run("quarantine", "list", "--quarantined") == said


def test_list_as_json(here: Installation) -> None:
    """`--json` has whole ids, and bodies as text that shows each byte."""
    garbage = put(here, GARBAGE)
    [item] = here.run("quarantine", "list", "--json").json
    assert item == {
        "id": garbage, "kind": "quarantined", "state": "kept", "event": None, "why": "not JSON: by the test",
        "body": "\x00\\xff not JSON\x1b[2J\r\n", "secret_label": "blue", "request_id": "req_1",
        "received_at": "2026-11-25T12:00:00Z", "repeats": 0, "last_repeat_at": None,
    }  # fmt: skip


def test_how_many(here: Installation) -> None:
    """`--limit` cuts the list."""
    for number in range(5):
        put(here, b"%d" % number + b"x")
    assert len(here.run("quarantine", "list", "--limit", "3").lines) == 4


@pytest.mark.parametrize("digits", [4, 5, 12, 64])
def test_show(here: Installation, digits: int) -> None:
    """Any beginning of an id that fits one body names it, in either case; the body is shown so that it does no harm."""
    garbage = put(here, GARBAGE)
    said = here.run("quarantine", "show", garbage[:digits].upper())
    assert (said.status, said.err) == (0, "")
    shown = dict(line.split(": ", 1) for line in said.lines)
    assert (shown["id"], shown["why"], shown["body"]) == (garbage, "not JSON: by the test", repr(GARBAGE))
    assert (shown["event"], shown["received_at"], shown["last_repeat_at"]) == ("–", "2026-11-25 12:00:00", "–")
    assert said.out.replace("\n", "").isprintable()
    assert here.run("quarantine", "show", garbage, "--json").json["id"] == garbage


def test_the_raw_body(here: Installation) -> None:
    """`--raw` is the body byte for byte, into a pipe as well."""
    garbage = put(here, GARBAGE)
    ended = subprocess.run(
        [sys.executable, "-m", "receiver", "quarantine", "show", garbage[:8], "--raw"],
        env=here.process_environ(), cwd=here.folder, capture_output=True, check=True,
    )  # fmt: skip
    assert (ended.stdout, ended.stderr) == (GARBAGE, b"")


def test_the_raw_body_in_this_process(here: Installation) -> None:
    """The same without a line's end of its own."""
    garbage = put(here, b"plain")
    assert here.run("quarantine", "show", garbage, "--raw") == (0, "plain", "")


def test_an_id_of_none_or_of_several(here: Installation) -> None:
    """What names none, or more than one, is no success; what cannot be an id is wrong use."""
    bodies: dict[str, bytes] = {}
    number = 0
    while True:  # two bodies whose ids begin with the same four digits
        body = b"%d, no JSON" % number
        if (same := bodies.setdefault(sha256(body).hexdigest()[:4], body)) != body:
            break
        number += 1
    beginning = put(here, body)[:4]
    put(here, same)
    for command in (["show"], ["retry"], ["discard"]):
        assert here.run("quarantine", *command, beginning) == (1, "", f"more than one begins with {beginning}\n")
        none = "0123456789ab"
        assert here.run("quarantine", *command, none) == (1, "", f"none begins with {none}\n")
        for wrong in ("abc", "xyz0", "0" * 65, "", "--", "\udcff\udcff"):
            said = here.run("quarantine", *command, wrong)
            assert (said.status, said.out) == (2, "")
    assert set(states(here).values()) == {("quarantined", "kept")}


def test_retry_what_is_understood_by_now(here: Installation) -> None:
    """A body that this program understands must go on as an event, be off the list, and stay stored."""
    key, body = callback()
    put(here, body)
    said = here.run("quarantine", "retry", sha256(body).hexdigest()[:6])
    assert said == (0, "1 of 1 understood\n", "")
    assert here.write(rows, events, "evaluation_id", "body", "waiting") == [(key, body, True)]
    assert states(here) == {body: ("quarantined", "retried")}
    assert len(here.run("quarantine", "list").lines) == 1
    assert len(here.run("quarantine", "list", "--state", "retried").lines) == 2


def test_retry_what_still_is_not(here: Installation) -> None:
    """What is not understood stays as it is, which is no success; another kind of event goes to the list of those."""
    _, body = callback()
    chosen = [put(here, each) for each in (GARBAGE, OTHER, body)]
    said = here.run("quarantine", "retry", *chosen)
    assert said == (1, "2 of 3 understood\n", "the others stay as they are\n")
    assert states(here) == {
        GARBAGE: ("quarantined", "kept"),
        OTHER: ("ignored", "kept"),
        body: ("quarantined", "retried"),
    }
    again = here.run("quarantine", "retry", "--json", chosen[0])
    assert (again.status, again.json) == (1, {"understood": [], "not_understood": [chosen[0]]})


def test_discard(here: Installation) -> None:
    """What is discarded is off the list and stays stored, so that a repeat is known as one."""
    garbage = put(here, GARBAGE)
    assert here.run("quarantine", "discard", garbage[:9]) == (0, "1 discarded\n", "")
    assert here.run("quarantine", "discard", "--json", garbage).json == {"changed": 0}
    put(here, GARBAGE)
    assert states(here) == {GARBAGE: ("quarantined", "discarded")}
    assert len(here.run("quarantine", "list").lines) == 1
    assert len(here.run("quarantine", "list", "--state", "discarded").lines) == 2


@pytest.mark.parametrize(
    "arguments", [["retry"], ["discard"], ["show"], ["list", "--state", "lost"], ["list", "--limit", "0"]]
)
def test_wrong_use(here: Installation, arguments: list[str]) -> None:
    """No id at all, and what is no state, is wrong use."""
    said = here.run("quarantine", *arguments)
    assert (said.status, said.out, said.err[:7]) == (2, "", "Usage: ")


def test_text_that_would_write_on_the_terminal(here: Installation) -> None:
    """Names of events and request ids come from outside, and are shown without their control characters."""
    hostile = "run.\x1b[2J[red]\r\n"
    here.write(accept, [OtherArrival("ignored", hostile, None, OTHER, "blue", hostile, NOON)])
    for arguments in (["list", "--ignored"], ["show", sha256(OTHER).hexdigest()]):
        said = here.run("quarantine", *arguments)
        assert said.status == 0
        assert said.out.replace("\n", "").isprintable()
        assert "run. [2J[red]" in said.out
