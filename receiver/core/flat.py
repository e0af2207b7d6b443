"""Verdicts as lines: whole ones as NDJSON, flat ones as CSV (RFC 4180) that a spreadsheet may open: docs/export.md.

A spreadsheet takes a cell that begins with `=` and some other characters for a formula, and texts here come from anyone.
Such a cell gets an apostrophe before it, and so does one that begins with an apostrophe: to take one off the front of any
cell that has one gives back what was there. Numbers are never touched.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast, get_args

import msgspec

from receiver.core.evaluation import COST
from receiver.core.verdict import NOT_IN_LISTS, Verdict

COLUMNS: Final = tuple(name for name in Verdict.model_fields if name not in NOT_IN_LISTS)
"""The fields of the items of the API's list, in the order of docs/verdict.md."""
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""Without it Excel takes UTF-8 for something else. Python's `utf-8-sig`, pandas, DuckDB and R pass over it."""
APOSTROPHE: Final = "'"

_FORMULA: Final = re.compile(r"['\t\r\n]|\s*[=+\-@＝＋－＠]")
"""What begins a formula in Excel, LibreOffice or Google Sheets, the wide forms too; or is an apostrophe already."""
_NUMBER: Final = re.compile(COST)


def _kept_as(name: str) -> Any:
    """What a field is read as: a list stays the JSON that it is."""
    annotation = Verdict.model_fields[name].annotation
    kinds = set(get_args(annotation)) or {annotation}
    if any(getattr(kind, "__origin__", kind) is list for kind in (annotation, *kinds)):
        return msgspec.Raw
    if bool in kinds:
        return bool | None
    return int | float | None if kinds & {int, float} or name == "schema_version" else str | None


_Row = msgspec.defstruct("_Row", [(name, _kept_as(name), None) for name in COLUMNS])
_read = msgspec.json.Decoder(_Row)
"""Passes over the fields that have no column without making anything of them."""
_COST: Final = COLUMNS.index("cost")


def ndjson_lines(documents: Iterable[str]) -> bytes:
    """A line for each verdict, as it is stored: JSON has no line ends but escaped ones."""
    return "".join([f"{document}\n" for document in documents]).encode()


def csv_head() -> bytes:
    """The first line, behind the byte order mark."""
    return BYTE_ORDER_MARK + _written([COLUMNS])


def csv_lines(documents: Iterable[str]) -> bytes:
    """A line for each verdict, which is given as JSON. Raises ValueError for what is none."""
    return _written(_cells(document) for document in documents)


def _written(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


def _cells(document: str) -> list[Any]:
    values = msgspec.structs.astuple(_read.decode(document))
    cells = [value if value is None else _cell(value) for value in values]
    cost = cast("str | None", values[_COST])
    if cost is not None and _NUMBER.fullmatch(cost):
        cells[_COST] = cost
    return cells


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        # Most texts begin with a letter, and asking for that is quicker than the expression.
        return APOSTROPHE + value if not value[:1].isalnum() and _FORMULA.match(value) else value
    if isinstance(value, bool):
        return "true" if value else "false"
    return bytes(value).decode() if isinstance(value, msgspec.Raw) else value
