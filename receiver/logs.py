"""Log lines: one dotted event name and flat keys, as JSON, or in columns on a terminal. Everything goes to one stream.

structlog's loggers and those of the standard library (uvicorn, alembic, asyncio …) end in the same renderer. Whatever is
logged, a line that holds a callback secret, a signature or a text given to `hide` is written without it: the last wall, for
nobody is to log these in the first place.

`configure` may be called again at any time: loggers that are in use already follow.
"""

import io
import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any, BinaryIO, Final, Literal, cast

import orjson
import structlog
from structlog.contextvars import merge_contextvars
from structlog.typing import EventDict, WrappedLogger

Format = Literal["json", "console"]

HIDDEN: Final = "[hidden]"
SHORTEST_HIDDEN: Final = 8
"""Characters: anything shorter may well be part of ordinary words."""

_ALWAYS_HIDDEN = (r"whsec_[A-Za-z0-9+/=_.-]+", r"(?<![0-9a-fA-F])[0-9a-fA-F]{64}(?![0-9a-fA-F])")
_TALKATIVE = ("uvicorn", "alembic", "receiver")
"""Loggers of the standard library that follow our level. Others tell their warnings only: httpx logs whole addresses at `info`,
and at `debug` there are headers and bodies."""
_JSON = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS


class _Stream:
    """Where lines go: replaceable, and never raising, for a full disk or a closed pipe is no reason to fail a callback."""

    def __init__(self) -> None:
        self.target: IO[str] | IO[bytes] | None = None

    def write(self, line: bytes) -> None:
        target = self.target or sys.stderr
        try:
            binary = target if isinstance(target, io.RawIOBase | io.BufferedIOBase) else getattr(target, "buffer", None)
            if binary is not None:
                binary.write(line)
                binary.flush()
            else:
                cast(IO[str], target).write(line.decode())
        except (OSError, ValueError):
            pass  # ValueError: the stream is closed

    def flush(self) -> None:
        """Nothing is held back."""


class _Hider:
    """Finds hidden texts in a rendered line, and takes them out of the values that it was rendered from."""

    def __init__(self) -> None:
        self._texts: frozenset[str] = frozenset()
        self._set(self._texts)

    def add(self, texts: frozenset[str]) -> None:
        self._set(self._texts | texts)

    def _set(self, texts: frozenset[str]) -> None:
        longest_first = sorted(texts, key=len, reverse=True)
        self._texts = texts
        self._in_values = re.compile("|".join((*_ALWAYS_HIDDEN, *map(re.escape, longest_first))))
        # JSON writes some characters in another way.
        self._escaped = tuple(json.dumps(text, ensure_ascii=False)[1:-1].encode() for text in longest_first)
        self._in_lines = re.compile("|".join(_ALWAYS_HIDDEN).encode())

    def finds(self, line: bytes) -> bool:
        return self._in_lines.search(line) is not None or any(text in line for text in self._escaped)

    def without(self, value: Any) -> Any:
        """The value with `[hidden]` in place of each hidden text. Other values than texts are replaced as a whole."""
        match value:
            case str():
                return self._in_values.sub(HIDDEN, value)
            case Mapping():
                return {self.without(key): self.without(each) for key, each in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self.without(each) for each in value]
        return HIDDEN if self._in_values.search(str(value)) else value
