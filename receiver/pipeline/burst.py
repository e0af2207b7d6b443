"""A burst: what follows closely is sent together. It waits unclaimed, so a process that dies meanwhile holds nothing."""

from collections import deque
from datetime import datetime, timedelta

from receiver.sinks.base import Gathering


class Burst:
    """Decides, for one sink in one process, how much may be claimed and when: one message, or all that has gathered.

    What it knows it keeps in memory. A process that takes the sink over begins anew: a few more messages by themselves.
    """

    def __init__(self, gathering: Gathering, batch: int) -> None:
        self._rules = gathering
        self._batch = batch
        self._begun: deque[datetime] = deque(maxlen=gathering.after)
        """When the newest sends began, as many as decide."""
        self._wait = gathering.first
        self._since: datetime | None = None

    @property
    def longest_wait(self) -> timedelta:
        """For how long it may be that nothing is claimed although something is due."""
        return self._wait

    def waits_until(self, now: datetime) -> datetime | None:
        """When what gathers now is to be sent, if that is in the future."""
        until = None if self._since is None else self._since + self._wait
        return until if until is not None and until > now else None

    def permits(self, now: datetime) -> int:
        """How many of what is due may be claimed now; if none, `waits_until` says when."""
        if self._is_quiet(now):
            self._wait, self._since = self._rules.first, None
            return 1
        if self._since is None:
            self._since = now
        return self._batch if self.waits_until(now) is None else 0

    def _is_quiet(self, now: datetime) -> bool:
        few = len(self._begun) < self._rules.after
        return self._since is None and (few or self._begun[0] <= now - self._rules.within)

    def claimed(self, count: int, now: datetime) -> None:
        """So many were claimed and are sent together. After as many as fit there is more, which has waited as long."""
        if not count:
            return
        self._begun.append(now)
        if count > 1:  # it goes on until it is quiet, and not until there is room for one by itself
            self._begun.extend([now] * self._rules.after)
        if self._since is not None and count < self._batch:
            self._since = None
            self._wait = min(self._wait * 2, self._rules.longest) if count > 1 else self._rules.first
