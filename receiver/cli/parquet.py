"""Verdicts as Parquet, with a schema that is made from the model: docs/export.md. The only module that needs pyarrow.

Parquet has its directory at its end, so that half a file is none. What is written first is a stream of Arrow batches, which can
be cut off and gone on with anywhere between two, and from which the file is made when all is there.
"""

import types
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Union, get_args, get_origin
from uuid import UUID

import msgspec
import orjson
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet
from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

from receiver.core.verdict import Judge, Verdict

ROW_GROUP_BYTES: Final = 2**25
"""Of Arrow's: what is in memory while a group is written. Documents that are longer make it more."""
COST: Final = pa.decimal128(38, 18)
"""As wide as DuckDB and Spark take them."""
_MOST_COST: Final = Decimal(10) ** 20
_PLACES: Final = -18
_SIMPLE: Final = {
    str: pa.string(), UUID: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64(),
    AwareDatetime: pa.timestamp("us", tz="UTC"), dict: pa.string(),
}  # fmt: skip
_OPEN: Final = {"check_summary", "sub_point_results"}
"""Objects without a promised shape: JSON, as it is stored."""


def _type(annotation: Any) -> pa.DataType:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type(get_args(annotation)[0])
    if origin in (types.UnionType, Union):
        [kind] = [each for each in get_args(annotation) if each is not types.NoneType]
        return _type(kind)
    if origin is list:
        return pa.list_(_type(get_args(annotation)[0]))
    if origin in (dict, None):
        return _simple(origin or annotation)
    return _simple(type(get_args(annotation)[0]))  # a Literal's


def _simple(kind: type) -> pa.DataType:
    if issubclass(kind, BaseModel):
        return pa.struct(_fields(kind.model_fields))
    return next(arrow for python, arrow in _SIMPLE.items() if issubclass(kind, python))


def _fields(fields: dict[str, FieldInfo]) -> list[pa.Field]:
    return [pa.field(name, COST if name == "cost" else _type(field.annotation)) for name, field in fields.items()]


SCHEMA: Final = pa.schema(_fields(Verdict.model_fields))
_JUDGE: Final = SCHEMA.field("judges").type.value_type


def _closed(fields: Sequence[pa.Field]) -> list[pa.Field]:
    """Without what is open, which Arrow's reader of JSON would read into."""
    found = [each for each in fields if each.name not in _OPEN]
    judges = pa.field("judges", pa.list_(pa.struct([each for each in _JUDGE if each.name not in _OPEN])))
    return [judges if each.name == "judges" else each for each in found]


_READ: Final = pa.json.ParseOptions(
    explicit_schema=pa.schema(_closed(list(SCHEMA))), unexpected_field_behavior="ignore"
)


_NULL: Final = msgspec.Raw(b"null")


class _JudgePart(msgspec.Struct):
    sub_point_results: msgspec.Raw = _NULL


class _Part(msgspec.Struct):
    """What Arrow's reader does not read."""

    cost: str | None = None
    check_summary: msgspec.Raw = _NULL
    judges: list[_JudgePart] = []


_read_part: Final = msgspec.json.Decoder(_Part)


class Batches:
    """Writes batches. `tell` is told of each verdict whose cost has more digits than the column, where it is null."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def head(self) -> bytes:
        """What a stream of batches begins with."""
        return bytes(SCHEMA.serialize())

    def lines(self, documents: Sequence[str]) -> bytes:
        """A batch of verdicts, which are given as JSON on one line each. Raises ValueError for what is none."""
        parts = [_read_part.decode(document) for document in documents]
        fitting = [
            document if _fits(part.cost) else self._without_cost(document)
            for document, part in zip(documents, parts, strict=True)
        ]
        content = "\n".join(fitting).encode()
        options = pa.json.ReadOptions(use_threads=False, block_size=len(content) + 1)
        table = pa.json.read_json(pa.BufferReader(content), options, _READ).combine_chunks()
        columns = {name: table.column(name).combine_chunks() for name in table.column_names}
        columns["check_summary"] = _texts(part.check_summary for part in parts)
        columns["judges"] = _with_results(columns["judges"], parts)
        batch = pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)
        return bytes(batch.serialize())

    def _without_cost(self, document: str) -> str:
        content = orjson.loads(document)
        self._tell(
            f"{content['evaluation_id']}: the cost {content['cost']} has too many digits for Parquet, and is null"
        )
        return orjson.dumps(content | {"cost": None}).decode()


def _fits(cost: str | None) -> bool:
    if cost is None or len(cost) < 18:
        return True
    value = Decimal(cost)
    exponent = value.normalize().as_tuple().exponent
    return abs(value) < _MOST_COST and isinstance(exponent, int) and exponent >= _PLACES


def _texts(raws: Iterable[msgspec.Raw]) -> pa.Array:
    return pa.array([None if raw == _NULL else bytes(raw).decode() for raw in raws], pa.string())


def _with_results(judges: pa.ListArray, parts: Sequence[_Part]) -> pa.ListArray:
    opinions = judges.flatten()
    columns = {field.name: opinions.field(index) for index, field in enumerate(opinions.type)}
    columns["sub_point_results"] = _texts(judge.sub_point_results for part in parts for judge in part.judges)
    whole = pa.StructArray.from_arrays([columns[name] for name in Judge.model_fields], fields=list(_JUDGE))
    return pa.ListArray.from_arrays(judges.offsets, whole, type=SCHEMA.field("judges").type)


def to_parquet(batches: Path, path: Path) -> None:
    """Makes the file of a stream of batches, a row group at a time."""
    with (
        pa.OSFile(str(batches)) as source,
        pa.ipc.open_stream(source) as stream,
        pa.parquet.ParquetWriter(path, SCHEMA, compression="zstd") as writer,
    ):
        group: list[pa.RecordBatch] = []
        for batch in stream:
            group.append(batch)
            if sum(each.nbytes for each in group) >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(group))
                group = []
        if group:
            writer.write_table(pa.Table.from_batches(group))
