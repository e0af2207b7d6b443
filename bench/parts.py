"""All parts of a run, in their order: `--only` chooses among them."""

from collections.abc import Mapping

from pydantic import BaseModel

from bench import (
    analysts,
    brokers,
    export,
    growth,
    ids,
    lanes,
    latency,
    layers,
    memory,
    pipeline,
    pressure,
    rates,
    reading,
    scale,
    several,
    startup,
    storage,
    streaming,
    tries,
)
from bench.measure import How
from bench.report import Part
from bench.tables import as_list

RUNFLOW_MS = (0.0, 50.0)
"""How long Runflow takes to answer, for the pipeline."""
QUICK_BELOW = 1_000
"""Verdicts: a run with fewer only sees that it runs."""


class Pipelines(BaseModel):
    """Each database at each latency of Runflow's."""

    runs: list[pipeline.PipelineFigures]


def _pipelines(how: How) -> Pipelines:
    return Pipelines(
        runs=[
            pipeline.measure(
                kind,
                latency_ms=latency_ms,
                evaluations=max(how.verdicts // 5, 10),
                rounds=min(how.rounds, 3),
                postgres_url=how.postgres_url,
            )
            for kind in how.databases
            for latency_ms in RUNFLOW_MS
        ]
    )


def _lanes(how: How) -> lanes.Lanes:
    is_quick = how.verdicts < QUICK_BELOW
    return lanes.measure(how.postgres_url, kinds=how.databases, rounds=min(how.rounds, 3), quick=is_quick)


def _startup(how: How) -> startup.Startup:
    return startup.measure(how.postgres_url, kinds=how.databases, rounds=min(how.rounds, 3))


PARTS: Mapping[str, Part] = {
    "rates": Part(rates.TITLE, rates.run, rates.markdown, rates.claims),
    "layers": Part(layers.TITLE, layers.run, layers.markdown),
    "latency": Part(latency.TITLE, latency.run, latency.markdown, latency.claims),
    "memory": Part(memory.TITLE, memory.run, memory.markdown, memory.claims),
    "pressure": Part(pressure.TITLE, pressure.run, pressure.markdown, pressure.claims),
    "growth": Part(growth.TITLE, growth.run, growth.markdown, growth.claims),
    "ids": Part(ids.TITLE, ids.run, ids.markdown, ids.claims),
    "several": Part(several.TITLE, several.run, several.markdown, several.claims),
    "pipeline": Part(
        "The pipeline", _pipelines, lambda found: pipeline.table(found.runs), lambda found: pipeline.claims(found.runs)
    ),
    "lanes": Part("Deliveries and fetches", _lanes, lambda found: as_list(lanes.shown(found)), lanes.claims),
    "storage": Part(storage.TITLE, storage.run, lambda found: f"{storage.markdown(found)}\n\n{scale.markdown(found)}"),
    "brokers": Part(brokers.TITLE, brokers.run, brokers.markdown, brokers.claims),
    "tries": Part(tries.TITLE, tries.run, tries.markdown),
    "reading": Part(reading.TITLE, reading.run, reading.markdown, reading.claims),
    "sql": Part(analysts.TITLE, analysts.run, analysts.markdown),
    "export": Part(export.TITLE, export.run, export.markdown, export.claims),
    "stream": Part(streaming.TITLE, streaming.run, streaming.markdown, streaming.claims),
    "startup": Part("Starting", _startup, lambda found: as_list(startup.shown(found)), startup.claims),
}
