"""Are two processes on one database quicker than one? Here all of them, and the sender, share the cores that there are.

So the rate says what this machine gives; the CPU time for one callback says what it costs the processes to share.
"""

from contextlib import ExitStack
from pathlib import Path

from pydantic import BaseModel

from bench.figures import Figure, figure
from bench.measure import TITLES, How, check_answers, check_stored, fresh, press, rotated, served
from bench.sender import Outcome
from bench.stores import Kind, count, migrate
from bench.tables import Claim, table

TITLE = "Two processes on one database"

ROUNDS = 3
PROCESSES = (1, 2)


class Several(BaseModel):
    """By database, round and number of processes."""

    stores: dict[Kind, list[dict[int, Outcome]]]


def run(how: How) -> Several:
    """One process and two, in rounds."""
    rounds = range(min(how.rounds, ROUNDS))
    return Several(
        stores={
            kind: [{n: _measure(kind, n, how) for n in rotated(PROCESSES, number)} for number in rounds]
            for kind in how.databases
        }
    )


def _measure(kind: Kind, processes: int, how: How) -> Outcome:
    with fresh(kind, how) as (here, url):
        migrate(url)
        outcome = _pressed(url, here, processes, how)
        check_answers(f"{kind}, {processes} processes", outcome)
        check_stored(kind, [outcome], count(url, "events"))
    return outcome


def _pressed(url: str, here: Path, processes: int, how: How) -> Outcome:
    with ExitStack() as stack:
        servers = [stack.enter_context(served(url, here, core=None)) for _ in range(processes)]
        return press(servers, how.full, core=None)


def markdown(several: Several) -> str:
    """Rates, and what a callback costs."""
    head = [
        "database",
        "one process, callbacks/s",
        "two",
        "two over one",
        "server CPU, µs each: one",
        "two",
        "p99 ms: one",
        "two",
    ]
    return table(head, [_row(kind, rounds) for kind, rounds in several.stores.items()])


def _row(kind: Kind, rounds: list[dict[int, Outcome]]) -> list[str]:
    def of(number: int, name: str) -> Figure:
        return figure(getattr(each[number], name) for each in rounds)

    return [
        TITLES[kind],
        of(1, "per_second").shown(0),
        of(2, "per_second").shown(0),
        _ratio(rounds).shown(2),
        of(1, "server_cpu_us").shown(0),
        of(2, "server_cpu_us").shown(0),
        of(1, "p99").shown(1),
        of(2, "p99").shown(1),
    ]


def _ratio(rounds: list[dict[int, Outcome]]) -> Figure:
    return figure(each[2].per_second / each[1].per_second for each in rounds)


def claims(several: Several) -> list[Claim]:
    """Two over one."""
    return [
        Claim(f"{TITLES[kind]}: two processes over one, all on the same cores", _ratio(rounds).middle)
        for kind, rounds in several.stores.items()
    ]
