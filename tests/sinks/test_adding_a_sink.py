"""Every registered kind of sink has all that `docs/adding-a-sink.md` asks for, and the page on sinks tells its options."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from receiver.sinks.base import SinkOptions
from receiver.sinks.registry import OPTIONS
from tests.acceptance.test_brokers import MATRIX
from tests.sinks.destinations import DESTINATIONS

ROOT = Path(__file__).parents[2]
KINDS = sorted(OPTIONS)
PROVIDERS = importlib.metadata.packages_distributions()


def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def distributions(requirements: list[str]) -> set[str]:
    """The names of required distributions as they are imported."""
    names = {re.split(r"[\[<>=!~; ]", line)[0].replace("-", "_").lower() for line in requirements}
    provided = {name for name, by in PROVIDERS.items() if {each.replace("-", "_").lower() for each in by} & names}
    return names | provided


def extra(name: str) -> list[str]:
    """What an extra requires, with what it has from other extras of ours."""
    extras = project()["project"]["optional-dependencies"]
    required: list[str] = []
    for line in extras.get(name, []):
        ours = re.fullmatch(r"runflow-receiver\[(.*)\]", line)
        required += [each for other in ours[1].split(",") for each in extra(other.strip())] if ours else [line]
    return required


def imported(path: Path) -> Iterator[str]:
    """The first word of each import in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def libraries(kind: str) -> set[str]:
    """What a kind's files import beside the standard library, us, and what is always installed."""
    files = [ROOT / f"receiver/sinks/{kind}.py", *(ROOT / "receiver/sinks").glob(f"{kind}_*.py")]
    names = {name for path in files for name in imported(path)}
    return names - sys.stdlib_module_names - {"receiver"} - distributions(project()["project"]["dependencies"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_options_are_in_the_kinds_own_file(kind: str) -> None:
    """And they bear its word, by default."""
    assert OPTIONS[kind].__module__ == f"receiver.sinks.{kind}"
    assert OPTIONS[kind].model_fields["type"].default == kind


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_has_a_description(kind: str) -> None:
    """For whoever reads the schema."""
    fields = OPTIONS[kind].model_fields
    own = SinkOptions.model_fields

    assert [name for name in fields if name not in own and not fields[name].description] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_library_that_it_needs_is_an_extra_of_its_name(kind: str) -> None:
    """And `all` has that extra."""
    needed = libraries(kind)

    assert needed <= distributions(extra(kind))
    assert needed <= distributions(extra("all"))


def test_it_is_found_out_which_kinds_need_a_library() -> None:
    """The check above checks something."""
    found = {
        kind: libraries(kind) for kind in ("amqp", "apprise", "file", "http", "kafka", "nats", "redis", "slack", "sqs")
    }
    assert found == {
        "amqp": {"aio_pika", "aiormq"},
        "apprise": {"apprise"},
        "file": set(),
        "http": {"standardwebhooks"},
        "kafka": {"certifi", "confluent_kafka"},
        "nats": {"nats", "nkeys"},
        "redis": {"redis"},
        "slack": {"slack_sdk"},
        "sqs": {"aiobotocore", "botocore"},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_kept_blind_to_the_others(kind: str) -> None:
    """By the contract on imports that the checks enforce."""
    contracts = {contract["name"]: contract for contract in project()["tool"]["importlinter"]["contracts"]}

    assert f"receiver.sinks.{kind}" in contracts["Sinks are blind to each other"]["modules"]


def test_the_common_suite_runs_over_all() -> None:
    """A kind without its row is a failure, and so is a row without its kind."""
    assert sorted(DESTINATIONS) == KINDS


def test_those_that_reach_over_a_network_are_tried_in_trouble() -> None:
    """But for the two whose services cannot be had here, and which are posted to as `http` is."""
    assert sorted({broker.kind for broker in MATRIX} | {"apprise", "file", "slack"}) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_the_readme_shows_it(kind: str) -> None:
    """A table of settings, and its word where all are named."""
    readme = (ROOT / "README.md").read_text()

    assert re.search(rf'^type += "{kind}"', readme, re.MULTILINE)
    assert f"`{kind}`" in readme.partition("has every option of")[2].partition("what\n")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_on_sinks_says_who_drops_a_repeat(kind: str) -> None:
    """In the table at its beginning."""
    table = (ROOT / "docs/sinks.md").read_text().partition("| sink | dropped by |")[2].partition("\n\n")[0]

    assert re.search(rf"^\| [^|]*`{kind}`", table, re.MULTILINE)


def section(kind: str) -> str:
    """What the page on sinks says of a kind."""
    page = (ROOT / "docs/sinks.md").read_text()
    match = re.search(rf"^## `{kind}`\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert match, f"docs/sinks.md has no section on {kind}"
    return match[1]


def written(field: FieldInfo) -> str:
    """A default as the page writes it."""
    if field.is_required():
        return "required"
    return "none" if field.default in (None, (), {}, "") else f"`{field.default}`"


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_on_sinks_tells_its_options_and_their_defaults(kind: str) -> None:
    """All that are its own or have a default of their own, and no others."""
    common = SinkOptions.model_fields
    expected = {
        name: written(field)
        for name, field in OPTIONS[kind].model_fields.items()
        if name != "type" and (name not in common or field.default != common[name].default)
    }
    table = section(kind).partition("| option |")[2].partition("\n\n")[0]

    assert dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table, re.MULTILINE)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_on_sinks_says_what_is_done_and_what_becomes_of_repeats(kind: str) -> None:
    """The two questions that everybody has."""
    text = section(kind)

    assert "**Done**: " in text
    assert "**Repeats** " in text


def test_the_page_on_adding_names_files_that_are_there() -> None:
    """Nothing in it has moved."""
    page = (ROOT / "docs/adding-a-sink.md").read_text()
    named = set(re.findall(r"`((?:receiver|tests)/[\w/.]+)`", page)) - {
        "receiver/sinks/carrier.py",
        "tests/sinks/test_carrier.py",
    }

    assert len(named) >= 4
    assert [name for name in named if not (ROOT / name).exists()] == []
