"""Reads names of the environment, and the files that `NAME_FILE` names as containers are given their secrets."""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from receiver.settings.problems import Wrong, shown, unknown

MOST_BYTES: Final = 1024 * 1024
"""No file of settings is longer; a device or a log named by mistake is."""

_FILE = "_FILE"
_SERVICE_LINK = re.compile(r"RECEIVER(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
"""What Kubernetes puts into every pod beside a Service whose name begins with `receiver`."""
_NEARLY_THE_SAME = 0.85


class Absent(ValueError):
    """There is no such file."""


class Environment:
    """The environment that was passed in, and the folder from which relative paths start."""

    def __init__(self, environ: Mapping[str, str], directory: Path) -> None:
        self._environ = environ
        self.directory = directory

    def is_set(self, name: str) -> bool:
        """Whether the name is there, be it empty."""
        return name in self._environ

    def given_as(self, name: str) -> str:
        """The name that was given: `NAME`, or `NAME_FILE` if the value came from there."""
        return name if self._plain(name) else name + _FILE

    def text(self, name: str, *, or_file: bool) -> str | None:
        """The value without white space around it, or None when it is unset or empty.

        With `or_file` the value may also be in the file that `NAME_FILE` names. Raises Wrong for a value that is not text,
        for both at once, and for a file that is empty or cannot be read.
        """
        value = self._plain(name)
        file = self._plain(name + _FILE) if or_file else None
        if file is None:
            return value
        if value is not None:
            raise Wrong(name, f"is given, and {name}{_FILE} too; give one of them")
        try:
            value = read_text(self.directory / file).strip()
        except ValueError as error:
            raise Wrong(name + _FILE, f"names a file that {error}; give the path of one that holds the value") from None
        if not value:
            raise Wrong(name + _FILE, "names a file that is empty; give the path of one that holds the value")
        return value

    def _plain(self, name: str) -> str | None:
        value = self._environ.get(name, "").strip()
        try:
            value.encode()
        except UnicodeEncodeError:
            value = "\0"
        if "\0" in value:
            raise Wrong(name, "is not text in UTF-8; give it as such")
        return value or None

    def unknown_names(self, names: Sequence[str]) -> Iterator[str]:
        """A line for each name that looks like one of ours and is none. Others may set such names, so it is no error."""
        for name in sorted(set(self._environ).difference(names)):
            if _SERVICE_LINK.fullmatch(name):
                yield f"{name}: is set by Kubernetes and passed over; enableServiceLinks: false in the pod keeps it away"
            elif name.startswith("RECEIVER_"):
                yield f"{shown(name)}: is not a setting and is passed over; {unknown(name, names)}"
            elif name.startswith("RUNFLOW_") and (near := get_close_matches(name, names, 1, _NEARLY_THE_SAME)):
                yield f"{shown(name)}: is not a setting and is passed over; did you mean {near[0]}?"


def read_text(path: Path) -> str:
    """A file of settings. Raises Absent, or ValueError with the reason, which does not show the path."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise Absent("does not exist") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise ValueError(f"cannot be read ({reason or 'not a path'})") from None
    if len(content) > MOST_BYTES:
        raise ValueError("is longer than 1 MiB")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ValueError("is not text in UTF-8")
    return text
