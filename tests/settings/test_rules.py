"""The rules of a file without the rest of it: what must be there and what need not."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from receiver.core.matching import Filter
from receiver.core.routing import Route
from receiver.errors import SettingsError
from receiver.settings.rules import Rules, load_rules

Load = Callable[..., Rules]

SINKS = """
[[sinks]]
name = "failures"
type = "http"
url = "https://shop.example.com/${PATH_THERE}"
secret = "${SHOP_SECRET}"
headers = { Authorization = "Bearer ${TOKEN}" }
match = [{ overall_passed = ["false"] }, { status = "failed" }]

[[sinks]]
name = "archive"
type = "file"
path = "verdicts.ndjson"
"""
ROUTES = (
    Route("failures", (Filter(overall_passed=("false",)), Filter(status=("failed",)))),
    Route("archive", takes_samples=True),
)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """The rules of this text, in `receiver.toml` or, with a name, in another file."""

    def load(toml: str, environ: Mapping[str, str] | None = None, config: str | None = None) -> Rules:
        (tmp_path / (config or "receiver.toml")).write_text(toml)
        return load_rules(environ or {}, directory=tmp_path, config=config)

    return load


def test_what_sending_needs_need_not_be_there(load: Load) -> None:
    """A secret that the environment lacks is a remark that names it, and the rule is there all the same."""
    rules = load(SINKS)
    assert rules.routes == ROUTES
    assert [line.split(": ")[1] for line in rules.remarks] == [
        "sinks[0].url", "sinks[0].secret", "sinks[0].headers.Authorization",
    ]  # fmt: skip
    assert "SHOP_SECRET" in rules.remarks[1]
    assert all(line.endswith("(rules are tried without it)") for line in rules.remarks)


def test_all_is_there(load: Load) -> None:
    """With all that it needs there is nothing to remark."""
    environ = {"PATH_THERE": "x", "SHOP_SECRET": f"whsec_{'QUJD' * 10}", "TOKEN": "t"}
    assert load(SINKS, environ) == Rules(ROUTES)


def test_options_that_go_together(load: Load) -> None:
    """What cannot be filled in is not missed by another option that goes with it."""
    toml = """
    [[sinks]]
    name = "k"
    type = "kafka"
    bootstrap_servers = "b"
    topic = "t"
    sasl_mechanism = "PLAIN"
    username = "u"
    password = "${NOT_THERE}"
    """
    assert load(toml).routes == (Route("k"),)


def test_a_secret_file_that_may_not_be_read(load: Load) -> None:
    """The service's own secrets are not for everyone who tries rules."""
    rules = load(SINKS, {"SHOP_SECRET_FILE": "/not/there"})
    assert rules.routes == ROUTES
    assert "SHOP_SECRET_FILE names a file that does not exist" in rules.remarks[1]


@pytest.mark.parametrize("environ", [{}, {"SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/x"},
                                     {"SLACK_WEBHOOK_URL_FILE": "/not/there"}])  # fmt: skip
def test_the_shortcut(load: Load, environ: dict[str, str]) -> None:
    """`SLACK_WEBHOOK_URL` stands for a sink here too, be its value readable or not."""
    names = [route.sink for route in load(SINKS, environ).routes]
    assert names == ["failures", "archive", *(["slack"] if environ else [])]


@pytest.mark.parametrize("name", ["receiver.toml", "other.toml"])
def test_other_tables_do_not_matter(load: Load, name: str) -> None:
    """A placeholder elsewhere hinders nothing."""
    toml = '[fetch]\nrate = "${RATE}"\n' + SINKS
    rules = load(toml, config=None if name == "receiver.toml" else name)
    assert rules.routes == ROUTES
    assert rules.remarks[0].startswith(f"{name}: fetch.rate: ${{RATE}} stands for RATE")


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ('[[sinks]]\nname = "a"\ntype = "file"\npath = "x"\nmtach = {}', "mtach: is not a key here; did you mean match?"),
        ('[[sinks]]\nname = "a"\ntype = "slack"\nurl = "${U}"\nmtach = {}', "mtach: is not a key here; did you mean match?"),
        ('[[sinks]]\nname = "a"\ntype = "slack"\nurl = "${U}"\nmatch = { satus = "x" }',
         "sinks[0].match[0].satus: is not a key here; did you mean status?"),
        ('[[sinks]]\nname = "a"\ntype = "slack"\nurl = "${U}"\nmatch = { status = "${S}" }',
         "sinks[0].match.status: ${S} stands for S, which the environment does not have; set S or S_FILE"),
        ('[[sinks]]\nname = "a"\ntype = "slack"\nurl = "${U}"\nrate = -1', "sinks[0].rate: must be greater than 0"),
        ('[[sinks]]\nname = "a"\nurl = "${U}"\ntype = ["x"]', "sinks[0].type: is not a type of sink; there are"),
        ('[[sinks]]\nname = "a"\ntype = "slack"', "sinks[0]: needs either url"),
        ('[[sinks]]\nname = "a"\ntype = "redis"\nstream = "x"', "sinks[0].url: is missing; it must be given"),
        ('[[sinks]]\nname = "a"\ntype = "slack"\nurl = "${U"', "sinks[0].url: ${ must be followed by a name and }"),
        ('[[sink]]\nname = "a"', "sink: is not a table here; did you mean sinks?"),
        ("sinks = 1", "sinks: must be a list of tables"),
        ("sinks = [", "is not TOML"),
    ],
)  # fmt: skip
def test_bad_rules(load: Load, toml: str, told: str) -> None:
    """What is wrong is named in one line, be the rest of the sink there or not."""
    with pytest.raises(SettingsError) as caught:
        load(toml, config="other.toml")
    [line] = str(caught.value).splitlines()
    assert told in line
    assert line.startswith("other.toml: ")


def test_no_such_file(load: Load, tmp_path: Path) -> None:
    """A file that is named must be there, and who named it is told; without one there are no rules."""
    for environ, config, named in (({}, "no", "--config"), ({"RECEIVER_CONFIG": "no"}, None, "RECEIVER_CONFIG")):
        with pytest.raises(SettingsError, match=f"^{named}: names a file that does not exist"):
            load_rules(environ, directory=tmp_path, config=config)
    assert load_rules({}, directory=tmp_path) == Rules(())
