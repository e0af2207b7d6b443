"""`receiver deliveries`: what is due to sinks, and what people do about it."""

from datetime import timedelta

import pytest
from sqlalchemy import Connection, update

from receiver.core.routing import Route
from receiver.store import lanes
from receiver.store.tables import deliveries
from tests.cli.installation import Installation
from tests.store.places import rows
from tests.web.seeds import NOON, key, stored, verdict

LATER = NOON.replace(year=2100)
STATES = ("pending", "leased", "delivered", "dead", "discarded")
ALL = {(number, sink): state for number, state in enumerate(STATES, start=1) for sink in ("a", "b")}


def _in_every_state(conn: Connection) -> None:
    stored(conn, [verdict(number) for number in range(1, 6)], routes=[Route("a"), Route("b")])
    for number, state in enumerate(STATES, start=1):
        ended = NOON if state in ("delivered", "dead", "discarded") else None
        values = {
            "state": state, "attempts": number, "ended_at": ended, "due_at": None if ended else LATER,
            "remote_id": "1-0" if state == "delivered" else None, "last_error": "answered 500" if state == "dead" else None,
        }  # fmt: skip
        conn.execute(update(deliveries).where(deliveries.c.evaluation_id == key(number)).values(values))


@pytest.fixture
def full(here: Installation) -> Installation:
    """Five verdicts, each due to two sinks, each pair of deliveries in another state."""
    here.write(_in_every_state)
    return here


def states(here: Installation) -> dict[tuple[int, str], str]:
    """The state of each, by the verdict's number and the sink."""
    there = here.write(rows, deliveries, "evaluation_id", "sink", "state")
    return {(evaluation_id.int & 0xFF, sink): state for evaluation_id, sink, state in there}


def ids(here: Installation, *numbers: int) -> list[str]:
    """The ids of what is due to sink `a` for these verdicts."""
    there = {(e, s): i for i, e, s in here.write(rows, deliveries, "id", "evaluation_id", "sink")}
    return [str(there[key(number), "a"]) for number in numbers]


def test_list(full: Installation) -> None:
    """Counts by sink and state first, then the newest deliveries, a line each."""
    said = full.run("deliveries", "list")
    assert (said.status, said.err) == (0, "")
    counts = ", ".join(f"{sink} {state} 1" for sink in "ab" for state in sorted(STATES))
    assert said.lines[0] == counts
    assert said.lines[1].split() == [
        "id", "sink", "state", "evaluation_id", "revision", "attempts", "due_at", "ended_at", "remote_id", "last_error",
    ]  # fmt: skip
    assert len(said.lines) == 12
    assert said.lines[2].split()[1:4] == ["b", "discarded", str(key(5))]
    dead = next(line for line in said.lines if " dead " in line and "  b  " in line)
    assert dead.endswith("answered 500")


def test_list_as_json(full: Installation) -> None:
    """`--json` has counts, paused sinks and items, with times as everywhere."""
    said = full.run("deliveries", "list", "--json", "--sink", "a", "--state", "delivered")
    assert said.json["counts"] == [{"sink": "a", "state": "delivered", "deliveries": 1}]
    assert said.json["paused"] == []
    [item] = said.json["items"]
    expected = {
        "sink": "a", "state": "delivered", "evaluation_id": str(key(3)), "revision": 1, "attempts": 3, "due_at": None,
        "ended_at": "2026-11-25T12:00:00Z", "remote_id": "1-0", "last_error": None, "replay_id": "",
        "created_at": "2026-11-25T12:00:00Z",
    }  # fmt: skip
    assert item == expected | {"id": item["id"]}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--state", "dead", "--state", "pending"], {(1, "a"), (1, "b"), (4, "a"), (4, "b")}),
        (["--sink", "b", "--state", "dead"], {(4, "b")}),
        (["--evaluation-id", str(key(2))], {(2, "a"), (2, "b")}),
        (["--sink", "a", "--sink", "b", "--limit", "1"], {(5, "b")}),
        (["--sink", "nothing"], set()),
    ],
)
def test_filters(full: Installation, arguments: list[str], expected: set[tuple[int, str]]) -> None:
    """By state, sink and evaluation; one given twice means any of."""
    items = full.run("deliveries", "list", "--json", *arguments).json["items"]
    assert {(int(item["evaluation_id"][-2:], 16), item["sink"]) for item in items} == expected


def test_nothing_there(here: Installation) -> None:
    """An empty outbox says so."""
    assert here.run("deliveries", "list").lines[0] == "nothing"
    assert here.run("deliveries", "list", "--json").json == {"counts": [], "paused": [], "items": []}


def test_paused_sinks(here: Installation) -> None:
    """What is paused is told with the reason, a sink as well as the fetch lane."""
    for name in (lanes.FETCH, lanes.sink_lane("shop")):
        here.write(lanes.pause, name, until=NOON + timedelta(hours=1), reason="answered 401\x1b[2J", now=NOON)
    said = here.run("deliveries", "list")
    told = "is paused until 2026-11-25 13:00:00: answered 401 [2J"
    assert said.lines[:3] == [f"fetch {told}", f"sink shop {told}", "nothing"]
    _, paused = here.run("deliveries", "list", "--json").json["paused"]
    assert (paused["name"], paused["paused_until"]) == ("sink:shop", "2026-11-25T13:00:00Z")


CHANGES = [
    ("retry", ["--state", "dead"], "2 to retry", "2 are due now", {(4, "a"), (4, "b")}),
    ("retry", ["--sink", "a"], "2 to retry", "2 are due now", {(1, "a"), (4, "a")}),
    ("retry", ["--state", "discarded", "--sink", "b"], "1 to retry", "1 are due now", {(5, "b")}),
    (
        "discard", ["--state", "pending", "--state", "dead"], "4 to discard", "4 discarded",
        {(1, "a"), (1, "b"), (4, "a"), (4, "b")},
    ),
    ("discard", ["--sink", "b"], "2 to discard", "2 discarded", {(1, "b"), (4, "b")}),
]  # fmt: skip


@pytest.mark.parametrize(("verb", "arguments", "first", "last", "changed"), CHANGES)
def test_changes(
    full: Installation, verb: str, arguments: list[str], first: str, last: str, changed: set[tuple[int, str]]
) -> None:
    """How many there are is said first; with a yes it is done to these, and to none that the verb is not for."""
    before = states(full)
    said = full.run("deliveries", verb, *arguments, answer="y\n")
    assert (said.status, said.lines[0], said.lines[-1]) == (0, first, last)
    assert said.err.startswith(f"{verb} them? [y/N]: ")
    to = "pending" if verb == "retry" else "discarded"
    assert states(full) == before | dict.fromkeys(changed, to)


def test_a_retried_delivery_has_all_its_attempts_again(full: Installation) -> None:
    """What is retried is due now and starts anew."""
    full.run("deliveries", "retry", "--yes", *ids(full, 4))
    there = full.write(rows, deliveries, "evaluation_id", "sink", "attempts", "ended_at")
    assert [row for row in there if row[0] == key(4)] == [(key(4), "a", 0, None), (key(4), "b", 4, NOON)]


@pytest.mark.parametrize("verb", ["retry", "discard"])
@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_no(full: Installation, verb: str, answer: str) -> None:
    """Without a yes nothing is done, which is no success."""
    said = full.run("deliveries", verb, "--state", "dead", answer=answer)
    assert (said.status, said.lines, said.err.endswith("Aborted!\n")) == (1, [f"2 to {verb}"], True)
    assert states(full) == ALL


def test_by_ids(full: Installation) -> None:
    """Ids choose; others than those that can be changed are passed over."""
    said = full.run("deliveries", "discard", "--yes", *ids(full, 1, 2, 3))
    assert (said.status, said.lines) == (0, ["1 to discard", "1 discarded"])
    assert states(full) == ALL | {(1, "a"): "discarded"}


@pytest.mark.parametrize(("verb", "which"), [("retry", "dead, discarded and waiting"), ("discard", "dead and waiting")])
def test_ids_that_cannot_be_changed(full: Installation, verb: str, which: str) -> None:
    """Ids of which none can be changed, or none is there, are no success."""
    for chosen in (ids(full, 3), ["999999"], [str(2**63 - 1)]):
        said = full.run("deliveries", verb, "--yes", *chosen)
        assert said == (1, f"0 to {verb}\n", f"there is none to {verb}: only {which} ones can be\n")
    assert states(full) == ALL


def test_a_filter_that_matches_nothing(full: Installation) -> None:
    """Nothing to do is done without asking."""
    assert full.run("deliveries", "retry", "--sink", "nothing") == (0, "0 to retry\n", "")


@pytest.mark.parametrize("verb", ["retry", "discard"])
def test_nothing_chosen(full: Installation, verb: str) -> None:
    """All of them is never meant by saying nothing."""
    said = full.run("deliveries", verb, "--yes")
    assert said == (2, "", f"say which to {verb}: ids, or --state, --sink, --evaluation-id\n")
    assert states(full) == ALL


def test_changes_as_json(full: Installation) -> None:
    """With `--json` how many there are is said on standard error, and what was done is the document."""
    said = full.run("deliveries", "retry", "--json", "--state", "dead", answer="y\n")
    assert (said.status, said.json) == (0, {"changed": 2})
    assert said.err.startswith("2 to retry\nretry them? [y/N]: ")
    none = full.run("deliveries", "retry", "--json", "--yes", "999999")
    assert (none.status, none.json) == (1, {"changed": 0})


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--limit", "0"],
        ["retry", "0"],
        ["retry", "x"],
        ["retry", str(2**63)],
        ["list", "--state", "lost"],
        ["list", "--evaluation-id", "1"],
    ],
)
def test_wrong_use(here: Installation, arguments: list[str]) -> None:
    """What is no id, no state and no number is wrong use."""
    said = here.run("deliveries", *arguments)
    assert (said.status, said.out, said.err[:7]) == (2, "", "Usage: ")


@pytest.mark.parametrize("verb", ["list", "retry", "discard"])
def test_a_name_that_is_no_text(here: Installation, verb: str) -> None:
    """Bytes of the command line that are no UTF-8 are wrong use, too."""
    said = here.run("deliveries", verb, "--sink", "\udcff")
    assert (said.status, said.out) == (2, "")
    assert said.err.endswith("Error: Invalid value for '--sink': is not text in UTF-8\n")


def test_older_ones(full: Installation) -> None:
    """A long list goes on where it ended."""
    first = full.run("deliveries", "list", "--json", "--limit", "4").json["items"]
    rest = full.run("deliveries", "list", "--json", "--before", first[-1]["id"]).json["items"]
    assert [item["id"] for item in [*first, *rest]] == sorted((item["id"] for item in [*first, *rest]), reverse=True)
    assert (len(first), len(rest)) == (4, 6)


def test_text_that_would_write_on_the_terminal(full: Installation) -> None:
    """What a destination answered is shown without control characters and without being markup."""
    hostile = "\x1b[2J[red]no\r\nmore"
    full.write(lambda conn: conn.execute(update(deliveries).values(last_error=hostile, remote_id=hostile)).close())
    said = full.run("deliveries", "list")
    assert all(line.isprintable() for line in said.out.splitlines())
    assert len(said.lines) == 12
    assert "[red]no  more" in said.out
