"""One measurement of one variant: a fresh server, a fresh database, the load, and a look at what became of it."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel

from bench import stores
from bench.callbacks import SECRET
from bench.processes import Served, cores, resident_mb, run_pinned, serving
from bench.sender import Callbacks, Job, Outcome

MOST_PER_SECOND = 16_000
"""Callbacks prepared for each second. A server that takes more ends its run early; the rate is right all the same."""
FEW = 5_000
"""Callbacks prepared where nothing is stored: they are sent over and over."""


class Variant(NamedTuple):
    """What is measured. `store` None stores nothing."""

    name: str
    title: str
    store: Literal["sqlite", "postgresql"] | None
    callbacks: Callbacks


VARIANTS = (
    Variant("empty", "empty Starlette route, reads the body", None, "any"),
    Variant("verify", "signature and parsing, nothing stored", None, "any"),
    Variant("sqlite", "SQLite, durable", "sqlite", "fresh"),
    Variant("sqlite-repeats", "SQLite, durable, half of them repeats", "sqlite", "half_repeated"),
    Variant("postgresql", "PostgreSQL, durable", "postgresql", "fresh"),
    Variant("postgresql-repeats", "PostgreSQL, durable, half of them repeats", "postgresql", "half_repeated"),
)


class Load(NamedTuple):
    """How a variant is pressed: `rate` None is as fast as the answers come."""

    connections: int
    seconds: float
    warm_up: float
    rate: float | None = None


class Measured(BaseModel):
    """An outcome, and what the server was like after it. `waiting`: events that the pipeline had not seen to at the end."""

    outcome: Outcome
    resident_mb: float
    stored: int | None
    waiting: int | None


def measure(variant: Variant, loads: list[Load], postgres_url: str) -> list[Measured]:
    """One load after the other on one fresh server. Raises ValueError if an answer was wrong or an event is missing."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="receiver-bench-")))
        url = stack.enter_context(stores.database(variant.store, folder, postgres_url)) if variant.store else None
        with _served(variant, url, folder) as server:
            pressed = [(_press(server, variant, load), resident_mb(server.pid)) for load in loads]
        _check_answers(variant, [outcome for outcome, _ in pressed])
        stored, waiting = stores.stored(url) if url else (None, None)
        _check_stored(variant, [outcome for outcome, _ in pressed], stored)
    return [Measured(outcome=outcome, resident_mb=mb, stored=stored, waiting=waiting) for outcome, mb in pressed]


@contextmanager
def _served(variant: Variant, url: str | None, folder: Path) -> Iterator[Served]:
    core, _ = cores()
    if url is None:
        with serving(["bench.server", variant.name], core, {}, folder) as server:
            yield server
        return
    settings = {
        "DATABASE_URL": url,
        "DATABASE_AUTO_UPGRADE": "on",
        "RUNFLOW_WEBHOOK_SECRET": SECRET,
        "RUNFLOW_API_KEY": "rf_live_never_used_without_the_pipeline",
        "RECEIVER_PORT": "0",
    }
    with serving(["receiver", "serve", "--no-pipeline"], core, settings, folder) as server:
        yield server


def _press(server: Served, variant: Variant, load: Load) -> Outcome:
    _, core = cores()
    most = load.rate or MOST_PER_SECOND
    job = Job(
        host=server.host,
        port=server.port,
        server_pid=server.pid,
        callbacks=variant.callbacks,
        connections=load.connections,
        seconds=load.seconds,
        warm_up=load.warm_up,
        prepared=FEW if variant.store is None else int((load.seconds + load.warm_up) * most) + 10 * load.connections,
        rate=load.rate,
    )
    return Outcome.model_validate_json(run_pinned(["bench.sender"], core, job.model_dump_json()))


def _check_answers(variant: Variant, outcomes: list[Outcome]) -> None:
    good = {200, 202} if variant.callbacks == "half_repeated" else {202}
    for outcome in outcomes:
        if not outcome.answers.keys() | outcome.answers_before.keys() <= good:
            raise ValueError(f"{variant.title}: answers {outcome.answers}, to warm up {outcome.answers_before}")


def _check_stored(variant: Variant, outcomes: list[Outcome], stored: int | None) -> None:
    accepted = sum(each.answers.get(202, 0) + each.answers_before.get(202, 0) for each in outcomes)
    if stored is not None and stored != accepted:
        raise ValueError(f"{variant.title}: {accepted} accepted, {stored} stored")
