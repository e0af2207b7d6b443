"""`receiver.toml`: where it is looked for, `${NAME}`, closed tables, and sinks by their type."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from receiver.core.matching import Filter
from receiver.settings import Settings
from receiver.sinks.file import FileOptions
from receiver.sinks.redis import RedisOptions
from receiver.sinks.registry import OPTIONS
from receiver.sinks.slack import SlackOptions

Load = Callable[..., Settings]
Lines = Callable[..., list[str]]

KINDS = ", ".join(sorted(OPTIONS))
SLACK = "https://hooks.slack.com/services/T0/B0/x"


def _file_sink(name: str = "out", more: str = "") -> str:
    return f'[[sinks]]\nname = "{name}"\ntype = "file"\npath = "-"\n{more}\n'


def test_where_it_is(load: Load, lines: Lines, tmp_path: Path) -> None:
    """RECEIVER_CONFIG names it; without, receiver.toml is read if there is one. A file that is named must be there."""
    (tmp_path / "other.toml").write_text("[fetch]\nhold = 1\n")
    assert load({"RECEIVER_CONFIG": "other.toml"}).fetch.hold == 1
    assert load({"RECEIVER_CONFIG": str(tmp_path / "other.toml")}, "[fetch]\nhold = 2\n").fetch.hold == 1
    assert load({}).fetch.hold == 2
    (line,) = lines({"RECEIVER_CONFIG": "absent.toml"})
    assert line == "RECEIVER_CONFIG: names a file that does not exist; give the path of a TOML file"
    (line,) = lines({"RECEIVER_CONFIG": "."})
    assert line.startswith("RECEIVER_CONFIG: names a file that cannot be read (Is a directory); ")


def test_default_file_that_cannot_be_read(lines: Lines, tmp_path: Path) -> None:
    """A receiver.toml that is there and is no text is not passed over."""
    (tmp_path / "receiver.toml").write_bytes(b"\xff")
    assert lines() == ["receiver.toml: is not text in UTF-8"]
    (tmp_path / "receiver.toml").unlink()
    (tmp_path / "receiver.toml").mkdir()
    assert lines() == ["receiver.toml: cannot be read (Is a directory)"]


@pytest.mark.parametrize(
    ("toml", "what"),
    [
        ("[fetch", "at end of document"),
        ("[fetch]\nhold =\n", "line 2, column 7"),
        ('a = "unfinished', "at end of document"),
        ("[fetch]\n[fetch]\n", "line 2, column"),
        ("a = " + "[" * 100_000, "nested"),
        ("a = " + "9" * 5000, "receiver.toml: "),
    ],
)
def test_bad_toml(toml: str, what: str, lines: Lines) -> None:
    """A mistake in the syntax is one line with the place."""
    (line,) = lines({}, toml)
    assert line.startswith("receiver.toml: ")
    assert what in line
    assert len(line) < 200


def test_tables(load: Load) -> None:
    """Each table fills its field; what is not given has its default."""
    settings = load(
        {},
        _file_sink()
        + """
        [fetch]
        hold = 30
        rate = 2.5
        [limits]
        queue_rows = 5
        [retention]
        events_days = 90
        [reconcile]
        every = 60
        [alerts]
        to = ["out"]
        pass_rate_drop = 0
        """,
    )
    assert (settings.fetch.hold, settings.fetch.rate, settings.fetch.concurrency) == (30, 2.5, 10)
    assert (settings.limits.queue_rows, settings.limits.body_bytes) == (5, 1024 * 1024)
    assert (settings.retention.events_days, settings.retention.verdicts_days) == (90, None)
    assert (settings.reconcile.every, settings.reconcile.overdue_after) == (60, 600)
    assert (settings.alerts.to, settings.alerts.pass_rate_drop) == (("out",), 0)


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("fetcher = 1", "fetcher: is not a table here; did you mean fetch?"),
        ("[what]", "what: is not a table here; there are sinks, fetch, limits, api, retention, reconcile, alerts"),
        (
            '"a\\nb" = 1',
            '"a\\nb": is not a table here; there are sinks, fetch, limits, api, retention, reconcile, alerts',
        ),
        ("fetch = 1", "fetch: must be a table"),
        ("[[fetch]]", "fetch: must be a table"),
        ("[fetch]\nconcurency = 1", "fetch.concurency: is not a key here; did you mean concurrency?"),
        ("[fetch]\nxyz = 1", "fetch.xyz: is not a key here; there are hold, rate, concurrency"),
        ('[fetch]\nhold = "soon"', "fetch.hold: must be a number"),
        ("[fetch]\nhold = true", "fetch.hold: must be a number"),
        ("[fetch]\nhold = nan", "fetch.hold: must be a finite number"),
        ("[fetch]\nrate = inf", "fetch.rate: must be a finite number"),
        ("[fetch]\nrate = 0", "fetch.rate: must be greater than 0"),
        ("[fetch]\nconcurrency = 1.5", "fetch.concurrency: must be a whole number"),
        ("[fetch]\nconcurrency = 21", "fetch.concurrency: must be less than or equal to 20"),
        ("[limits]\nbody_bytes = 1", "limits.body_bytes: must be greater than or equal to 1024"),
        (
            "[limits]\nbody_bytes = 2048\nqueue_bytes = 1024",
            "limits: body_bytes must not be more than queue_bytes, or the longest body could never be stored",
        ),
        ('[alerts]\nto = "out"', "alerts.to: must be a list"),
        ("[alerts]\nto = [1]", "alerts.to[0]: must be a text in quotes"),
        ('[alerts]\nto = ["ops"]', "alerts.to[0]: is not the name of a sink; give names of [[sinks]]"),
        ("sinks = 1", "sinks: must be a list of tables; write [[sinks]] above each of them"),
        ('[sinks]\nname = "x"', "sinks: must be a list of tables; write [[sinks]] above each of them"),
        ("sinks = [1]", "sinks[0]: must be a table; write [[sinks]] above it"),
        ('[[sinks]]\nname = "x"', "sinks[0].type: is missing; there are " + KINDS),
        ('[[sinks]]\nname = "x"\ntype = "slakc"', "sinks[0].type: is not a type of sink; did you mean slack?"),
        (
            '[[sinks]]\nname = "x"\ntype = ["file"]',
            "sinks[0].type: is not a type of sink; there are " + KINDS,
        ),
        ('[[sinks]]\ntype = "file"\npath = "-"', "sinks[0].name: is missing; it must be given"),
        (_file_sink(more="pth = 1"), "sinks[0].pth: is not a key here; did you mean path?"),
        (_file_sink(more='match = "all"'), "sinks[0].match: must be a list"),
        (_file_sink(more="match = [1]"), "sinks[0].match[0]: must be a table"),
        (
            _file_sink(more='match = { overal_passed = "true" }'),
            "sinks[0].match[0].overal_passed: is not a key here; did you mean overall_passed?",
        ),
        (
            _file_sink(more='match = [{ overall_passed = "true" }, { overall_passed = ["true", "yes"] }]'),
            "sinks[0].match[1].overall_passed[1]: must be true, false or null",
        ),
        (_file_sink() + _file_sink(), "sinks[1].name: is the name of sinks[0] too; give each sink a name of its own"),
    ],
)
def test_bad_content(toml: str, expected: str, lines: Lines) -> None:
    """A key or a value that is wrong is one line with its place, what is wrong and what would be right."""
    assert lines({}, toml) == [f"receiver.toml: {expected}"]


def test_sinks(load: Load) -> None:
    """Each sink has the options of its type, in the file's order, with filters as the rest of the program knows them."""
    out, stream = load(
        {},
        _file_sink(more='match = { overall_passed = ["false"], weighted_pass_rate_max = 0.5 }')
        + '[[sinks]]\nname = "s"\ntype = "redis"\nurl = "redis://h/0"\nstream = "x"\n',
    ).sinks
    assert isinstance(out, FileOptions)
    assert out.match == (Filter(overall_passed=("false",), weighted_pass_rate_max=(0.5,)),)
    assert isinstance(stream, RedisOptions)
    assert (stream.name, stream.stream, stream.match) == ("s", "x", ())


def test_slack_shortcut(load: Load) -> None:
    """SLACK_WEBHOOK_URL is a sink named slack for whatever did not pass or failed; alerts may go to it."""
    settings = load({"SLACK_WEBHOOK_URL": SLACK}, _file_sink() + '[alerts]\nto = ["slack"]\n')
    _, sink = settings.sinks
    assert isinstance(sink, SlackOptions)
    assert sink.name == "slack"
    assert sink.url == SecretStr(SLACK)
    assert sink.match == (Filter(overall_passed=("false",)), Filter(status=("failed",)))


def test_slack_shortcut_that_is_wrong(lines: Lines) -> None:
    """An address that is none is told under the name it was given in."""
    (line,) = lines({"SLACK_WEBHOOK_URL": "hooks.slack.com"})
    assert line.startswith("SLACK_WEBHOOK_URL: must be ")


def test_slack_shortcut_beside_a_sink_of_that_name(lines: Lines) -> None:
    """Two sinks named slack cannot be, wherever they come from."""
    (line,) = lines({"SLACK_WEBHOOK_URL": SLACK}, _file_sink("slack"))
    assert (
        line == "SLACK_WEBHOOK_URL: stands for a sink named slack, which receiver.toml: sinks has too; rename that one"
    )


def test_placeholders(load: Load, tmp_path: Path) -> None:
    """${NAME} is taken from the environment or from NAME_FILE, at any depth and in numbers too; $${ is ${ itself."""
    (tmp_path / "secret").write_text("from a file\n")
    environ = {"A": "x", "B_2_FILE": "secret", "RATE": "2.5", "TYPE": "file", "C": "${A}"}
    toml = """
        [[sinks]]
        name = "out"
        type = "${TYPE}"
        path = "$ ${A}-${B_2}-$${A}-$A-$$-${C}"
        rate = "${RATE}"
        match = [{ client_ref = ["${A}"] }]
    """
    (sink,) = load(environ, toml).sinks
    assert isinstance(sink, FileOptions)
    assert sink.path == "$ x-from a file-${A}-$A-$$-${A}"
    assert sink.rate == 2.5
    assert sink.match == (Filter(client_ref=("x",)),)


@pytest.mark.parametrize("environ", [{}, {"NOPE": ""}, {"NOPE": " "}, {"NOPE_FILE": ""}])
def test_placeholder_without_value(environ: dict[str, str], lines: Lines) -> None:
    """A placeholder that nothing stands behind is told with the key and the name, once."""
    assert lines(environ, '[fetch]\nrate = "${NOPE}"\n') == [
        "receiver.toml: fetch.rate: ${NOPE} stands for NOPE, which the environment does not have; set NOPE or NOPE_FILE"
    ]


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("${", "${ must be followed by a name and }; write $${ where ${ itself is meant"),
        ("${}", "${ must be followed by a name and }; write $${ where ${ itself is meant"),
        ("${A", "${ must be followed by a name and }; write $${ where ${ itself is meant"),
        ("${A-B}", "${ must be followed by a name and }; write $${ where ${ itself is meant"),
        ("${A:-x}", "${ must be followed by a name and }; write $${ where ${ itself is meant"),
        ("${TWICE}", "TWICE is given, and TWICE_FILE too; give one of them"),
        ("${F}", "F_FILE names a file that does not exist; give the path of one that holds the value"),
    ],
)
def test_bad_placeholders(path: str, what: str, lines: Lines) -> None:
    """What looks like a placeholder and is none, and one whose value cannot be had, is told with the key."""
    toml = f'[[sinks]]\nname = "out"\ntype = "file"\npath = "{path}"\n'
    environ = {"A": "x", "TWICE": "x", "TWICE_FILE": "x", "F_FILE": "absent"}
    assert lines(environ, toml) == [f"receiver.toml: sinks[0].path: {what}"]
