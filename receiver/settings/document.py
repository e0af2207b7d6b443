"""`receiver.toml`: finds it, reads it, and fills in `${NAME}` from the environment."""

import re
import tomllib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from receiver.settings.environment import Absent, Environment, read_text
from receiver.settings.problems import Problems, Wrong, path_of, shown

DEFAULT: Final = "receiver.toml"
CONFIG: Final = "RECEIVER_CONFIG"
_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|(\$\{)")
"""`$${` stands for `${`, then a placeholder, then one that is not well formed. Any other `$` is itself."""


Location = tuple[str | int, ...]


class Unfilled(NamedTuple):
    """A placeholder that the environment has nothing for: where it stands, and what is wrong."""

    location: Location
    what: str


class Document(NamedTuple):
    """What the file holds, placeholders filled in, and how messages name the file (with `: ` at its end).

    Where a placeholder is `unfilled`, the content has the text as it stands in the file.
    """

    place: str
    content: dict[str, Any]
    unfilled: Sequence[Unfilled] = ()


def read_document(
    given: str | None, environment: Environment, problems: Problems, *, given_as: str = CONFIG
) -> Document:
    """The file that `RECEIVER_CONFIG` names, or `receiver.toml` if there is one, or nothing.

    `given_as` is how problems name where the name of the file comes from.
    """
    path = environment.directory / (given or DEFAULT)
    place = shown(path.name)
    filling = _Filling(f"{place}: ", environment, problems)
    try:
        content: dict[str, Any] = filling.filled(tomllib.loads(read_text(path)), ())
    except Absent:
        content = (
            _bad(problems, given_as, "names a file that does not exist; give the path of a TOML file") if given else {}
        )
    except tomllib.TOMLDecodeError as error:
        content = _bad(problems, place, f"is not TOML: {error}")
    except RecursionError:
        content = _bad(problems, place, "is nested too deeply to be read")
    except ValueError as error:
        reason = (
            (given_as, f"names a file that {error}; give the path of a TOML file") if given else (place, str(error))
        )
        content = _bad(problems, *reason)
    return Document(f"{place}: ", content, filling.unfilled)


def _bad(problems: Problems, setting: str, what: str) -> dict[str, Any]:
    problems.add(setting, what)
    return {}


class _Filling:
    """Fills in placeholders, and notes those for which there is nothing."""

    def __init__(self, place: str, environment: Environment, problems: Problems) -> None:
        self._place = place
        self._environment = environment
        self._problems = problems
        self.unfilled: list[Unfilled] = []

    def filled(self, value: Any, location: Location) -> Any:
        """The value with its placeholders filled in; it stands at `location`."""
        match value:
            case str():
                return self._text(value, location)
            case dict():
                return {key: self.filled(each, (*location, key)) for key, each in value.items()}
            case list():
                return [self.filled(each, (*location, number)) for number, each in enumerate(value)]
        return value

    def _text(self, text: str, location: Location) -> str:
        try:
            return _PLACEHOLDER.sub(self._replacement, text)
        except Wrong as wrong:
            self.unfilled.append(Unfilled(location, f"{wrong.setting} {wrong.what}"))
        except _Malformed:
            self._problems.add(
                self._place + path_of(location),
                "${ must be followed by a name and }; write $${ where ${ itself is meant",
            )
        return text

    def _replacement(self, found: re.Match[str]) -> str:
        name = found[1]
        if found[2]:
            raise _Malformed
        if name is None:
            return "${"
        value = self._environment.text(name, or_file=True)
        if value is None:
            raise Wrong(
                f"${{{name}}}", f"stands for {name}, which the environment does not have; set {name} or {name}_FILE"
            )
        return value


class _Malformed(Exception):
    """A `${` that begins no placeholder."""
