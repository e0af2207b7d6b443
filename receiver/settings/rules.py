"""The rules of all sinks without the rest of them: which sink takes what. Nothing that only sending needs must be there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import SecretStr, TypeAdapter

from receiver.core.matching import Filter
from receiver.core.routing import Route
from receiver.settings.document import CONFIG, Document, read_document
from receiver.settings.environment import Environment
from receiver.settings.load import check_tables, read_name
from receiver.settings.names import NAMES
from receiver.settings.problems import Problems, Wrong, path_of
from receiver.settings.sinks import SHORTCUT, SLACK_MATCH, read_sink, sink_tables
from receiver.settings.slack import SLACK, Slack
from receiver.sinks.base import SinkOptions
from receiver.sinks.registry import OPTIONS

_OF_A_RULE: Final = frozenset({"name", "type", "match"})
_NOT_NEEDED: Final = "rules are tried without it"


class Rules(NamedTuple):
    """What each sink takes, in the order of the sinks; `remarks` are lines about what sending would miss."""

    routes: tuple[Route, ...]
    remarks: tuple[str, ...] = ()


def load_rules(environ: Mapping[str, str], *, directory: Path, config: str | None = None) -> Rules:
    """The rules of `config`, or else of the file that settings are read from; and of `SLACK_WEBHOOK_URL`.

    Each sink is checked as `load_settings` does it, so that a mistake in a key is told and does not widen a rule. A `${NAME}`
    that cannot be filled in is a remark, unless it stands in a name, a type or a match. Raises SettingsError with one line
    for each thing that is wrong.
    """
    problems, remarks = Problems(), Problems()
    environment = Environment(environ, directory)
    document = _document(config, environment, problems)
    has_shortcut = _has_shortcut(environment, remarks)
    check_tables(document, problems)
    absent = _absent(document, problems, remarks)
    tables = sink_tables(document, problems, with_shortcut=has_shortcut)
    routes = [
        _read_rule(table, index, document.place, absent.get(index, set()), problems)
        for index, table in enumerate(tables)
    ]
    problems.raise_if_any()
    if has_shortcut:
        routes.append(Route(SLACK, TypeAdapter(tuple[Filter, ...]).validate_python(SLACK_MATCH)))
    return Rules(tuple(route for route in routes if route), tuple(remarks.lines()))


def _document(config: str | None, environment: Environment, problems: Problems) -> Document:
    if config is not None:
        return read_document(config, environment, problems, given_as="--config")
    try:
        named = read_name(CONFIG, NAMES[CONFIG], environment)
    except Wrong as wrong:
        problems.add(wrong.setting, wrong.what)
        return Document("", {})
    return read_document(named, environment, problems)


def _has_shortcut(environment: Environment, remarks: Problems) -> bool:
    """Whether there is a sink of `SLACK_WEBHOOK_URL`: its rule is known, be its address right or wrong."""
    try:
        return read_name(SHORTCUT, NAMES[SHORTCUT], environment) is not None
    except Wrong as wrong:
        remarks.add(wrong.setting, f"{wrong.what} ({_NOT_NEEDED})")
        return True


def _absent(document: Document, problems: Problems, remarks: Problems) -> dict[int, set[str]]:
    """By the number of a sink, its options that cannot be filled in."""
    absent: dict[int, set[str]] = {}
    for location, what in document.unfilled:
        setting = document.place + path_of(location)
        match location:
            case ("sinks", int() as index, str() as option, *_) if option not in _OF_A_RULE:
                absent.setdefault(index, set()).add(option)
                remarks.add(setting, f"{what} ({_NOT_NEEDED})")
            case ("sinks", *_):
                problems.add(setting, what)
            case _:
                remarks.add(setting, f"{what} ({_NOT_NEEDED})")
    return absent


_NO_BOT = Slack(token=SecretStr("xoxb-not-needed"))
"""A rule needs no token."""


def _read_rule(table: Any, index: int, place: str, absent: set[str], problems: Problems) -> Route | None:
    found = Problems()
    there = {key: value for key, value in table.items() if key not in absent} if absent else table
    sink = read_sink(_NO_BOT.completed(there), index, place, OPTIONS, found)
    # What is missing is known, and options that go together cannot be looked at.
    here = place + path_of(("sinks", index))
    for setting, what in found.but({here, *(f"{here}.{option}" for option in absent)} if absent else ()):
        problems.add(setting, what)
    if problems:
        return None
    rule = sink or SinkOptions.model_validate({key: there[key] for key in _OF_A_RULE & there.keys()})
    return Route(rule.name, rule.match, takes_samples=OPTIONS[rule.type].takes_samples)
