"""Where do a callback's microseconds go? A ladder of servers, each with one layer more than the one before (bench/server.py).

A layer is the server's CPU time for one request less that of the rung below, in the same round. Inserting and committing are
timed by themselves too, in a process of their own, with batches of the size that was seen (bench/inside.py).
"""

from statistics import median

from pydantic import BaseModel

from bench.figures import Figure, figure
from bench.inside import Batch, Inside, Timed
from bench.measure import OWN_CORES, RECEIVER, TITLES, How, Measured, Variant, fresh, measure, rotated
from bench.processes import run_pinned
from bench.stores import Kind
from bench.tables import table

TITLE = "Where the time goes"

ROUNDS = 3
SECONDS = 3.0
"""At most, both: each round has a dozen servers."""
BATCHES = 100
SIZES = [1, 10, 50]

LAYERS = (
    ("bare", "HTTP: the server, reading the body, answering"),
    ("signed", "HMAC"),
    ("verify", "parsing, and the hook around it"),
    ("waiting", "waiting for the batch"),
    ("handed", "the way to the database and back; an empty transaction"),
    ("stored", "insert and commit, without what the database's own processes take"),
    ("staged", "the stage, as far as it gets under full load"),
)
"""The rungs from the bottom up, and what each adds. The last is the whole receiver."""
ABOVE = ("waiting", "handed", "stored", "staged")
"""The rungs that have a database."""


class Layers(BaseModel):
    """Every rung of every round; those with a database are named after it too. `inside` is by database."""

    rounds: list[dict[str, Measured]]
    inside: dict[Kind, Timed]


def run(how: How) -> Layers:
    """Climbs the ladder, in rounds, and then times the store's work by itself."""
    rungs = {
        name: Variant(name, name, ("bench.server", name), callbacks="any") for name, _ in LAYERS if name not in ABOVE
    }
    rungs |= {f"{name}-{kind}": _rung(name, kind) for kind in how.databases for name in ABOVE}
    load = how.full._replace(seconds=min(how.seconds, SECONDS))
    rounds = []
    for number in range(min(how.rounds, ROUNDS)):
        this = {name: measure(rungs[name], load, how) for name in rotated(list(rungs), number)}
        rounds.append({name: this[name] for name in rungs})
    return Layers(rounds=rounds, inside={kind: _inside(kind, _batch_size(rounds, kind), how) for kind in how.databases})


def _rung(name: str, kind: Kind) -> Variant:
    stores_events = name in ("stored", "staged")
    command = RECEIVER if name == "staged" else ("bench.server", name)
    return Variant(name, f"{name}, {kind}", command, kind, table="events" if stores_events else "")


def _inside(kind: Kind, seen: int, how: How) -> Timed:
    with fresh(kind, how) as (_, url):
        job = Inside(url=url, sizes=sorted({*SIZES, seen}), batches=BATCHES)
        return Timed.model_validate_json(run_pinned(["bench.inside"], OWN_CORES[0], job.model_dump_json(), quiet=True))


def _batch_size(rounds: list[dict[str, Measured]], kind: Kind) -> int:
    """The median batch: half of all callbacks were in one that was at least as large."""
    sizes = sorted(size for each in rounds for size in each[f"stored-{kind}"].batches)
    return int(median([size for size in sizes for _ in range(size)]))


def markdown(layers: Layers) -> str:
    """The layers of each database, and the batches by themselves."""
    return "\n\n".join([_ladder(layers), *(_batches(layers, kind) for kind in layers.inside)])


def _ladder(layers: Layers) -> str:
    kinds = list(layers.inside)
    rows = [[what, *(_layer(layers, name, kind).shown(1) for kind in kinds)] for name, what in LAYERS]
    whole = [_of_rounds(layers, "staged", None, kind).shown(0) for kind in kinds]
    return table(
        ["server CPU, µs a request", *(TITLES[kind] for kind in kinds)],
        [*rows, ["all of it: `receiver serve`", *whole]],
    )


def _layer(layers: Layers, name: str, kind: Kind) -> Figure:
    names = [each for each, _ in LAYERS]
    below = names[names.index(name) - 1] if name != names[0] else None
    return _of_rounds(layers, name, below, kind)


def _of_rounds(layers: Layers, name: str, below: str | None, kind: Kind) -> Figure:
    def cpu(each: dict[str, Measured], rung: str) -> float:
        return each[f"{rung}-{kind}" if rung in ABOVE else rung].outcome.server_cpu_us

    return figure(cpu(each, name) - (cpu(each, below) if below else 0) for each in layers.rounds)


def _batches(layers: Layers, kind: Kind) -> str:
    head = [f"{TITLES[kind]}: callbacks in a batch", "insert, µs each", "commit, µs each", "commit, µs in all"]
    seen = _batch_size(layers.rounds, kind)
    rows = [_batch_row(each, seen) for each in layers.inside[kind].batches]
    stage = (
        f"The stage's work on one event takes {layers.inside[kind].stage_us:.0f} µs of CPU, whenever it comes to it."
    )
    return f"{table(head, rows)}\n\n{stage}"


def _batch_row(batch: Batch, seen: int) -> list[str]:
    size = f"{batch.size}, the size seen at full load" if batch.size == seen else str(batch.size)
    return [
        size,
        f"{batch.insert_us / batch.size:.1f}",
        f"{batch.commit_us / batch.size:.1f}",
        f"{batch.commit_us:.0f}",
    ]
