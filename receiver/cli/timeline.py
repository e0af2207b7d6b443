"""An evaluation's timeline as people read it."""

from collections.abc import Iterator
from datetime import UTC, datetime

from receiver.cli.output import print_table, shown
from receiver.core.timeline import Entry, Timeline


def print_timeline(timeline: Timeline) -> None:
    """A line for each entry: when, what, and all that is known of it."""
    print_table(
        ("at", "what", "how"), ([_moment(entry.at), entry.what, ", ".join(_known(entry))] for entry in timeline.items)
    )


def _known(entry: Entry) -> Iterator[str]:
    for name in type(entry).model_fields:
        value = getattr(entry, name)
        if name in ("at", "what") or value is None or value in ("", [], False):
            continue
        yield f"{name} {_text(value)}"


def _text(value: object) -> str:
    match value:
        case datetime():
            return _moment(value)
        case list():
            return "; ".join(map(str, value))
    return shown(value)


def _moment(moment: datetime) -> str:
    """To the millisecond: most of it happens within a second."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "milliseconds")
