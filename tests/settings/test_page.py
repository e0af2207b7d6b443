"""docs/settings.md names what the code knows and nothing else, and deploy/receiver.example.toml loads."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from receiver.core.matching import WORDS
from receiver.settings import Settings
from receiver.settings.load import TABLES
from receiver.settings.names import NAMES
from receiver.sinks.base import SinkOptions
from receiver.sinks.registry import OPTIONS

Load = Callable[..., Settings]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
EXAMPLE = (ROOT / "deploy" / "receiver.example.toml").read_text(encoding="utf-8")
EXAMPLE_ENVIRONMENT = {
    "REDIS_PASSWORD": "p",
    "RETOUCHING_SECRET": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "CHANNEL_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/x",
}


def _rows(heading: str) -> dict[str, list[str]]:
    """The table right under a heading, by its first column, which is in backticks."""
    section = re.split(r"^#+ ", PAGE.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    cells = [re.split(r" \| ", line.strip("| ")) for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in cells}


def _defaults(fields: Mapping[str, FieldInfo]) -> Iterator[tuple[str, str]]:
    for key, field in fields.items():
        yield key, "required" if field.is_required() else _default(field.default)


def _default(value: Any) -> str:
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if value else "none"


def test_environment_names() -> None:
    """Every name of the environment is in the page, and every name in the page is one; secrets are marked as such."""
    assert {name: row[0] for name, row in _rows("Environment").items()} == {
        name: "yes" if row.secret else "no" for name, row in NAMES.items()
    }


def test_names_in_passing() -> None:
    """No other name of ours is anywhere in the page."""
    mentioned = set(re.findall(r"\b(?:RECEIVER|RUNFLOW|DATABASE|SLACK)_[A-Z_]+\b", PAGE))
    assert {name.removesuffix("_FILE") for name in mentioned} == set(NAMES)


@pytest.mark.parametrize("table", TABLES)
def test_tables(table: str) -> None:
    """The page has each table with its keys and their defaults."""
    documented = {key: row[0] for key, row in _rows(f"`[{table}]`").items()}
    assert documented == dict(_defaults(TABLES[table].model_fields))


def test_keys_of_every_sink() -> None:
    """The page has the keys that all sinks share, with their defaults."""
    documented = {key: row[0] for key, row in _rows("`[[sinks]]`").items()}
    assert documented == dict(_defaults(SinkOptions.model_fields)) | {"match": "everything"}


@pytest.mark.parametrize("kind", OPTIONS)
def test_keys_of_a_type(kind: str) -> None:
    """The page has each type of sink with the keys that it has beside, or with another default than, the shared ones."""
    shared = dict(_defaults(SinkOptions.model_fields))
    own = {
        key: default
        for key, default in _defaults(OPTIONS[kind].model_fields)
        if key != "type" and shared.get(key) != default
    }
    assert {key: row[0] for key, row in _rows(f'`type = "{kind}"`').items()} == own


def test_no_other_tables() -> None:
    """The page has no table and no type that the code does not have."""
    assert set(re.findall(r"^### `\[(\w+)\]`", PAGE, re.MULTILINE)) == set(TABLES)
    assert set(re.findall(r'^#### `type = "(\w+)"`', PAGE, re.MULTILINE)) == set(OPTIONS)


def test_words_of_match() -> None:
    """The page has every word that a `match` may hold."""
    assert set(_rows("`match`")) == set(WORDS)


@pytest.mark.parametrize("model", [*TABLES.values(), *OPTIONS.values()])
def test_keys_are_described(model: type[BaseModel]) -> None:
    """Each key says in the code what it is."""
    assert [key for key, field in model.model_fields.items() if not field.description and key != "type"] == []


def test_examples(load: Load) -> None:
    """The example file and the examples in the page are right."""
    assert [sink.name for sink in load(EXAMPLE_ENVIRONMENT, EXAMPLE).sinks] == [
        "archive",
        "headshots",
        "retouching",
        "channel",
    ]
    examples = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert examples
    for example in examples:
        assert load({}, example.replace("${SLACK_WEBHOOK_URL}", EXAMPLE_ENVIRONMENT["CHANNEL_WEBHOOK_URL"])).sinks


def test_example_shows_defaults(load: Load) -> None:
    """The limits and the fetch table of the example are the defaults."""
    settings = load(EXAMPLE_ENVIRONMENT, EXAMPLE)
    assert (settings.fetch, settings.limits) == (Settings().fetch, Settings().limits)
