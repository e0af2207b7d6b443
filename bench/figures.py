"""Figures of several rounds."""

from collections.abc import Iterable
from statistics import median

from pydantic import BaseModel


class Figure(BaseModel):
    """Median, lowest and highest of the rounds."""

    middle: float
    low: float
    high: float

    def shown(self, digits: int = 0) -> str:
        """`median (lowest–highest)`."""
        middle, low, high = (f"{value:,.{digits}f}" for value in (self.middle, self.low, self.high))
        return f"{middle} ({low}–{high})" if low != high else middle


def figure(rounds: Iterable[float]) -> Figure:
    """Of what the rounds measured."""
    values = sorted(rounds)
    return Figure(middle=median(values), low=values[0], high=values[-1])
