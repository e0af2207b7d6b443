"""`receiver audit`: the books, in words and as JSON, and the exit status that says whether they add up."""

import io

import pytest
from rich.console import Console
from sqlalchemy import Connection, Delete, Update, delete, update

from receiver.cli import audit as audit_command
from receiver.core.routing import Route
from receiver.store import lanes
from receiver.store.intake import EventArrival, OtherArrival, accept
from receiver.store.tables import deliveries, events, fetches, verdicts
from tests.cli.installation import Installation
from tests.web.receivers import callback
from tests.web.seeds import NOON, key, stored, verdict


def execute(conn: Connection, statement: Update | Delete) -> None:
    conn.execute(statement)


def put_event(here: Installation, number: int) -> None:
    """An event that waits for the pipeline."""
    _, body = callback(evaluation_id=key(number))
    here.write(accept, [EventArrival(key(number), "evaluation.completed", body, "callback", "blue", None, NOON)])


def put_verdicts(here: Installation, *numbers: int) -> None:
    """Verdicts that are due to the sinks `a` and `b`, with their events."""
    for number in numbers:
        put_event(here, number)
    here.write(stored, [verdict(number) for number in numbers], routes=[Route("a"), Route("b")])


def configure(here: Installation, *names: str) -> None:
    here.configure("\n".join(f'[[sinks]]\nname = "{name}"\ntype = "file"\npath = "{name}.ndjson"' for name in names))


def test_nothing_yet(here: Installation) -> None:
    """An empty store adds up."""
    told = "0 events of 0 evaluations = 0 verdicts + 0 waiting for their fetch\n0 in quarantine\n"
    assert here.run("audit") == (0, told, "")


def test_all_adds_up(here: Installation) -> None:
    """Each event is a verdict or waits; each sink's sum is told by state."""
    configure(here, "a", "b")
    put_verdicts(here, 1, 2)
    put_event(here, 3)
    here.write(accept, [OtherArrival("quarantined", None, "by the test", b"x", "blue", None, NOON)])
    here.write(execute, update(deliveries).where(deliveries.c.sink == "a").values(state="delivered"))
    said = here.run("audit")
    assert (said.status, said.err) == (0, "")
    assert [" ".join(line.split()) for line in said.lines] == [
        "3 events of 3 evaluations = 2 verdicts + 1 waiting for their fetch",
        "sink due pending leased delivered dead discarded adds up",
        "a 2 0 0 2 0 0 yes",
        "b 2 2 0 0 0 0 yes",
        "1 in quarantine",
    ]


def test_exceptions(here: Installation) -> None:
    """What will not go on by itself is listed even where the sums are right: dead letters, a sink that is gone, a pause."""
    configure(here, "a")
    put_verdicts(here, 1)
    here.write(execute, update(deliveries).where(deliveries.c.sink == "a").values(state="dead"))
    here.write(lanes.pause, lanes.sink_lane("a"), until=NOON, reason="answered 401\x1b[2J", now=NOON)
    said = here.run("audit")
    assert said.status == 0
    assert [line for line in said.lines if line.startswith("! ")] == [
        "! sink a: 1 dead letters, deliveries 1",
        "! sink b: is not configured any more, 1 deliveries wait for it",
        "! sink a: paused, answered 401 [2J",
    ]


def test_a_delivery_that_was_lost(here: Installation) -> None:
    """A revision that was due and has no delivery must be named, and end with status 1."""
    configure(here, "a", "b")
    put_verdicts(here, 1)
    here.write(execute, delete(deliveries).where(deliveries.c.sink == "b"))
    said = here.run("audit")
    assert said.status == 1
    assert [" ".join(line.split()) for line in said.lines if line.startswith("b ")] == ["b 1 0 0 0 0 0 no"]
    assert f"! evaluation {key(1)}: revision 1 was due to sink b, and there is no delivery" in said.lines


def test_an_event_that_was_lost(here: Installation) -> None:
    """An event with neither a verdict nor a fetch must be named, and end with status 1."""
    put_verdicts(here, 1)
    for statement in (delete(deliveries), delete(fetches), delete(verdicts), update(events).values(waiting=False)):
        here.write(execute, statement)
    said = here.run("audit")
    assert said.status == 1
    assert said.lines[0] == ("1 events of 1 evaluations = 0 verdicts + 0 waiting for their fetch   DOES NOT ADD UP")
    assert f"! evaluation {key(1)}: its event is stored, but neither a verdict nor a fetch" in said.lines


def test_as_json(here: Installation) -> None:
    """`--json` has the same sums, and says of each whether it adds up; the status is the same."""
    configure(here, "a", "b")
    put_verdicts(here, 1)
    well = here.run("audit", "--json")
    assert (well.status, well.json["adds_up"], well.json["events"], well.json["exceptions"]) == (0, True, 1, [])
    assert well.json["sinks"][0] == {
        "sink": "a", "due": 1, "adds_up": True,
        "by_state": {"pending": 1, "leased": 0, "delivered": 0, "dead": 0, "discarded": 0},
    }  # fmt: skip
    here.write(execute, delete(deliveries))
    lost = here.run("audit", "--json")
    assert (lost.status, lost.json["adds_up"], len(lost.json["exceptions"])) == (1, False, 2)


def test_on_a_terminal(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long says so there, and not among what it prints."""
    shown = io.StringIO()
    monkeypatch.setattr(audit_command, "progress_console", lambda: Console(file=shown, force_terminal=True, width=80))
    said = here.run("audit", "--json")
    assert said.json["adds_up"] is True
    assert "going through all that is stored" in shown.getvalue()
