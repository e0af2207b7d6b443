"""What one request costs in CPU time, by the client that is used and by httpx's own, with so many under way.

    python -m bench.client

GETs of trees and POSTs of messages, the bodies read, to the stand-ins on another core.
"""

import asyncio
import gc
import os
import sys
from collections.abc import Awaitable, Callable
from statistics import median
from time import process_time
from uuid import UUID

import click
import uvloop

from bench.bare import Ask, ClientKind, asking, messages
from bench.callbacks import uuid7
from bench.processes import cores, run_pinned
from bench.standins import KINDS, POST_PATH, standing_in
from receiver.core.evaluation import WIDE_EMBEDS

UNDER_WAY = (1, 10, 20, 50)
KINDS_OF_CLIENT: tuple[ClientKind, ...] = ("httpx", "ours")
WARM_UP = 200

Request = Callable[[Ask, UUID], Awaitable[None]]


async def cost(kind: ClientKind, request: Request, under_way: int, count: int) -> float:
    """Microseconds of CPU time for each of `count` requests."""
    async with asking(kind, under_way) as ask:
        await _run(ask, request, under_way, WARM_UP)
        gc.collect()
        began = process_time()
        await _run(ask, request, under_way, count)
        return (process_time() - began) / count * 1e6


async def _run(ask: Ask, request: Request, under_way: int, count: int) -> None:
    left = iter([uuid7() for _ in range(count)])

    async def work() -> None:
        for key in left:
            await request(ask, key)

    await asyncio.gather(*(work() for _ in range(under_way)))


async def measure(url: str, count: int, rounds: int) -> list[str]:
    """A line for each number of requests under way: medians of the rounds, which begin with one and the other in turn."""
    posts = messages(url)
    embeds = ",".join(WIDE_EMBEDS)

    async def get(ask: Ask, key: UUID) -> None:
        headers = {"authorization": "Bearer rf_live_measured", "accept": "application/json"}
        await ask("GET", f"{url}/v1/evaluations/{key}?embed={embeds}", headers, None)

    async def post(ask: Ask, key: UUID) -> None:
        each = posts[key.int % KINDS]
        await ask("POST", url + POST_PATH, each.headers, each.body)

    lines = []
    for under_way in UNDER_WAY:
        costs: dict[tuple[str, str], list[float]] = {}
        for number in range(rounds):
            for kind in KINDS_OF_CLIENT if number % 2 else reversed(KINDS_OF_CLIENT):
                for request in (get, post):
                    spent = await cost(kind, request, under_way, count)
                    costs.setdefault((request.__name__, kind), []).append(spent)
        middle = {key: median(values) for key, values in costs.items()}
        cells = [f"{middle[name, kind]:,.0f}" for name in ("get", "post") for kind in KINDS_OF_CLIENT]
        shares = [f"{middle[name, 'ours'] / middle[name, 'httpx']:.2f}" for name in ("get", "post")]
        lines.append(f"| {under_way} | {cells[0]} | {cells[1]} | {shares[0]} | {cells[2]} | {cells[3]} | {shares[1]} |")
    return lines


@click.command()
@click.option("--count", type=click.IntRange(1), default=500, show_default=True, help="Requests in each measurement.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--url", help="Of stand-ins that are there already; this is how it starts itself on another core.")
def main(count: int, rounds: int, url: str | None) -> None:
    """Measure, and print a table."""
    if url is not None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            click.echo("\n".join(runner.run(measure(url, count, rounds))))
        return
    core, other = cores()
    os.sched_setaffinity(0, {other})
    with standing_in() as sides:
        options = ["--count", str(count), "--rounds", str(rounds), "--url", sides.url]
        printed = run_pinned(["bench.client", *options], core, "")
    click.echo("| under way | GET, httpx | GET, ours | share | POST, httpx | POST, ours | share |")
    click.echo("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    click.echo(printed.decode().rstrip())


if __name__ == "__main__":
    sys.exit(main())
