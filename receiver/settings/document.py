"""`receiver.toml`: finds it, reads it, and fills in `${NAME}` from the environment."""

import re
import tomllib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from receiver.settings.environment import Absent, Environment, read_text
from receiver.settings.problems import Problems, Wrong, path_of, shown

DEFAULT: Final = "receiver.toml"
_CONFIG = "RECEIVER_CONFIG"
_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|(\$\{)")
"""`$${` stands for `${`, then a placeholder, then one that is not well formed. Any other `$` is itself."""


class Document(NamedTuple):
    """What the file holds, placeholders filled in, and how messages name the file (with `: ` at its end)."""

    place: str
    content: dict[str, Any]


def read_document(given: str | None, environment: Environment, problems: Problems) -> Document:
    """The file that `RECEIVER_CONFIG` names, or `receiver.toml` if there is one, or nothing."""
    path = environment.directory / (given or DEFAULT)
    place = shown(path.name)
    try:
        content = _fill_in_all(tomllib.loads(read_text(path)), f"{place}: ", environment, problems)
    except Absent:
        content = (
            _bad(problems, _CONFIG, "names a file that does not exist; give the path of a TOML file") if given else {}
        )
    except tomllib.TOMLDecodeError as error:
        content = _bad(problems, place, f"is not TOML: {error}")
    except RecursionError:
        content = _bad(problems, place, "is nested too deeply to be read")
    except ValueError as error:
        reason = (_CONFIG, f"names a file that {error}; give the path of a TOML file") if given else (place, str(error))
        content = _bad(problems, *reason)
    return Document(f"{place}: ", content)


def _bad(problems: Problems, setting: str, what: str) -> dict[str, Any]:
    problems.add(setting, what)
    return {}


def _fill_in_all(content: dict[str, Any], place: str, environment: Environment, problems: Problems) -> dict[str, Any]:
    return {key: _fill_in(value, (key,), place, environment, problems) for key, value in content.items()}


def _fill_in(
    value: Any, location: Sequence[str | int], place: str, environment: Environment, problems: Problems
) -> Any:
    match value:
        case str():
            try:
                return _PLACEHOLDER.sub(lambda found: _replacement(found, environment), value)
            except Wrong as wrong:
                problems.add(place + path_of(location), f"{wrong.setting} {wrong.what}")
        case dict():
            return {k: _fill_in(v, (*location, k), place, environment, problems) for k, v in value.items()}
        case list():
            return [_fill_in(v, (*location, i), place, environment, problems) for i, v in enumerate(value)]
    return value


def _replacement(found: re.Match[str], environment: Environment) -> str:
    name = found[1]
    if found[2]:
        raise Wrong("${", "must be followed by a name and }; write $${ where ${ itself is meant")
    if name is None:
        return "${"
    value = environment.text(name, or_file=True)
    if value is None:
        raise Wrong(
            f"${{{name}}}", f"stands for {name}, which the environment does not have; set {name} or {name}_FILE"
        )
    return value
