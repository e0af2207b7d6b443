"""What the log is told of messages that fail one by one: an outage is a few lines, however many messages wait for its end."""

from datetime import datetime, timedelta

import structlog

TELL_EVERY = timedelta(minutes=1)
"""Between two lines about one sink's failures."""


class Telling:
    """One line when messages begin to fail, one a minute while they do, one when they no longer do.

    Each failure is kept with its delivery all the same, and is in the log at the level debug.
    """

    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        self._log = log
        self._told_at: datetime | None = None
        self._untold = 0
        self._failures = 0

    def failed(self, now: datetime, **details: object) -> None:
        """One attempt failed. `details` stand in its line; `failures` there is how many there were since the line before."""
        self._untold += 1
        self._failures += 1
        if self._told_at is not None and now - self._told_at < TELL_EVERY:
            self._log.debug("delivery.again", **details)
            return
        self._log.warning("delivery.again", failures=self._untold, **details)
        self._told_at, self._untold = now, 0

    def went_well(self) -> None:
        """One was taken. `failures` in the line is how many there were before, in all; where none was told, nor is this."""
        if self._failures > self._untold:
            self._log.info("delivery.recovered", failures=self._failures)
            self._untold = self._failures = 0
