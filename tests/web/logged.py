"""All log lines of a test, and the promise about them: no secret, no signature, and none that had to be hidden."""

import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from receiver import logs

_LOGGERS = ("uvicorn", "alembic")
_DIGEST = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{64}(?![0-9a-fA-F])")


@contextmanager
def logging_as_before() -> Iterator[None]:
    """Leaves logging as it was, whatever is configured meanwhile."""
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, _LOGGERS)]
    levels, handlers = [logger.level for logger in loggers], list(root.handlers)
    configured = dict(structlog.get_config()) if structlog.is_configured() else None
    renderer = (logs._RENDERER.level, logs._RENDERER.console, logs._RENDERER.hider.texts, logs._STREAM.target)
    try:
        yield
    finally:
        structlog.contextvars.clear_contextvars()
        structlog.reset_defaults()
        if configured is not None:
            structlog.configure(**configured)
        logs._RENDERER.level, logs._RENDERER.console, texts, logs._STREAM.target = renderer
        logs._RENDERER.hider.hide(texts)
        if logs._HANDLER not in handlers:
            root.removeHandler(logs._HANDLER)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class Lines:
    """What was logged, at every level, in the form of files."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter([json.loads(line) for line in self.text.splitlines()])

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def of(self, event: str) -> list[dict[str, Any]]:
        """The lines of one event."""
        return [line for line in self if line["event"] == event]

    def above_info(self) -> list[dict[str, Any]]:
        """Warnings and errors."""
        return [line for line in self if line["level"] not in ("debug", "info")]


def shows_no_secret(text: str, secrets: tuple[str, ...]) -> None:
    """Fails if a secret, or anything that might be a signature or its digest, is in the text, or was taken out of it."""
    assert [secret for secret in secrets if secret in text] == []
    assert _DIGEST.findall(text) == []
    assert logs.HIDDEN not in text


@contextmanager
def captured(secrets: tuple[str, ...]) -> Iterator[Lines]:
    """Every line logged meanwhile. No line may show one of the secrets."""
    with logging_as_before():
        lines = Lines()
        logs.configure("debug", "json", lines.stream)
        yield lines
        shows_no_secret(lines.text, secrets)
