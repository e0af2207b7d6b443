"""Work that is claimed ahead: how much, and in what order it is begun."""

import pytest

from receiver.pipeline import ahead
from receiver.pipeline.ahead import Ahead
from tests.pipeline.clock import until


class Lane:
    """Begins pieces, which end when the test says so."""

    def __init__(self, slots: int) -> None:
        self.begun: list[int] = []
        self.hungry = 0
        self.is_open = True
        self.ahead = Ahead(slots, self.begun.append, may_begin=lambda: self.is_open, hungry=self._get_hungry)

    def _get_hungry(self) -> None:
        self.hungry += 1

    def end(self, clock: "Clock", seconds: float) -> None:
        """A piece that takes so long."""
        with self.ahead.slot():
            clock.now += seconds


class Clock:
    """The clock of the module, moved by hand."""

    now = 100.0

    def monotonic(self) -> float:
        """Its time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """In place of the module's."""
    clock = Clock()
    monkeypatch.setattr(ahead, "time", clock)
    return clock


async def test_nothing_ahead_until_one_has_ended(clock: Clock) -> None:
    """Nobody knows how long one takes: only free slots are filled. Then as much as half a second is likely to need."""
    lane = Lane(2)
    assert (lane.ahead.free, lane.ahead.wanted) == (2, 2)
    lane.ahead.add([1, 2], may_be_more=True)
    assert (lane.begun, lane.ahead.wanted) == ([1, 2], 0)
    lane.end(clock, 1 / 64)
    assert lane.ahead.wanted == 1 + 2 * 32
    lane.ahead.add([3, 4, 5], may_be_more=True)
    assert (lane.begun, lane.ahead.free, lane.ahead.wanted) == ([1, 2, 3], 0, 64 - 2)


async def test_a_slow_other_side(clock: Clock) -> None:
    """What takes longer than that is not claimed before its slot is free; what is very quick has a limit."""
    lane = Lane(2)
    lane.ahead.add([1, 2], may_be_more=True)
    lane.end(clock, 20)
    assert lane.ahead.wanted == 1
    quick = Lane(2)
    quick.ahead.add([1, 2], may_be_more=True)
    quick.end(clock, 0)
    assert quick.ahead.wanted == 1 + ahead.MOST_AHEAD


async def test_a_slot_that_is_free_begins_the_next(clock: Clock) -> None:
    """In the order of the claims; more is asked for when the queue is half empty."""
    lane = Lane(1)
    lane.ahead.add([1], may_be_more=True)
    lane.end(clock, 0.1)
    hungry = lane.hungry
    lane.ahead.add([2, 3, 4, 5, 6], may_be_more=True)
    assert (lane.begun, lane.hungry) == ([1, 2], hungry)
    lane.end(clock, 0.1)
    assert (lane.begun, lane.hungry) == ([1, 2, 3], hungry)
    lane.end(clock, 0.1)
    assert (lane.begun, lane.hungry) == ([1, 2, 3, 4], hungry + 1)


async def test_closed(clock: Clock) -> None:
    """Nothing is begun while that is not right; it is as soon as somebody says so."""
    lane = Lane(2)
    lane.is_open = False
    lane.ahead.add([1, 2], may_be_more=True)
    assert lane.begun == []
    lane.is_open = True
    lane.ahead.fill()
    assert lane.begun == [1, 2]


async def test_given_back(clock: Clock) -> None:
    """What waits for too long, or all of it, is not begun any more."""
    lane = Lane(1)
    lane.ahead.add([1, 2], may_be_more=True)
    clock.now += 3
    lane.ahead.add([3], may_be_more=True)
    assert lane.ahead.give_back(3) == [2]
    assert lane.ahead.give_back(3) == []
    assert lane.ahead.give_back() == [3]
    lane.end(clock, 1)
    assert lane.begun == [1]


async def test_what_has_waited_for_too_long_is_not_begun(clock: Clock) -> None:
    """Its lease may end while it is under way. The lane is rung, which gives it back."""
    lane = Lane(1)
    lane.ahead.add([1, 2, 3], may_be_more=False)
    clock.now += ahead.KEPT_SECONDS
    lane.end(clock, 0)
    assert (lane.begun, lane.hungry) == ([1], 1)
    assert lane.ahead.give_back(ahead.KEPT_SECONDS) == [2, 3]
    lane.ahead.add([4], may_be_more=False)
    assert (lane.begun, lane.hungry) == ([1, 4], 1)


async def test_what_waits_is_looked_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while nothing ends: the other side has become slow."""
    monkeypatch.setattr(ahead, "KEPT_SECONDS", 0.05)
    monkeypatch.setattr(ahead, "SHORTEST_LOOK", 0.01)
    lane = Lane(1)
    lane.ahead.add([1, 2], may_be_more=False)
    await until(lambda: lane.hungry > 0)
    assert lane.ahead.give_back(0.05) == [2]
    assert lane.begun == [1]


async def test_nothing_to_claim(clock: Clock) -> None:
    """A claim that brings nothing is no reason to claim again, or an idle lane would never rest."""
    lane = Lane(2)
    lane.ahead.add([], may_be_more=True)
    assert lane.hungry == 0


async def test_nothing_more_is_due(clock: Clock) -> None:
    """After a claim that found no more nobody asks again: what is due later rings by itself."""
    lane = Lane(2)
    lane.ahead.add([1], may_be_more=False)
    lane.end(clock, 1)
    lane.ahead.fill()
    assert lane.hungry == 0
    lane.ahead.add([2], may_be_more=True)
    lane.end(clock, 1)
    assert lane.hungry == 1
