"""Tables as Markdown, and claims: a figure beside what it is meant to be."""

from collections.abc import Sequence
from typing import NamedTuple


class Claim(NamedTuple):
    """A figure that somebody may rely on. `unit` follows it. `in_short`: it is one of the few that README.md quotes."""

    what: str
    measured: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    in_short: bool = False

    def cells(self) -> list[str]:
        """What, the figure, its target, and whether it is met."""
        value = f"{self.measured:,.0f}" if self.measured >= 100 else f"{self.measured:.3g}"
        return [self.what, f"{value}{self.unit}", *self._target()]

    def _target(self) -> tuple[str, str]:
        if self.at_least is not None:
            return f"≥ {self.at_least:,.4g}{self.unit}", "yes" if self.measured >= self.at_least else "**no**"
        if self.at_most is not None:
            return f"≤ {self.at_most:,.4g}{self.unit}", "yes" if self.measured <= self.at_most else "**no**"
        return "", ""


def claims_table(claims: Sequence[Claim]) -> str:
    """All claims of a run."""
    return table(["what", "measured", "target", "met"], [claim.cells() for claim in claims])


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """The first `texts` columns are text; the others are figures, to the right."""
    lines = [head, ["---"] * texts + ["---:"] * (len(head) - texts), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_list(lines: str) -> str:
    """Lines as the points of a list."""
    return "\n".join(f"- {line}" for line in lines.splitlines())
