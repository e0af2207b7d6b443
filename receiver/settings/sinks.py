"""`[[sinks]]`: each by the options of its type; and `SLACK_WEBHOOK_URL`, which stands for one."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import SecretStr

from receiver.settings.document import Document
from receiver.settings.problems import Problems, path_of, unknown, validate
from receiver.settings.slack import SLACK, Slack
from receiver.sinks.base import SinkOptions

OptionsByType = Mapping[str, type[SinkOptions]]

SHORTCUT: Final = "SLACK_WEBHOOK_URL"
SLACK_MATCH: Final = [{"overall_passed": ["false"]}, {"status": "failed"}]


def read_sinks(document: Document, slack: Slack, options: OptionsByType, problems: Problems) -> tuple[SinkOptions, ...]:
    """All sinks that are as they should be; whatever is not becomes a problem."""
    shortcut = slack.shortcut
    tables = sink_tables(document, problems, with_shortcut=shortcut is not None)
    given = [slack.completed(table) for table in tables]
    read = [read_sink(table, index, document.place, options, problems) for index, table in enumerate(given)]
    if shortcut is not None:
        read.append(_read_shortcut(shortcut, options, problems))
    return tuple(sink for sink in read if sink)


def sink_tables(document: Document, problems: Problems, *, with_shortcut: bool) -> list[Any]:
    """What stands under `[[sinks]]`, as it is; that they are tables, and no two have one name, is looked at here."""
    tables = document.content.get("sinks", [])
    if not isinstance(tables, list):
        problems.add(f"{document.place}sinks", "must be a list of tables; write [[sinks]] above each of them")
        return []
    _check_names(tables, document.place, problems)
    if with_shortcut and SLACK in sink_names(document, None):
        problems.add(SHORTCUT, f"stands for a sink named {SLACK}, which {document.place}sinks has too; rename that one")
    return tables


def sink_names(document: Document, shortcut: SecretStr | None) -> list[str]:
    """The names that are given, be the rest of the sink right or wrong."""
    tables = document.content.get("sinks", [])
    names = [table.get("name") for table in tables if isinstance(table, dict)] if isinstance(tables, list) else []
    return [name for name in names if isinstance(name, str)] + ([SLACK] if shortcut is not None else [])


def read_sink(table: Any, index: int, place: str, options: OptionsByType, problems: Problems) -> SinkOptions | None:
    """One table of them, or None with a line for each thing that is wrong."""
    here = ("sinks", index)
    if not isinstance(table, dict):
        problems.add(place + path_of(here), "must be a table; write [[sinks]] above it")
        return None
    kind = table.get("type")
    if isinstance(kind, str) and kind in options:
        return validate(options[kind], table, place, here, problems)
    problems.add(place + path_of((*here, "type")), _no_type(kind, options))
    return None


def _no_type(kind: Any, options: OptionsByType) -> str:
    if kind is None:
        return f"is missing; {unknown('', sorted(options))}"
    return f"is not a type of sink; {unknown(kind if isinstance(kind, str) else '', sorted(options))}"


def _check_names(tables: list[Any], place: str, problems: Problems) -> None:
    first: dict[str, int] = {}
    for index, table in enumerate(tables):
        name = table.get("name") if isinstance(table, dict) else None
        if isinstance(name, str) and first.setdefault(name, index) != index:
            problems.add(
                place + path_of(("sinks", index, "name")),
                f"is the name of {path_of(('sinks', first[name]))} too; give each sink a name of its own",
            )


def _read_shortcut(url: SecretStr, options: OptionsByType, problems: Problems) -> SinkOptions | None:
    table = {"name": SLACK, "type": SLACK, "url": url.get_secret_value(), "match": SLACK_MATCH}
    found = Problems()
    sink = validate(options[SLACK], table, "", (), found)
    for what in found.texts():
        problems.add(SHORTCUT, what)
    return sink
