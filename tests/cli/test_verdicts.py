"""`receiver verdicts`: tables and trees of what is stored, and what stands in them."""

from typing import Any

import pytest

from receiver.core.matching import WORDS
from receiver.core.verdict import NOT_IN_LISTS, Judge, Verdict
from tests.cli.installation import Installation
from tests.web.seeds import key, stored, verdict

HOSTILE = "\x1b]0;owned\x07[bold red]\x1b[2J[/link]\r\n\t\u202e\ud83d".encode("utf-8", "replace").decode()


@pytest.fixture
def some(here: Installation) -> Installation:
    """An installation with three verdicts."""
    wanted = [
        verdict(1, overall_passed=True, weighted_pass_rate=1, task_type="headshot", client_ref="order-1"),
        verdict(2, overall_passed=False, weighted_pass_rate=0.7, task_type="ad_creative", client_ref="order-2"),
        verdict(3, event="evaluation.failed", status="failed", failure_code="timed_out", tree="pending"),
    ]
    here.write(stored, wanted)
    return here


def cells(line: str) -> list[str]:
    return line.split("  ")


def test_list(some: Installation) -> None:
    """The newest first, a line each; a yes, a no and nothing are told apart."""
    said = some.run("verdicts", "list")
    assert (said.status, said.err) == (0, "")
    header, *rows = [line.split() for line in said.lines]
    assert header == [
        "received_at", "evaluation_id", "status", "overall_passed", "weighted_pass_rate", "task_type", "client_ref",
        "tree", "revision",
    ]  # fmt: skip
    assert rows == [
        ["2026-11-25", "12:03:00", str(key(3)), "failed", "–", "–", "–", "–", "pending", "0"],
        ["2026-11-25", "12:02:00", str(key(2)), "completed", "no", "0.7", "ad_creative", "order-2", "complete", "1"],
        ["2026-11-25", "12:01:00", str(key(1)), "completed", "yes", "1.0", "headshot", "order-1", "complete", "1"],
    ]


def test_list_as_json(some: Installation) -> None:
    """`--json` is the same as the API's."""
    said = some.run("verdicts", "list", "--json")
    assert (said.status, [item["evaluation_id"] for item in said.json["items"]]) == (
        0,
        [str(key(n)) for n in (3, 2, 1)],
    )
    assert set(said.json["items"][0]) == set(Verdict.model_fields) - NOT_IN_LISTS
    assert said.json["items"][2]["received_at"] == "2026-11-25T12:01:00Z"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--overall-passed", "false"], [2]),
        (["--overall-passed", "null", "--overall-passed", "true"], [3, 1]),
        (["--status", "failed"], [3]),
        (["--task-type", "headshot", "--task-type", "ad_creative"], [2, 1]),
        (["--client-ref-prefix", "order-"], [2, 1]),
        (["--weighted-pass-rate-min", "0.7", "--weighted-pass-rate-max", "0.9"], [2]),
        (["--completed-after", "2026-11-25T12:01:50Z"], [3, 2]),
        (["--tree", "pending"], [3]),
        (["--failure-code", "timed_out"], [3]),
        (["--task-type", "nothing"], []),
        (["--limit", "2"], [3, 2]),
        (["--sort", "completed_at", "--limit", "1"], [3]),
    ],
)
def test_filters(some: Installation, arguments: list[str], expected: list[int]) -> None:
    """The words are the API's."""
    said = some.run("verdicts", "list", "--json", *arguments)
    assert (said.status, [item["evaluation_id"] for item in said.json["items"]]) == (0, [str(key(n)) for n in expected])


def test_every_word_is_an_option(here: Installation) -> None:
    """No filter of the API is left out."""
    said = here.run("verdicts", "list", "--help").out
    assert [word for word in WORDS if f"--{word.replace('_', '-')} VALUE" not in said] == []


def test_there_are_more(some: Installation) -> None:
    """A table that is cut says so; one that is not does not."""
    following = some.run("verdicts", "list", "--limit", "2", "--json").json["next"]
    assert some.run("verdicts", "list", "--limit", "2").lines[-1] == f"(there are more: --cursor {following})"
    assert len(some.run("verdicts", "list", "--limit", "3").lines) == 4


def test_going_on(some: Installation) -> None:
    """`--cursor` goes on where a list ended; the same as the API's, which is checked as there."""
    arguments = ["verdicts", "list", "--json", "--limit", "2"]
    first = some.run(*arguments).json
    rest = some.run(*arguments, "--cursor", first["next"]).json
    assert [item["evaluation_id"] for item in first["items"] + rest["items"]] == [str(key(n)) for n in (3, 2, 1)]
    assert rest["next"] is None
    for more, told in (
        (["--cursor", "x"], "is not one that this service made; begin without it"),
        (["--cursor", first["next"], "--status", "failed"], "was made with other filters; begin without it"),
        (
            ["--cursor", first["next"], "--sort", "completed_at"],
            "was made with sort=received_at; the two must go together",
        ),
    ):
        assert some.run(*arguments, *more) == (2, "", f"cursor: {told}\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--overall-passed", "yes"], "overall_passed: must be true, false or null\n"),
        (
            ["--weighted-pass-rate-min", "x", "--completed-after", "y"],
            (
                "weighted_pass_rate_min: should be a valid number, unable to parse string as a number; "
                "completed_after: must be a date or a time, such as 2026-11-25T12:00:00Z\n"
            ),
        ),
        (["--client-ref", "a"] * 101, "client_ref: may be given 100 times\n"),
    ],
    ids=range(3),
)  # fmt: skip
def test_bad_filters(here: Installation, arguments: list[str], told: str) -> None:
    """A bad value must be named, with status 2."""
    assert here.run("verdicts", "list", *arguments) == (2, "", told)


@pytest.mark.parametrize(
    "arguments",
    [["--limit", "0"], ["--limit", "501"], ["--sort", "status"], ["--nothing", "x"], ["--client-ref", "\udcff"]],
)
def test_wrong_use(here: Installation, arguments: list[str]) -> None:
    """What is no option, or no value of one, is wrong use."""
    said = here.run("verdicts", "list", *arguments)
    assert (said.status, said.out, said.err[:7]) == (2, "", "Usage: ")


def whole(number: int, text: str) -> Verdict:
    """A verdict with one text in every place that has one."""
    parts: dict[str, Any] = {
        "judges": [
            Judge(name=text, reasoning=text, evidence=[text], passed=False, sub_point_results={text: [text, {"x": text}]})
        ],
        "issues": [{"judge": text, "category": text, "detail": text}],
        "gate_failures": [{"module": text, "reason": text}],
        "action": {"primary_action": text, "improved_prompt": text},
        "check_summary": {"name": text, "more": {"deep": text}},
        "top_issues": [text, text],
        "client_ref": text, "task_type": text, "failure_code": text, "run_id": text,
    }  # fmt: skip
    return verdict(number, overall_passed=False, weighted_pass_rate=0.25, **parts)


def test_show(here: Installation) -> None:
    """One verdict as a tree: all that has a value, judges and their reasons under their names."""
    here.write(stored, [whole(1, "six fingers")])
    said = here.run("verdicts", "show", key(1))
    assert (said.status, said.err) == (0, "")
    assert said.lines[0] == f"evaluation.completed {key(1)}"
    body = "\n".join(said.lines)
    for expected in (
        "├── overall_passed: no", "├── weighted_pass_rate: 0.25", "├── received_at: 2026-11-25 12:01:00",
        "├── top_issues\n│   ├── 1: six fingers\n│   └── 2: six fingers",
        "├── judges\n│   └── 1 six fingers\n│       ├── passed: no",
        "│       ├── reasoning: six fingers", "├── action\n│   ├── primary_action: six fingers", "└── revision: 1",
    ):  # fmt: skip
        assert expected in body, expected
    assert "null" not in body
    assert "None" not in body


def test_show_as_json(here: Installation) -> None:
    """`--json` is the whole result."""
    here.write(stored, [whole(1, "six fingers")])
    said = here.run("verdicts", "show", str(key(1)).upper(), "--json")
    expected = whole(1, "six fingers").model_copy(update={"revision": 1})
    assert (said.status, said.json) == (0, expected.model_dump(mode="json"))


def test_an_unknown_verdict(here: Installation) -> None:
    """An id that is not here is no success; what is no id is wrong use."""
    told = f"there is no evaluation {key(1)} here\n"
    assert here.run("verdicts", "show", key(1)) == (1, "", told)
    assert here.run("verdicts", "show", "one").status == 2


@pytest.mark.parametrize("arguments", [["list"], ["show", str(key(1))]])
def test_text_that_would_write_on_the_terminal(here: Installation, arguments: list[str]) -> None:
    """Texts come from anyone: neither control characters nor markup may do anything but be shown, each on its own line."""
    here.write(stored, [whole(1, HOSTILE)])
    said = here.run("verdicts", *arguments)
    assert said.status == 0
    assert all(line.isprintable() for line in said.out.splitlines())
    assert "[bold red]" in said.out
    assert len(said.out.splitlines()) == (
        2 if arguments == ["list"] else len(here.run("verdicts", "show", key(1)).lines)
    )


def test_a_long_text_is_not_cut(here: Installation) -> None:
    """In a pipe a row is a line, and nothing of it is left out."""
    text = "word " * 400 + "x" * 2000
    here.write(stored, [verdict(1, client_ref=text)])
    said = here.run("verdicts", "list")
    assert len(said.lines) == 2
    assert text in said.lines[1]


def test_on_a_narrow_terminal(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal rows are folded to its width, and no id loses a character."""
    from receiver.cli import output

    here.write(stored, [verdict(1, client_ref="order-1")])
    monkeypatch.setattr(output, "IN_A_PIPE", 60)
    said = here.run("verdicts", "list")
    assert max(map(len, said.lines)) <= 60
    assert "…" not in said.out


def test_a_database_that_is_away(here: Installation) -> None:
    """A database that cannot be reached just now is no wrong use: status 1, and a line that says so."""
    said = here.run("verdicts", "list", DATABASE_URL="postgresql://someone@127.0.0.1:1/x")
    assert (said.status, said.out) == (1, "")
    assert said.told[-1].startswith("the database cannot be reached")
