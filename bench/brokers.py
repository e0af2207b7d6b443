"""Messages a second into each broker, by the real sink and by its bare client; and memory while a broker is down.

    python -m bench.brokers            all of it; --help has the rest

The sink is given messages as the lanes give them, the JSON that is stored, in batches of its own size, several at once. The
bare client is given the finished bytes and does the same: it publishes them, with the same id and the same promise, and waits
for the broker's answer to each. What is made in a broker is removed again.
"""

import asyncio
import gc
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import click
import uvloop
from pydantic import BaseModel

from bench import stores
from bench.backlog import kinds
from bench.broker_places import BROKERS, Broker, Ready, is_there, opened
from bench.callbacks import uuid7
from bench.down import CONCURRENCY, Down, Fails, down_table, downs
from bench.figures import Figure, figure
from bench.lanes import POSTGRES
from bench.measure import TITLES, How
from bench.stores import Kind
from bench.tables import Claim, table
from receiver import logs
from receiver.core.envelope import Message
from receiver.sinks.base import Done

TITLE = "Into each broker"
SOURCE = "https://api.runflow.io/v1/evaluations"
LEAST = 0.5
"""Of the bare client's rate."""
MOST_GROWN = 16.0
"""MB, while a broker is down, whatever waits."""
FEWER = {"sqs": 10, "sqs-fifo": 30, "http": 3}
"""Where the broker, or what stands in for it, is slow: so many times fewer messages."""
Who = Literal["sink", "bare"]


class Sent(NamedTuple):
    """So many a second, and our CPU time for each."""

    per_second: float
    cpu_us: float


class Rates(BaseModel):
    """`kept`: the sink's rate over the bare client's, in the same round; `kept_cpu`: the same by our CPU time."""

    broker: str
    sink: Figure
    bare: Figure
    kept: Figure
    sink_cpu_us: Figure
    bare_cpu_us: Figure
    kept_cpu: Figure


def messages(count: int) -> Iterator[Message]:
    """As a lane makes them: each of its own evaluation, in the JSON that is stored."""
    documents = [(str(each.evaluation_id), each.complete.model_dump_json()) for each in kinds()]
    for (old, document), _ in zip(cycle(documents), range(count), strict=False):
        yield Message(document.replace(old, str(uuid7())), SOURCE)


async def rates(kind: str, *, count: int, rounds: int) -> Rates:
    """The sink and the bare client in turns. Raises ValueError if a message was not taken."""
    found: dict[Who, list[Sent]] = {"sink": [], "bare": []}
    async with opened(kind) as broker:
        await _sent(broker, "sink", broker.sink.batch * CONCURRENCY)
        for number in range(rounds):
            order: tuple[Who, ...] = ("sink", "bare") if number % 2 == 0 else ("bare", "sink")
            for who in order:
                found[who].append(await _sent(broker, who, count))
        await broker.sink.close()
    sink, bare = found["sink"], found["bare"]
    return Rates(
        broker=kind,
        sink=figure(each.per_second for each in sink),
        bare=figure(each.per_second for each in bare),
        kept=figure(one.per_second / two.per_second for one, two in zip(sink, bare, strict=True)),
        sink_cpu_us=figure(each.cpu_us for each in sink),
        bare_cpu_us=figure(each.cpu_us for each in bare),
        kept_cpu=figure(two.cpu_us / one.cpu_us for one, two in zip(sink, bare, strict=True)),
    )


async def _sent(broker: Broker, who: Who, count: int) -> Sent:
    made = list(messages(count))
    ready = [Ready(each.key, each.type, each.cloud_event) for each in messages(count)] if who == "bare" else []
    size = broker.sink.batch
    starts = iter(range(0, count, size))

    async def work() -> None:
        for start in starts:  # one iterator for all: whoever is free takes the next batch
            if who == "bare":
                await broker.bare(ready[start : start + size])
            elif not all(isinstance(each, Done) for each in await broker.sink.send(made[start : start + size])):
                raise ValueError("the broker did not take a message")

    gc.collect()
    began, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(work())
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Sent(count / seconds, cpu / count * 1e6)


def _rates_table(found: Sequence[Rates]) -> str:
    head = ["broker", "sink, messages/s", "bare client", "of the bare", "the same by CPU", "CPU, µs each: sink", "bare"]
    return table(
        head,
        [
            [
                each.broker,
                each.sink.shown(),
                each.bare.shown(),
                each.kept.shown(2),
                each.kept_cpu.shown(2),
                each.sink_cpu_us.shown(),
                each.bare_cpu_us.shown(),
            ]
            for each in found
        ],
    )


class Brokers(BaseModel):
    """What was found of each broker. `missing` were not there."""

    messages: int
    rates: list[Rates]
    down: list[Down]
    missing: list[str]


def _measure(
    chosen: Sequence[str],
    stores_there: Sequence[Kind],
    postgres_url: str,
    *,
    fails: Sequence[Fails],
    rounds: int,
    count: int,
    waiting: int,
    seconds: float,
) -> Brokers:
    logs.configure("critical", "json")
    there = [kind for kind in chosen if is_there(kind)]
    found = Brokers(messages=count, rates=[], down=[], missing=[kind for kind in chosen if kind not in there])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for store in stores_there if seconds else ():
            with (
                tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder,
                stores.database(store, Path(folder), postgres_url) as url,
            ):
                found.down += runner.run(downs(store, url, chosen, fails, waiting=waiting, seconds=seconds))
        for kind in there:
            fewer = max(count // FEWER.get(kind, 1), 1)
            found.rates.append(runner.run(rates(kind, count=fewer, rounds=rounds)))
    return found


def run(how: How) -> Brokers:
    """As a part of the whole run."""
    is_quick = how.verdicts < 1_000
    return _measure(
        list(BROKERS),
        how.databases,
        how.postgres_url,
        fails=["refuses"],
        rounds=min(how.rounds, 5),
        count=200 if is_quick else 3_000,
        waiting=200 if is_quick else 200_000,
        seconds=0.2 if is_quick else 6.0,
    )


def markdown(found: Brokers) -> str:
    """For people."""
    missing = f"\n\nNot there: {', '.join(found.missing)}." if found.missing else ""
    parts = [_rates_table(found.rates)] * bool(found.rates) + [down_table(found.down)] * bool(found.down)
    return "\n\n".join(parts) + missing


def claims(found: Brokers) -> list[Claim]:
    """What is left of the bare client's rate, and that memory does not grow with what waits."""
    kept = [
        Claim(f"{each.broker}: rate over the bare client's", each.kept.middle, at_least=LEAST) for each in found.rates
    ]
    grew = [
        Claim(
            f"{TITLES[store]}, {each.waiting:,} wait for a broker that is down: memory grew",
            each.grew,
            " MB",
            at_most=MOST_GROWN,
        )
        for store in TITLES
        for each in sorted((one for one in found.down if one.store == store), key=lambda one: one.grew)[-1:]
    ]
    return kept + grew


@click.command()
@click.option("--brokers", default=",".join(BROKERS), show_default=True)
@click.option(
    "--store", "chosen_stores", type=click.Choice(["sqlite", "postgresql"]), multiple=True, default=["sqlite"]
)
@click.option("--postgres-url", default=POSTGRES, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--count", type=click.IntRange(1), default=4_000, show_default=True, help="Messages of each measurement.")
@click.option(
    "--waiting", type=int, default=200_000, show_default=True, help="Messages that wait for one that is down."
)
@click.option("--seconds", type=float, default=6.0, show_default=True, help="How long it is down; 0 leaves that out.")
def main(
    brokers: str,
    chosen_stores: Sequence[Kind],
    postgres_url: str,
    rounds: int,
    count: int,
    waiting: int,
    seconds: float,
) -> None:
    """Measure, and print the tables."""
    chosen = brokers.split(",")
    if unknown := set(chosen) - BROKERS.keys():
        raise click.UsageError(f"--brokers: there is no {', '.join(sorted(unknown))}")
    found = _measure(
        chosen,
        chosen_stores,
        postgres_url,
        fails=get_args(Fails),
        rounds=rounds,
        count=count,
        waiting=waiting,
        seconds=seconds,
    )
    click.echo(markdown(found))


if __name__ == "__main__":
    main()
