"""Is reading as quick over a million verdicts as over ten thousand, and does it hurt the intake?

Both databases of a kind hold the same hundred days, so that the larger has a hundred times as much in each of them. Each
question is asked of both in turn, over HTTP, by one client. Then callbacks come in at a steady rate, alone and beside readers.
"""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from statistics import median
from uuid import UUID

import httpx
from pydantic import BaseModel

from bench import history
from bench.figures import Figure, figure
from bench.measure import OWN_CORES, TITLES, How, Load, check_answers, fresh, press, served
from bench.processes import Served, ended
from bench.sender import Outcome
from bench.stores import Kind, execute, query
from bench.tables import Claim, table
from receiver.core.matching import Filter
from receiver.store import hours
from receiver.store.database import open_database
from receiver.store.reading import Position
from receiver.web.cursors import cursor_for

TITLE = "Reading"

LARGE, SMALL = 1_000_000, 10_000
ASKED = 60
"""How often each question is asked."""
READERS = 20
THINK_SECONDS = 0.5
"""What a reader waits between an answer and its next question, on average: between nothing and twice that, or twenty that began
together would go on asking together."""
CALLBACKS_PER_SECOND = 300.0
ROUNDS = 3
TOKEN = "token-of-a-measurement-0123456789"
SETTINGS = {"RECEIVER_API_TOKENS": f"bench:read={TOKEN}"}
ROLLED_DAYS = 31
STATS = "stats"


class Asked(BaseModel):
    """Milliseconds of one question."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Asked":
        """Of many answers."""
        ordered = sorted(seconds)
        return cls(p50=median(ordered) * 1000, p99=ordered[max(round(len(ordered) * 0.99) - 1, 0)] * 1000)


class Read(BaseModel):
    """One kind of database: every question of both sizes, and the intake alone and beside readers."""

    rows: int
    fill_seconds: float
    small: dict[str, Asked]
    large: dict[str, Asked]
    alone: list[Outcome]
    beside: list[Outcome]


class Reads(BaseModel):
    """By database."""

    stores: dict[Kind, Read]


def run(how: How) -> Reads:
    """Fills, asks, and presses. `rows` may make the larger one smaller."""
    return Reads(stores={kind: _read(kind, min(how.rows, LARGE), how) for kind in how.databases})


def _read(kind: Kind, rows: int, how: How) -> Read:
    until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    with ExitStack() as stack:
        began = time.monotonic()
        places = [stack.enter_context(fresh(kind, how)) for _ in range(2)]
        for (_, url), number in zip(places, (min(SMALL, rows), rows), strict=True):
            history.fill(url, number, until=until)
            asyncio.run(_roll_up(url, until))
        seconds = time.monotonic() - began
        print(f"{TITLES[kind]}: {rows:,} verdicts in {seconds:.0f} s", file=sys.stderr)
        servers = [stack.enter_context(served(url, here, more=SETTINGS)) for here, url in places]
        targets = [_targets(url, until) for _, url in places]
        found = asyncio.run(_ask_all(servers, targets))
        rounds = range(min(how.rounds, ROUNDS))
        pressed = [_press(servers[1], places[1][1], targets[1], how, number) for number in rounds]
    return Read(
        rows=rows,
        fill_seconds=seconds,
        small=found[0],
        large=found[1],
        alone=[each["alone"] for each in pressed],
        beside=[each["beside"] for each in pressed],
    )


async def _roll_up(url: str, until: datetime) -> None:
    """What the pipeline does in the background, for as long ago as is asked about."""
    database = open_database(url)
    try:
        earliest = until - timedelta(days=ROLLED_DAYS)
        due = await database.read(hours.to_roll_up, until, limit=ROLLED_DAYS * 24)
        for hour in due:
            if hour >= earliest:
                await database.write(hours.keep, await database.read(hours.roll_up, hour))
    finally:
        await database.close()


def _targets(url: str, until: datetime) -> dict[str, str]:
    """The questions, by what they are called."""
    old = until - timedelta(days=history.DAYS * 0.9)
    deep = cursor_for(Position(old, UUID(int=0)), "received_at", Filter())
    [(some,)] = query(url, "SELECT evaluation_id FROM verdicts LIMIT 1")
    one = UUID(bytes=some) if isinstance(some, bytes) else some
    day, month = (
        f"since={until - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}&until={until:%Y-%m-%dT%H:%M:%SZ}" for days in (1, 30)
    )
    return {
        "a page": "/v1/verdicts",
        "a page of a common `task_type`": "/v1/verdicts?task_type=headshot",
        "of one that only the oldest tenth has": f"/v1/verdicts?task_type={history.RETIRED_TASK}",
        "of a rare one": f"/v1/verdicts?task_type={history.RARE_TASK}",
        "of one that is not there": "/v1/verdicts?task_type=nothing",
        "of a rare `client_ref_prefix`": f"/v1/verdicts?client_ref_prefix={history.RARE_REF}",
        "of a common one": f"/v1/verdicts?client_ref_prefix={history.COMMON_REF}",
        "of an `issue_category`": "/v1/verdicts?issue_category=identity",
        "the page after nine tenths": f"/v1/verdicts?cursor={deep}",
        "one verdict": f"/v1/verdicts/{one}",
        f"{STATS} of a day, by hour": f"/v1/stats?bucket=hour&{day}",
        f"{STATS} of 30 days": f"/v1/stats?{month}",
        f"{STATS} of 30 days, by day and `task_type`": f"/v1/stats?bucket=day&group=task_type&{month}",
    }


async def _ask_all(servers: list[Served], targets: list[dict[str, str]]) -> list[dict[str, Asked]]:
    found: list[dict[str, Asked]] = [{} for _ in servers]
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(headers=headers, timeout=60, trust_env=False) as client:
        for name in targets[0]:
            times: list[list[float]] = [[] for _ in servers]
            for number in range(ASKED + 3):
                for place, server in enumerate(servers):
                    seconds = await _ask(client, f"http://{server.host}:{server.port}{targets[place][name]}")
                    if number >= 3:
                        times[place].append(seconds)
            for place in range(len(servers)):
                found[place][name] = Asked.of(times[place])
    return found


async def _ask(client: httpx.AsyncClient, url: str) -> float:
    began = time.perf_counter()
    answer = await client.get(url)
    seconds = time.perf_counter() - began
    if answer.status_code != 200:
        raise ValueError(f"{url}: {answer.status_code} {answer.text[:200]}")
    return seconds


def _press(server: Served, url: str, targets: Mapping[str, str], how: How, number: int) -> dict[str, Outcome]:
    """The same rate of callbacks, alone and beside readers; every other round begins with the readers.

    No pipeline runs, so the verdicts of these callbacks stay without a tree. They are deleted each time, for a page of a
    filter that none of them matches would have to pass over all of them.
    """
    load = Load(16, how.seconds, how.warm_up, rate=CALLBACKS_PER_SECOND)
    outcomes = {}
    for which in ("alone", "beside") if number % 2 else ("beside", "alone"):
        with ExitStack() as stack:
            if which == "beside":
                stack.enter_context(_readers(server, targets))
            outcomes[which] = press([server], load)
        check_answers(which, outcomes[which])
        execute(url, "DELETE FROM verdicts WHERE tree = 'pending'", "DELETE FROM fetches")
    return outcomes


@contextmanager
def _readers(server: Served, targets: Mapping[str, str]) -> Iterator[None]:
    urls = "\n".join(f"http://{server.host}:{server.port}{target}" for target in targets.values())
    process = subprocess.Popen([sys.executable, "-m", "bench.reading"], stdin=subprocess.PIPE)
    os.sched_setaffinity(process.pid, {OWN_CORES[1]})
    assert process.stdin is not None
    process.stdin.write(urls.encode())
    process.stdin.close()
    with ended(process):
        yield


async def read_on(urls: list[str]) -> None:
    """Twenty readers, each with a question after the other, until the process is ended."""

    async def one(number: int) -> None:
        luck = random.Random(number)
        for count in range(number, sys.maxsize):
            await asyncio.sleep(luck.uniform(0, 2 * THINK_SECONDS))
            await _ask(client, urls[count % len(urls)])

    headers = {"Authorization": f"Bearer {TOKEN}"}
    limits = httpx.Limits(max_connections=READERS)
    async with httpx.AsyncClient(headers=headers, timeout=60, trust_env=False, limits=limits) as client:
        await asyncio.gather(*(one(number) for number in range(READERS)))


def markdown(reads: Reads) -> str:
    """Milliseconds of both sizes and their ratios, and the intake."""
    return "\n\n".join([*(_questions(kind, read) for kind, read in reads.stores.items()), _intake(reads)])


def _questions(kind: Kind, read: Read) -> str:
    head = [
        f"{TITLES[kind]}: answers, ms", f"{min(SMALL, read.rows):,}: p50", "p99", f"{read.rows:,}: p50", "p99",
        "ratio of p50", "ratio of p99",
    ]  # fmt: skip
    rows = [
        [name, *(f"{value:,.1f}" for value in (small.p50, small.p99, large.p50, large.p99)), *_ratios(small, large)]
        for (name, small), large in zip(read.small.items(), read.large.values(), strict=True)
    ]
    return table(head, rows)


def _ratios(small: Asked, large: Asked) -> list[str]:
    return [f"{large.p50 / small.p50:.2f}", f"{large.p99 / small.p99:.2f}"]


def _intake(reads: Reads) -> str:
    head = [
        f"callbacks at {CALLBACKS_PER_SECOND:g} a second, ms", "alone: p50", "p99",
        f"beside {READERS} readers: p50", "p99", "ratio of p99",
    ]  # fmt: skip
    rows = [
        [
            TITLES[kind],
            *(
                figure(getattr(each, name) for each in outcomes).shown(1)
                for outcomes in (read.alone, read.beside)
                for name in ("p50", "p99")
            ),
            _hurt(read).shown(2),
        ]
        for kind, read in reads.stores.items()
    ]
    return table(head, rows)


def _hurt(read: Read) -> Figure:
    return figure(beside.p99 / alone.p99 for alone, beside in zip(read.alone, read.beside, strict=True))


def claims(reads: Reads) -> list[Claim]:
    """The ratios that were promised, the worst of each kind of question."""
    found = []
    for kind, read in reads.stores.items():
        for what, is_one, most in (("pages and one verdict", False, 2.0), ("stats of a time", True, 10.0)):
            ratios = [
                read.large[name].p50 / read.small[name].p50 for name in read.small if name.startswith(STATS) is is_one
            ]
            title = f"{TITLES[kind]}, {read.rows:,} verdicts over {SMALL:,}: {what}, the worst ratio of p50"
            found.append(Claim(title, max(ratios), at_most=most, in_short=True))
        beside = figure(each.p99 for each in read.beside).middle
        found.append(Claim(f"{TITLES[kind]}: p99 of a callback's answer beside {READERS} readers", beside, " ms"))
    return found


if __name__ == "__main__":
    asyncio.run(read_on(sys.stdin.read().splitlines()))
