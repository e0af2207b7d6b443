"""Work that is claimed before there is room for it, so that one claim takes many and no slot waits for the database."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Work = TypeVar("Work")

AHEAD_SECONDS = 0.5
"""As much is claimed ahead as the slots are likely to begin within this time: nothing while the other side is slow."""
KEPT_SECONDS = 5.0
"""How long what was claimed may wait for a slot. Then it is given back and not begun, for its lease is meant for the work."""
SHORTEST_LOOK = 0.5
MOST_AHEAD = 250
_SHARE_OF_NEWEST = 0.1


class Ahead(Generic[Work]):
    """`slots` pieces of work at once, and a queue of what was claimed for them.

    `begin` starts a piece, which holds its slot in `slot()`; `may_begin` says whether that is right just now. `hungry` is
    called when a piece has ended and it is time to claim more, and when something has waited for too long and is to be given
    back. No more than `most` wait in the queue.
    """

    def __init__(
        self,
        slots: int,
        begin: Callable[[Work], None],
        *,
        may_begin: Callable[[], bool],
        hungry: Callable[[], None],
        most: int = MOST_AHEAD,
    ) -> None:
        self._slots = slots
        self._most = most
        self._begin = begin
        self._may_begin = may_begin
        self._hungry = hungry
        self._taken = 0
        self._queue: deque[tuple[float, Work]] = deque()
        self._seconds: float | None = None
        self._may_be_more = True
        self._timer: asyncio.TimerHandle | None = None

    @property
    def free(self) -> int:
        """Slots for which there is nothing in the queue."""
        return max(self._slots - self._taken - len(self._queue), 0)

    @property
    def wanted(self) -> int:
        """How many more are to be claimed now: for free slots, and ahead."""
        return max(self._slots - self._taken + self._ahead - len(self._queue), 0)

    @property
    def _ahead(self) -> int:
        """Until the first piece has ended nobody knows how long one takes."""
        if self._seconds is None:
            return 0
        return min(int(self._slots * AHEAD_SECONDS / max(self._seconds, 1e-4)), self._most)

    def add(self, claimed: list[Work], *, may_be_more: bool) -> None:
        """Begins what there are slots for; the rest waits. `may_be_more`: something else may be due that was not claimed."""
        self._may_be_more = may_be_more
        now = time.monotonic()
        self._queue.extend((now, work) for work in claimed)
        self._fill()
        self._look_after()

    def give_back(self, older_than: float = 0) -> list[Work]:
        """Takes out of the queue what has waited for so many seconds."""
        given = []
        until = time.monotonic() - older_than
        while self._queue and self._queue[0][0] <= until:
            given.append(self._queue.popleft()[1])
        return given

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Around the work of a piece that was begun. Then the next one is."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._taken -= 1
            took = time.monotonic() - began
            self._seconds = took if self._seconds is None else self._seconds + (took - self._seconds) * _SHARE_OF_NEWEST
            self.fill()

    def fill(self) -> None:
        """Begins what may be begun, and asks for more."""
        self._fill()
        if self._may_be_more and len(self._queue) <= self._ahead // 2:
            self._hungry()

    def _fill(self) -> None:
        while self._queue and self._taken < self._slots and self._may_begin():
            if self._left() <= 0:
                self._hungry()
                return
            self._taken += 1
            self._begin(self._queue.popleft()[1])

    def _left(self) -> float:
        """For how many seconds the oldest in the queue may still wait."""
        return self._queue[0][0] + KEPT_SECONDS - time.monotonic()

    def _look_after(self) -> None:
        """Where the other side has become slow, no piece ends that would ring for what waits."""
        if self._queue and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(self._left(), SHORTEST_LOOK), self._look)

    def _look(self) -> None:
        self._timer = None
        if self._queue and self._left() <= 0:
            self._hungry()
        self._look_after()
