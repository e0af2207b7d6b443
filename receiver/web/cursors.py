"""Where a page ended, as an opaque text that is checked when it comes back.

A cursor goes with the order and the filters that it was made with: what another would show from there on is no continuation
of anything. Its checksum finds what was cut off or changed on the way; it is no signature, for there is nothing to be gained.
"""

import hashlib
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Final, get_args
from uuid import UUID

from receiver.core.matching import Filter
from receiver.store.outbox_desk import DeliveryFilter
from receiver.store.reading import Position, Sort

NOT_OURS: Final = "is not one that this service made; begin without it"
OTHER_FILTERS: Final = "was made with other filters; begin without it"

_LAYOUT: Final = struct.Struct(">B8sq16s")
"""The number of the order, what is left of the filters, microseconds since 1970, the id."""
_OF_DELIVERIES: Final = struct.Struct(">c8sq")
_CHECK_BYTES: Final = 6
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SORTS: Final[tuple[Sort, ...]] = get_args(Sort)


def cursor_for(position: Position, sort: Sort, filter_: Filter) -> str:
    """The text that the next page is asked for with."""
    moment = (position.at - _EPOCH) // _MICROSECOND
    packed = _LAYOUT.pack(_SORTS.index(sort), _digest(filter_), moment, position.evaluation_id.bytes)
    return urlsafe_b64encode(packed + _check(packed)).decode()


def read_cursor(text: str, sort: Sort, filter_: Filter | None) -> Position:
    """Where the page before ended. Raises ValueError, which says what is wrong. Without a filter that is not compared."""
    made_with, filters, moment, key = _LAYOUT.unpack(_checked(text, _LAYOUT))
    if _SORTS[made_with] != sort:
        raise ValueError(f"was made with sort={_SORTS[made_with]}; the two must go together")
    if filter_ is not None and filters != _digest(filter_):
        raise ValueError(OTHER_FILTERS)
    return Position(_EPOCH + moment * _MICROSECOND, UUID(bytes=key))


def delivery_cursor(delivery_id: int, filter_: DeliveryFilter) -> str:
    """The same for a page of deliveries."""
    packed = _OF_DELIVERIES.pack(b"d", _digest(filter_), delivery_id)
    return urlsafe_b64encode(packed + _check(packed)).decode()


def read_delivery_cursor(text: str, filter_: DeliveryFilter) -> int:
    """The delivery with which the page before ended. Raises ValueError, which says what is wrong."""
    kind, filters, delivery_id = _OF_DELIVERIES.unpack(_checked(text, _OF_DELIVERIES))
    if kind != b"d":
        raise ValueError(NOT_OURS)
    if filters != _digest(filter_):
        raise ValueError(OTHER_FILTERS)
    return int(delivery_id)


def _checked(text: str, layout: struct.Struct) -> bytes:
    try:
        content = urlsafe_b64decode(text)
    except ValueError:
        raise ValueError(NOT_OURS) from None
    packed, check = content[:-_CHECK_BYTES], content[-_CHECK_BYTES:]
    # The decoder passes over what it does not know, so that one place would have many texts.
    if len(packed) != layout.size or check != _check(packed) or urlsafe_b64encode(content).decode() != text:
        raise ValueError(NOT_OURS)
    return packed


def _check(packed: bytes) -> bytes:
    return hashlib.blake2b(packed, digest_size=_CHECK_BYTES, person=b"cursor").digest()


def _digest(filter_: Filter | DeliveryFilter) -> bytes:
    """The same for the same words with the same values, in whatever order they are given."""
    given = filter_.given().items() if isinstance(filter_, Filter) else filter_
    words = sorted((name, sorted(map(str, values))) for name, values in given)
    return hashlib.blake2b(repr(words).encode("utf-8", "surrogatepass"), digest_size=8, person=b"filters").digest()
