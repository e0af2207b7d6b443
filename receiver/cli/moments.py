"""A moment as people give it to a command: a time, a day, or how long ago it was."""

import re
from datetime import UTC, datetime, timedelta

import click

from receiver.core.lenient import in_utc

_AGO = re.compile(r"(\d{1,6})(m|h|d)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class _Moment(click.ParamType[datetime]):
    name = "time"

    def convert(self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            if ago := _AGO.fullmatch(value):
                return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            return in_utc(datetime.fromisoformat(value))
        except (ValueError, OverflowError):
            self.fail("must be a time such as 2026-11-25T12:00:00Z, a day, or 90m, 12h, 7d ago", param, ctx)


MOMENT = _Moment()
"""RFC 3339, UTC where it says no offset; or minutes, hours, days ago."""
