"""Reading what others wrote: a field that is missing, null or of another type costs that field, never the whole.

Enumerations are open and unknown fields are passed over here (the raw JSON stays in storage). What was odd is collected, so
that it can be shown.
"""

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Self, cast

import pydantic_core
from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ESCAPE = re.compile(
    rb"(?P<good>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\(?!u[dD][89a-fA-F]).)"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}",
    re.DOTALL,
)
"""An escape in JSON text: a surrogate pair or any other (`good`), or half of a pair."""
_DATE = re.compile(r"[0-9]{4}-")


def read_json(body: bytes) -> Any:
    """What a JSON text says. Raises ValueError, whose message shows nothing of the text.

    A byte order mark, which some proxies put before JSON, is passed over (RFC 8259, section 8.1). Half of a surrogate pair,
    which is what cutting a text inside an emoji leaves, becomes the replacement character: the parser would refuse the whole.
    """
    text = body.removeprefix(_BYTE_ORDER_MARK)
    try:
        return pydantic_core.from_json(text)
    except ValueError:
        return pydantic_core.from_json(_ESCAPE.sub(lambda escape: escape["good"] or rb"\ufffd", text))


def without_nul(text: str) -> str:
    """PostgreSQL's text cannot hold U+0000, which JSON may carry: the replacement character stands in."""
    return text.replace("\0", "\ufffd")


def storable(value: Any) -> Any:
    """JSON of any shape as every database and every writer of JSON takes it.

    Texts are without U+0000. A whole number that needs more than 64 bits is a float, as most readers would make of it. NaN and
    the infinities, for which JSON has no word, and of which NaN is not even equal to itself, are null.
    """
    if isinstance(value, str):
        return without_nul(value)
    if isinstance(value, Mapping):
        return {without_nul(key): storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        value = float(str(value))  # from text, which gives infinity where the number itself would raise
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _must_be_date(value: Any) -> Any:
    """A number, also one in text, would be taken for seconds since 1970."""
    if not isinstance(value, str) or not _DATE.match(value):
        raise ValueError("must be a date and a time as text")
    return value


def in_utc(moment: datetime) -> datetime:
    """Runflow writes `Z` or `+00:00`; a time without a zone can only be meant as UTC."""
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is out of range in UTC") from error


def _note(info: ValidationInfo, oddity: str) -> None:
    if info.context is not None:
        info.context.append(oddity)


def _each(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Keeps the good items of a list with bad ones. What is odd inside an item may be noted twice; `read` tells it once."""
    try:
        return handler(value)
    except ValidationError:
        if not isinstance(value, list):
            raise
    kept: list[Any] = []
    for item in value:
        with suppress(ValidationError):
            kept += handler([item])
    _note(info, f"{info.field_name}: {len(value) - len(kept)} of {len(value)} items are not readable")
    return kept


Text = Annotated[str, AfterValidator(without_nul)]
Number = Annotated[float, AllowInfNan(False)]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""A whole number that a database column can hold."""
Timestamp = Annotated[datetime, Field(strict=False), BeforeValidator(_must_be_date), AfterValidator(in_utc)]
Opaque = Annotated[dict[str, Any], AfterValidator(storable)]
"""An object whose shape Runflow does not promise."""
Good = WrapValidator(_each)
"""Marks a list whose bad items are dropped: `Annotated[list[X], Good]`."""
Texts = Annotated[list[Text], Good]


class Lenient(BaseModel):
    """A model all of whose fields have defaults, to which a field falls back when its value cannot be read."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    @field_validator("*", mode="wrap")
    @classmethod
    def _or_default(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        try:
            return handler(value)
        except ValidationError:
            name = str(info.field_name)
            _note(info, f"{name} is not readable")
            return cls.model_fields[name].get_default(call_default_factory=True, validated_data={})

    @classmethod
    def read(cls, body: bytes) -> tuple[Self, list[str]]:
        """The model read from JSON, and what was odd, each once. Raises ValueError if it is not a JSON object."""
        with suppress(ValidationError):
            return cast("Self", _strict(cls).validate_json(body)), []
        oddities: list[str] = []
        match read_json(body):
            case dict() as content:
                return cls.model_validate(content, context=oddities), list(dict.fromkeys(oddities))
        raise ValueError("JSON, but not an object")


@cache
def _strict(model: type[Lenient]) -> pydantic_core.SchemaValidator:
    """Reads what has nothing odd into the same model, in a third of the time; whatever has is an error here."""
    return pydantic_core.SchemaValidator(_without_leniency(model.__pydantic_core_schema__), _use_prebuilt=False)


def _without_leniency(schema: Any) -> Any:
    """A schema without its wrappings, which are `Good` and `_or_default` and nothing else."""
    if isinstance(schema, list):
        return [_without_leniency(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "function-wrap":
        return _without_leniency(schema["schema"])
    return {name: _without_leniency(each) for name, each in schema.items()}
