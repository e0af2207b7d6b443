"""Gathers what is wrong, so that all of it is told at once: one line for each setting, which never shows its value."""

import difflib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from receiver.errors import SettingsError

Model = TypeVar("Model", bound=BaseModel)

_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
_SUBJECT = re.compile(r"^\w+ should ")
_OUR_OWN = "Value error, "
_MESSAGES: Final[Mapping[str, str]] = {
    "missing": "is missing; it must be given",
    "string_type": "must be a text in quotes",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "dict_type": "must be a table",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
}
"""What pydantic says in words for programmers, said in words for people who write TOML."""


class Wrong(Exception):
    """One setting is wrong: which, and in what way."""

    def __init__(self, setting: str, what: str) -> None:
        super().__init__(f"{setting}: {what}")
        self.setting, self.what = setting, what


class Problems:
    """All that is wrong so far, one line a setting; the first line about a setting is the one that is kept."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    def add(self, setting: str, what: str) -> None:
        """`what` tells what is wrong and what would be right."""
        self._lines.setdefault(setting, " ".join(what.split()))

    def but(self, settings: Collection[str]) -> Iterator[tuple[str, str]]:
        """Which settings are wrong, but for these, and in what way."""
        return ((setting, what) for setting, what in self._lines.items() if setting not in settings)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._lines)

    def texts(self) -> list[str]:
        """What is wrong, without the settings' names."""
        return list(self._lines.values())

    def lines(self) -> list[str]:
        """A line for each setting that something is wrong with, in the order in which that was found."""
        return [f"{setting}: {what}" for setting, what in self._lines.items()]

    def raise_if_any(self) -> None:
        """Raises SettingsError with these lines."""
        if self._lines:
            raise SettingsError("\n".join(self.lines()))


def shown(word: str) -> str:
    """A name that someone else chose, on one line whatever it holds."""
    return word if _PLAIN.fullmatch(word) else json.dumps(word)


def path_of(parts: Iterable[str | int]) -> str:
    """`("sinks", 1, "url")` as `sinks[1].url`."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{shown(part)}" if path else shown(part)
    return path


def unknown(word: str, words: Sequence[str]) -> str:
    """What to say of a word that is not one of these: the nearest of them, or all."""
    near = difflib.get_close_matches(word, words, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(words)}"


def validate(
    model: type[Model], values: Any, place: str, start: Sequence[str | int], problems: Problems
) -> Model | None:
    """The model made of the values, or None with a line for each thing that is wrong.

    `place` names the file or is empty; `start` is where the values stand in it.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        # Without the input and the context, which hold values.
        details = error.errors(include_url=False, include_context=False, include_input=False)
    for detail in details:
        problems.add(
            place + path_of([*start, *detail["loc"]]), _explain(detail["type"], detail["msg"], detail["loc"], model)
        )
    return None


def _explain(kind: str, message: str, location: Sequence[str | int], model: type[BaseModel]) -> str:
    if kind == "extra_forbidden":
        return f"is not a key here; {unknown(str(location[-1]), _keys(model, location))}"
    return _MESSAGES.get(kind) or _SUBJECT.sub("must ", message.removeprefix(_OUR_OWN))


def _keys(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys of the table in which the last part of the location stands."""
    for part in location[:-1]:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first model that an annotation such as `tuple[Filter, ...] | None` names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for each in get_args(annotation) if (model := _model_in(each))), None)
