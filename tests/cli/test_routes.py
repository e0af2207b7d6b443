"""`receiver routes try`: rules over stored verdicts, on both databases."""

from pathlib import Path

import pytest

from receiver.core.matching import Filter
from receiver.core.routing import Route
from receiver.store import outbox_desk
from receiver.store.outbox_desk import DeliveryFilter
from tests.cli.installation import Installation
from tests.web.seeds import key, stored, verdict

RULES = """
[[sinks]]
name = "failures"
type = "slack"
url = "${URL_THAT_IS_NOT_THERE}"
match = [{ overall_passed = ["false"], weighted_pass_rate_max = 0.5 }, { status = "failed" }]

[[sinks]]
name = "archive"
type = "file"
path = "verdicts.ndjson"
match = { task_type = ["headshot", "null"] }
"""
OTHERS = RULES.replace("0.5", "0.7").replace('"archive"', '"store"')
VERDICTS = [
    verdict(1, overall_passed=True, weighted_pass_rate=1, task_type="headshot", client_ref="one"),
    verdict(2, overall_passed=False, weighted_pass_rate=0.7, task_type="ad_creative", client_ref="two"),
    verdict(3, overall_passed=False, weighted_pass_rate=0.5, task_type="headshot", client_ref="three"),
    verdict(4, event="evaluation.failed", status="failed", tree="unavailable", tree_reason="refused"),
    verdict(5, overall_passed=False, weighted_pass_rate=0.1, tree="pending"),
    verdict(6, overall_passed=False, weighted_pass_rate=0.1, origin="sample"),
]
LIVE = (
    Route("failures", (Filter(overall_passed=("false",), weighted_pass_rate_max=(0.5,)), Filter(status=("failed",)))),
    Route("archive", (Filter(task_type=("headshot", "null")),), takes_samples=True),
)
MISSED = (
    "receiver.toml: sinks[0].url: ${URL_THAT_IS_NOT_THERE} stands for URL_THAT_IS_NOT_THERE, which the environment does not "
    "have; set URL_THAT_IS_NOT_THERE or URL_THAT_IS_NOT_THERE_FILE (rules are tried without it)"
)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def some(request: pytest.FixtureRequest) -> Installation:
    """An installation with verdicts that were released to the rules' sinks, on each database."""
    if request.param == "sqlite":
        installation: Installation = request.getfixturevalue("here")
    else:
        installation = request.getfixturevalue("on_postgres")
        assert installation.run("db", "upgrade").status == 0
    installation.write(stored, VERDICTS, routes=LIVE)
    installation.configure(RULES)
    return installation


@pytest.fixture(autouse=True)
def in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`receiver.toml` is looked for in the working directory."""
    monkeypatch.chdir(tmp_path)


def test_the_present_rules(some: Installation) -> None:
    """As many would have gone to each sink as did go when they were released; nothing else is needed than the rules."""
    said = some.run("routes", "try", "--json")
    assert (said.status, said.told) == (0, [MISSED])
    live = some.write(outbox_desk.counts, DeliveryFilter())
    assert {each["sink"]: each["due"]["count"] for each in said.json["sinks"]} == {
        each.sink: each.deliveries for each in live
    }
    assert {name: said.json[name] for name in ("verdicts", "pending", "samples", "compared")} == {
        "verdicts": 5, "pending": 1, "samples": 1, "compared": False,
    }  # fmt: skip
    assert said.json["nowhere"] == {
        "count": 1,
        "examples": [
            {
                "evaluation_id": str(key(2)),
                "client_ref": "two",
                "why": "failures: weighted_pass_rate is 0.7, not at most 0.5; status is completed, not failed; "
                "archive: task_type is ad_creative, not headshot or null",
            }
        ],
    }
    assert [example["client_ref"] for example in said.json["to_several"]["examples"]] == [None, "three"]


def test_as_people_read_it(some: Installation) -> None:
    """A table of counts, then examples with their reasons."""
    said = some.run("routes", "try")
    assert said.lines[:6] == [
        "5 verdicts (1 more wait for their fetch, 1 of them are samples)", "", "sink      would go", "failures  2",
        "archive   4", "1 nowhere, 2 to several sinks",
    ]  # fmt: skip
    assert f"{key(3)}  three       overall_passed is false and weighted_pass_rate is 0.5" in said.lines


def test_other_rules(some: Installation) -> None:
    """With `--config`, what each sink would gain and lose against the present rules."""
    (some.folder / "others.toml").write_text(OTHERS)
    said = some.run("routes", "try", "--config", "others.toml", "--json")
    assert said.status == 0
    found = {
        each["sink"]: tuple(each[word]["count"] for word in ("due", "gained", "lost")) for each in said.json["sinks"]
    }
    assert found == {"failures": (3, 1, 0), "store": (4, 4, 0), "archive": (0, 0, 4)}
    assert said.json["sinks"][0]["gained"]["examples"][0]["evaluation_id"] == str(key(2))
    assert (said.json["nowhere"]["count"], said.json["nowhere"]["at_present"]) == (0, 1)
    lines = some.run("routes", "try", "--config", "others.toml").lines
    assert lines[2:7] == [
        "sink      would go  gained  lost", "failures  3         1       0", "store     4         4       0",
        "archive   0         0       4", "0 nowhere (by the present rules 1), 2 to several sinks",
    ]  # fmt: skip


def test_since_and_until(some: Installation) -> None:
    """By arrival: from the first on, before the second."""
    said = some.run(
        "routes", "try", "--since", "2026-11-25T12:02:00Z", "--until", "2026-11-25T13:04:00+01:00", "--json"
    )
    assert (said.json["verdicts"], said.json["pending"]) == (2, 0)
    assert (said.json["since"], said.json["until"]) == ("2026-11-25T12:02:00Z", "2026-11-25T12:04:00Z")
    assert some.run("routes", "try", "--until", "2026-11-25", "--json").json["verdicts"] == 0
    wrong = some.run("routes", "try", "--since", "yesterday")
    assert (wrong.status, wrong.out) == (2, "")
    assert "must be a time such as" in wrong.err


def test_more_than_one_chunk(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in chunks, each verdict is looked at once, also those that arrived at one moment."""
    monkeypatch.setattr("receiver.cli.routes.CHUNK", 3)
    here.configure('[[sinks]]\nname = "all"\ntype = "file"\npath = "x"\n')
    at = VERDICTS[0].received_at
    here.write(stored, [verdict(number, received_at=at) for number in range(7)])
    said = here.run("routes", "try", "--examples", "100", "--json").json
    assert sorted(each["evaluation_id"] for each in said["sinks"][0]["due"]["examples"]) == [
        str(key(n)) for n in range(7)
    ]


def test_bad_rules(some: Installation) -> None:
    """A file that is wrong, or not there, is named in one line, with status 2; nothing is tried."""
    (some.folder / "bad.toml").write_text(RULES.replace("task_type", "taks_type"))
    assert some.run("routes", "try", "--config", "bad.toml") == (
        2, "", "bad.toml: sinks[1].match[0].taks_type: is not a key here; did you mean task_type?\n",
    )  # fmt: skip
    gone = some.run("routes", "try", "--config", "gone.toml")
    assert gone == (2, "", "--config: names a file that does not exist; give the path of a TOML file\n")


def test_present_rules_that_are_bad(some: Installation) -> None:
    """What is to mend the present file can be tried while that is broken."""
    some.configure("sinks = 1")
    (some.folder / "others.toml").write_text(OTHERS)
    said = some.run("routes", "try", "--config", "others.toml", "--json")
    assert (said.status, said.json["compared"], said.json["sinks"][0]["due"]["count"]) == (0, False, 3)
    assert said.told[-1] == "the present rules cannot be read, so nothing is compared with them"
