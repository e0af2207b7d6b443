"""One measurement of one variant: a fresh server, a fresh database, the load, and a look at what became of it."""

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel

from bench import stores
from bench.callbacks import SECRET, IdKind
from bench.processes import Served, cores, resident_mb, run_pinned, serving
from bench.sender import Address, Callbacks, Job, Outcome
from bench.stores import Kind

MOST_PER_SECOND = 30_000
"""Callbacks prepared for each second. A server that takes more ends its run early; the rate is right all the same."""
NAIVE_PER_SECOND = 3_000
FEW = 5_000
"""Callbacks prepared where nothing is stored: they are sent over and over."""
RECEIVER = ("receiver", "serve", "--no-pipeline")
OWN_CORES = cores()
TITLES: Mapping[Kind, str] = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


T = TypeVar("T")


class How(NamedTuple):
    """What was asked for on the command line. `databases` are those that are there."""

    rounds: int
    seconds: float
    warm_up: float
    connections: int
    variants: str
    latency_seconds: float
    pressure_seconds: float
    burst: int
    rows: int
    verdicts: int
    databases: Sequence[Kind]
    postgres_url: str

    @property
    def full(self) -> "Load":
        """As fast as the answers come."""
        return Load(self.connections, self.seconds, self.warm_up)


class Load(NamedTuple):
    """How a server is pressed: `rate` None is as fast as the answers come, and then at most `per_second` are prepared."""

    connections: int
    seconds: float
    warm_up: float
    rate: float | None = None
    per_second: float = MOST_PER_SECOND
    callbacks: Callbacks = "fresh"
    ids: IdKind = "v7"

    @property
    def prepared(self) -> int:
        """How many requests to make ready."""
        if self.callbacks == "any":
            return FEW
        return round((self.seconds + self.warm_up) * (self.rate or self.per_second)) + 10 * self.connections


class Variant(NamedTuple):
    """A server to measure. `store` None stores nothing; `table` is where it stores; `fails`: what it may answer too."""

    name: str
    title: str
    command: Sequence[str]
    store: Kind | None = None
    callbacks: Callbacks = "fresh"
    table: str = "events"
    fails: Collection[int] = ()


class Measured(BaseModel):
    """An outcome, and what the server was like after it. `batches`: how many callbacks went into each, where it is counted."""

    outcome: Outcome
    resident_mb: float
    stored: int | None = None
    batches: list[int] = []


def rotated(items: Sequence[T], number: int) -> list[T]:
    """All of them, each round begun by another, so that none always has the quiet seconds."""
    first = number % len(items)
    return [*items[first:], *items[:first]]


@contextmanager
def folder() -> Iterator[Path]:
    """A folder, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="receiver-bench-") as name:
        yield Path(name)


@contextmanager
def fresh(kind: Kind, how: How) -> Iterator[tuple[Path, str]]:
    """A folder and the address of an empty database, both gone afterwards."""
    with folder() as here, stores.database(kind, here, how.postgres_url) as url:
        yield here, url


@contextmanager
def served(
    url: str | None,
    here: Path,
    command: Sequence[str] = RECEIVER,
    *,
    core: int | None = OWN_CORES[0],
    more: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """A server on this database; the receiver without its pipeline, unless another is named. `more` are further settings."""
    settings = {
        "DATABASE_URL": url or "",
        "DATABASE_AUTO_UPGRADE": "on",
        "RUNFLOW_WEBHOOK_SECRET": SECRET,
        "RUNFLOW_API_KEY": "rf_live_never_used_without_the_pipeline",
        "RECEIVER_PORT": "0",
        **(more or {}),
    }
    with serving(command, core, settings, here) as server:
        yield server


def press(
    servers: Sequence[Served], load: Load, *, core: int | None = OWN_CORES[1], acknowledged: Path | None = None
) -> Outcome:
    """Has the sender press these servers, evenly."""
    job = Job(
        servers=[Address(host=each.host, port=each.port, pid=each.pid) for each in servers],
        callbacks=load.callbacks,
        ids=load.ids,
        connections=load.connections,
        seconds=load.seconds,
        warm_up=load.warm_up,
        prepared=load.prepared,
        rate=load.rate,
        acknowledged=acknowledged,
    )
    return Outcome.model_validate_json(run_pinned(["bench.sender"], core, job.model_dump_json()))


def measure(variant: Variant, load: Load, how: How) -> Measured:
    """One load on one fresh server. Raises ValueError if an answer was wrong or an event is missing."""
    with ExitStack() as stack:
        here = stack.enter_context(folder())
        url = stack.enter_context(stores.database(variant.store, here, how.postgres_url)) if variant.store else None
        with served(url, here, variant.command) as server:
            outcome = press([server], load._replace(callbacks=variant.callbacks))
            mb = resident_mb(server.pid)
        check_answers(variant.title, outcome, {202, *variant.fails} | _repeats(variant))
        stored = None
        if url is not None and variant.table:
            stored = stores.count(url, variant.table)
            check_stored(variant.title, [outcome], stored)
        return Measured(outcome=outcome, resident_mb=mb, stored=stored, batches=server.batches())


def _repeats(variant: Variant) -> set[int]:
    return {200} if variant.callbacks == "half_repeated" else set()


def check_answers(title: str, outcome: Outcome, expected: Collection[int] = (202,)) -> None:
    """Raises ValueError if there was any other answer."""
    if not outcome.answers.keys() | outcome.answers_before.keys() <= set(expected):
        raise ValueError(f"{title}: answers {outcome.answers}, to warm up {outcome.answers_before}")


def check_stored(title: str, outcomes: Sequence[Outcome], stored: int) -> None:
    """Raises ValueError unless as many are stored as were answered 202."""
    accepted = sum(each.answers.get(202, 0) + each.answers_before.get(202, 0) for each in outcomes)
    if stored != accepted:
        raise ValueError(f"{title}: {accepted} accepted, {stored} stored")
