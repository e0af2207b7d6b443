"""Log lines: one dotted event name and flat keys, as JSON, or in columns on a terminal. Everything goes to one stream.

structlog's loggers and those of the standard library (uvicorn, alembic, asyncio …) end in the same renderer. Whatever is
logged, a line that holds a callback secret, a signature or a text given to `hide` is written without it. That is the last
wall, not the first: nobody is to log these.

`configure` may be called again at any time; loggers that are in use already follow.
"""

import json
import logging
import re
import string
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any, BinaryIO, Final, Literal, cast

import orjson
import structlog
from structlog.contextvars import merge_contextvars
from structlog.processors import format_exc_info
from structlog.typing import EventDict, WrappedLogger

Format = Literal["json", "console"]

HIDDEN: Final = "[hidden]"
SHORTEST_HIDDEN: Final = 8
"""Characters. A shorter text may well be part of ordinary words."""

_ALWAYS_HIDDEN = (r"whsec_[A-Za-z0-9+/=_.-]+", r"(?<![0-9a-fA-F])[0-9a-fA-F]{64}(?![0-9a-fA-F])")
_PREFIX = b"whsec_"
_DIGEST = b"x" * 64
_HEX_AS_X = bytes(ord("x") if chr(code) in string.hexdigits else ord(" ") for code in range(256))
_TALKATIVE = ("uvicorn",)
"""Loggers of the standard library that follow our level. The others tell their warnings only: at `info` httpx logs whole
addresses, and at `debug` there are headers and bodies."""
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_JSON = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS


class _Stream:
    """Where lines go. It never raises: a full disk or a closed pipe is no reason to refuse a callback."""

    def __init__(self) -> None:
        self.target: IO[Any] | None = None
        """None is whatever standard error is at the time."""

    def write(self, line: bytes) -> None:
        target = self.target or sys.stderr
        try:
            if binary := getattr(target, "buffer", None):
                binary.write(line)
                binary.flush()
            elif target:
                target.write(line.decode())
        except (OSError, ValueError):
            pass  # ValueError: it is closed

    def flush(self) -> None:
        """Nothing is held back."""


class _Hider:
    """Finds hidden texts in a rendered line, and takes them out of the values that it was rendered from."""

    def __init__(self) -> None:
        self.hide(())

    def hide(self, texts: tuple[str, ...]) -> None:
        self.texts = tuple(sorted(texts, key=len, reverse=True))  # the longest first: one may be a part of another
        self._in_values = re.compile("|".join((*_ALWAYS_HIDDEN, *map(re.escape, self.texts))))
        as_json = (json.dumps(text, ensure_ascii=False)[1:-1].encode(errors="replace") for text in self.texts)
        self._in_lines = re.compile(b"|".join((_PREFIX, *map(re.escape, as_json))))

    def may_be_in(self, line: bytes) -> bool:
        """Quick, for it looks at every line; it may say yes for no reason."""
        return self._in_lines.search(line) is not None or _DIGEST in line.translate(_HEX_AS_X)

    def without(self, value: Any) -> Any:
        """The value of a JSON document with `[hidden]` in place of each hidden text."""
        match value:
            case str():
                return self._in_values.sub(HIDDEN, value)
            case dict():
                return {self.without(key): self.without(each) for key, each in value.items()}
            case list():
                return [self.without(each) for each in value]
        return HIDDEN if self._in_values.search(str(value)) else value


class _Renderer:
    """Makes a line of an event: the one place through which all of them go."""

    def __init__(self) -> None:
        self.level = _LEVELS["info"]
        self.console: structlog.dev.ConsoleRenderer | None = None
        self.hider = _Hider()

    def __call__(self, logger: WrappedLogger, level: str, fields: EventDict) -> bytes:
        """structlog's one processor."""
        if _LEVELS.get(level, 0) < self.level:
            raise structlog.DropEvent
        return self.line(level, datetime.now(UTC), merge_contextvars(logger, level, fields))

    def line(self, level: str, at: datetime, fields: EventDict) -> bytes:
        """The line without its end. `at` has a time zone."""
        fields = dict(format_exc_info(None, level, fields))
        content = {"timestamp": at, "level": level, "event": fields.pop("event", None), **fields}
        line = _as_json(content)
        if self.hider.may_be_in(line):
            line = _as_json(self.hider.without(orjson.loads(line)))
        return self.console(None, level, orjson.loads(line)).encode() if self.console else line


def _as_json(content: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(content, default=str, option=_JSON)
    except TypeError:  # of orjson's making, also for what `str` raised
        return orjson.dumps({key: _writable(value) for key, value in content.items()}, default=str, option=_JSON)


def _writable(value: Any) -> Any:
    try:
        orjson.dumps(value, default=str, option=_JSON)
    except TypeError:
        match value:
            case str():  # with half a character
                return value.encode(errors="replace").decode()
            case int():  # of more than 64 bits
                return hex(value)
        return f"<{type(value).__name__}>"
    return value


class _Handler(logging.Handler):
    """Takes what the standard library's loggers log: the logger's name is the event, the text its `message`."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # the arguments do not fit the text
            message = str(record.msg)
        fields = merge_contextvars(None, "", {"event": record.name, "message": message, "exc_info": record.exc_info})
        at = datetime.fromtimestamp(record.created, UTC)
        _LINES.msg(_RENDERER.line(record.levelname.lower(), at, fields))


_STREAM = _Stream()
_RENDERER = _Renderer()
_PROCESSORS: Final = [_RENDERER]
_LINES = structlog.BytesLogger(cast("BinaryIO", _STREAM))
_HANDLER = _Handler()


def configure(level: str = "info", form: Format | None = None, stream: IO[Any] | None = None) -> None:
    """Sets up all logging of the process, or changes it.

    `level` is debug, info, warning, error or critical; `form` None is console on a terminal, else json; `stream` None is
    standard error.
    """
    number = _LEVELS[level]
    terminal = _is_terminal(stream or sys.stderr)
    _STREAM.target = stream
    _RENDERER.level = number
    _RENDERER.console = (
        structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=structlog.dev.plain_traceback)
        if form == "console" or (form is None and terminal)
        else None
    )
    structlog.configure(
        # All that can change is inside these, so that a logger may keep them.
        processors=_PROCESSORS,
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        context_class=dict,
        logger_factory=lambda *_: _LINES,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.addHandler(_HANDLER)  # once, however often it is added
    root.setLevel(max(number, logging.WARNING))
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(number)


def _is_terminal(stream: IO[Any] | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it is closed
        return False


def hide(*texts: str) -> None:
    """Keeps these texts out of all lines from now on. Those shorter than `SHORTEST_HIDDEN` are passed over."""
    new = {text for text in texts if len(text) >= SHORTEST_HIDDEN}
    _RENDERER.hider.hide(tuple(new.union(_RENDERER.hider.texts)))
