"""docs/states.md: its charts and its tables say the same, and what they name is what the code has."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from receiver.store.outbox import STATES

PAGE = (Path(__file__).parents[2] / "docs" / "states.md").read_text()
# Each chart with the table that follows it.
PAIRS = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```\n\n(\|.*?)(?:\n\n|\Z)", PAGE, re.DOTALL)
Moves = set[tuple[str, str]]


def drawn(chart: str) -> Moves:
    """The moves of a chart."""
    return set(re.findall(r"^    (\S+) --> (\w+)(?:: .+)?$", chart, re.MULTILINE))


def told(table: str) -> list[tuple[str, str, str]]:
    """The moves of a table, and by what."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return [("[*]" if before == "(new)" else before, after, by) for before, after, by, _ in cells]


def of_deliveries() -> list[tuple[str, str, str]]:
    return next(told(table) for chart, table in PAIRS if "delivered" in chart)


@pytest.mark.parametrize(("chart", "table"), PAIRS, ids=[str(n) for n in range(len(PAIRS))])
def test_charts_and_tables_agree(chart: str, table: str) -> None:
    """A chart has the moves of the table below it and no others; where all begin in a state, no function makes it so."""
    begins = {move for move in drawn(chart) if move[0] == "[*]" and move[1] in ("working", "free")}
    assert drawn(chart) - begins == {(before, after) for before, after, _ in told(table)}


def test_every_chart_has_its_table() -> None:
    """No chart is without its table."""
    assert len(PAIRS) == PAGE.count("```mermaid") == 8


def test_functions_exist() -> None:
    """Each function that makes a move is there under that name."""
    names = {by for _, table in PAIRS for _, _, by in told(table)} - {"(time)"}
    assert len(names) >= 12
    for name in names:
        module, function = name.strip("`").split(".")
        assert callable(getattr(import_module(f"receiver.store.{module}"), function)), name


def test_delivery_states() -> None:
    """The states of a delivery are those of the code; `delivered` is the end."""
    moves = of_deliveries()
    assert {state for before, after, _ in moves for state in (before, after)} - {"[*]"} == set(STATES)
    assert not [move for move in moves if move[0] == "delivered"]
