"""Puts the settings together: environment, files and `receiver.toml` in, one checked value out."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from receiver.settings.document import Document, read_document
from receiver.settings.environment import Environment
from receiver.settings.model import Settings
from receiver.settings.names import NAMES, Name
from receiver.settings.problems import Problems, Wrong, path_of, unknown, validate
from receiver.settings.sinks import read_sinks, sink_names
from receiver.settings.slack import Slack, slack_remarks
from receiver.settings.tables import (
    AlertsOptions,
    ApiOptions,
    FetchOptions,
    LimitsOptions,
    ReconcileOptions,
    RetentionOptions,
)
from receiver.settings.texts import is_plain_beyond_loopback
from receiver.sinks.registry import OPTIONS

TABLES: Final[Mapping[str, type[BaseModel]]] = {
    "fetch": FetchOptions,
    "limits": LimitsOptions,
    "api": ApiOptions,
    "retention": RetentionOptions,
    "reconcile": ReconcileOptions,
    "alerts": AlertsOptions,
}
_LATER: Final = ("retention", "reconcile", "alerts")
_NO_EFFECT: Final = "has no effect in this version"


def load_settings(environ: Mapping[str, str], *, directory: Path, with_file: bool = True) -> Settings:
    """Reads and checks everything. Relative paths of files that it reads start at `directory`.

    Without the file there is what the environment says, and no sinks but the one of `SLACK_WEBHOOK_URL`.

    Raises SettingsError with one line for each setting that is wrong. No line, and no value that the error carries, shows what
    a setting holds.
    """
    problems = Problems()
    environment = Environment(environ, directory)
    fields = _read_names(environment, problems)
    given = set(fields)
    shortcut = fields.pop("slack_webhook_url", None)
    config = fields.pop("config", None)
    document = read_document(config, environment, problems) if with_file else Document("", {})
    for location, what in document.unfilled:
        problems.add(document.place + path_of(location), what)
    fields |= _read_tables(document, problems)
    check_tables(document, problems)
    can_rate = {"slack_signing_secret", "api_key"} <= given
    slack = Slack(shortcut, fields.get("slack_bot_token"), can_rate=can_rate)
    fields["sinks"] = read_sinks(document, slack, OPTIONS, problems)
    _check_alerts(document, fields, sink_names(document, shortcut), problems)
    problems.raise_if_any()
    settings = Settings(**fields)
    return settings.model_copy(
        update={"warnings": (*environment.unknown_names(_all_names()), *_remarks(settings, given, document))}
    )


def _all_names() -> list[str]:
    return [each for name, row in NAMES.items() for each in ([name, f"{name}_FILE"] if row.secret else [name])]


def _read_names(environment: Environment, problems: Problems) -> dict[str, Any]:
    fields = {}
    for name, row in NAMES.items():
        try:
            value = read_name(name, row, environment)
        except Wrong as wrong:
            problems.add(wrong.setting, wrong.what)
        else:
            if value is not None:
                fields[row.field] = value
    return fields


def read_name(name: str, row: Name, environment: Environment) -> Any:
    """The value of one name, or None where it is not given. Raises `Wrong`."""
    text = environment.text(name, or_file=row.secret)
    if text is None:
        if environment.is_set(name) and not row.may_be_empty:
            raise Wrong(name, "is empty; give the value that the service which issued it shows, or unset it")
        return None
    try:
        return row.read(text)
    except ValueError as error:
        raise Wrong(environment.given_as(name), str(error)) from None


def _read_tables(document: Document, problems: Problems) -> dict[str, BaseModel]:
    """The tables that are given and right."""
    read = {}
    for key, values in document.content.items():
        if key in TABLES and (table := validate(TABLES[key], values, document.place, (key,), problems)):
            read[key] = table
    return read


def check_tables(document: Document, problems: Problems) -> None:
    """Names each table that is none of ours."""
    for key in document.content:
        if key not in TABLES and key != "sinks":
            problems.add(document.place + path_of((key,)), f"is not a table here; {unknown(key, ['sinks', *TABLES])}")


def _check_alerts(document: Document, fields: Mapping[str, Any], names: list[str], problems: Problems) -> None:
    for index, name in enumerate(fields["alerts"].to if "alerts" in fields else ()):
        if name not in names:
            problems.add(
                document.place + path_of(("alerts", "to", index)), "is not the name of a sink; give names of [[sinks]]"
            )


def _remarks(settings: Settings, given: set[str], document: Document) -> Iterator[str]:
    """Lines about settings that are right by themselves."""
    for name, row in NAMES.items():
        if row.later and row.field in given:
            yield f"{name}: {_NO_EFFECT}"
    for table in _LATER:
        if table in document.content:
            yield f"{document.place}{table}: {_NO_EFFECT}"
    yield from slack_remarks(settings.sinks, settings.slack_bot_token, settings.slack_signing_secret, settings.api_key)
    if settings.database_pooler and settings.database_kind == "sqlite":
        yield "DATABASE_POOLER: has no effect on SQLite"
    if is_plain_beyond_loopback(settings.api_url):
        yield "RUNFLOW_API_URL: is http, so that the API key can be read on the way; give an https address"
