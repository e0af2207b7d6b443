"""How long starting takes: `receiver --help`, and `receiver serve` until `/readyz` answers 200.

python -m bench.startup
"""

import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

import click
from pydantic import BaseModel

from bench import stores
from bench.callbacks import SECRET
from bench.figures import Figure, figure
from bench.processes import STOP_SECONDS, cpu_seconds, environment
from bench.tables import Claim

POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"
LONGEST = 60.0
_LOOK_EVERY = 0.005
_ASK = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
Store = Literal["sqlite", "postgresql"]
STORES: tuple[Store, ...] = ("sqlite", "postgresql")


class Taken(NamedTuple):
    """Seconds by the clock and on the processor."""

    seconds: float
    cpu: float


class Ready(BaseModel):
    """From starting the process to the first 200 of `/readyz`. `fresh`: on an empty database, which it migrates first."""

    store: Store
    fresh: bool
    seconds: Figure
    cpu: Figure


class Startup(BaseModel):
    """All in seconds, by the clock and on the processor."""

    help_seconds: Figure
    help_cpu: Figure
    ready: list[Ready]


def measure(postgres_url: str, *, kinds: Sequence[Store] = STORES, rounds: int = 5) -> Startup:
    """Each of them once a round, with databases of these kinds."""
    helps: list[Taken] = []
    readies: dict[tuple[Store, bool], list[Taken]] = {}
    for _ in range(rounds):
        helps.append(_help())
        for store in kinds:
            with (
                tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder,
                stores.database(store, Path(folder), postgres_url) as url,
            ):
                for fresh in (True, False):
                    readies.setdefault((store, fresh), []).append(_ready(url, Path(folder)))
    return Startup(
        help_seconds=figure(each.seconds for each in helps),
        help_cpu=figure(each.cpu for each in helps),
        ready=[
            Ready(
                store=store,
                fresh=fresh,
                seconds=figure(one.seconds for one in each),
                cpu=figure(one.cpu for one in each),
            )
            for (store, fresh), each in readies.items()
        ],
    )


def _help() -> Taken:
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "receiver", "--help"]
    subprocess.run(command, env=environment({}), check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(time.perf_counter() - began, cpu)


def _ready(url: str, folder: Path) -> Taken:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port: int = free.getsockname()[1]
    settings = {
        "DATABASE_URL": url,
        "DATABASE_AUTO_UPGRADE": "on",
        "RUNFLOW_WEBHOOK_SECRET": SECRET,
        "RUNFLOW_API_KEY": "rf_live_only_for_measurements",
        "RECEIVER_PORT": str(port),
    }
    began = time.perf_counter()
    process = _start(settings, folder)
    try:
        while not _is_ready(port):
            if process.poll() is not None or time.perf_counter() - began > LONGEST:
                raise RuntimeError(f"it did not become ready:\n{(folder / 'serve.log').read_text()}")
            time.sleep(_LOOK_EVERY)
        return Taken(time.perf_counter() - began, cpu_seconds(process.pid))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)


def _start(settings: Mapping[str, str], folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / "serve.log").open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "receiver", "serve"],
            env=environment(settings),
            cwd=folder,
            stdout=stream,
            stderr=stream,
        )


def _is_ready(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=LONGEST) as connection:
            connection.sendall(_ASK)
            return connection.recv(12) == b"HTTP/1.1 200"
    except OSError:
        return False


def shown(startup: Startup) -> str:
    """Lines for people."""
    lines = [f"receiver --help: {startup.help_seconds.shown(2)} s, {startup.help_cpu.shown(2)} s CPU"]
    lines += [
        f"receiver serve, {it.store}, {'fresh' if it.fresh else 'existing'}: ready after {it.seconds.shown(2)} s,"
        f" {it.cpu.shown(2)} s CPU"
        for it in startup.ready
    ]
    return "\n".join(lines)


def claims(startup: Startup) -> list[Claim]:
    """What was promised of both."""
    ready = [each.seconds.middle for each in startup.ready]
    return [
        Claim("receiver --help", startup.help_seconds.middle, " s", at_most=0.3),
        *([Claim("receiver serve until /readyz, where it is longest", max(ready), " s", at_most=1.5)] if ready else []),
    ]


@click.command()
@click.option("--store", "kinds", type=click.Choice(STORES), multiple=True, default=STORES, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--postgres-url", default=os.environ.get("TEST_POSTGRES_URL", POSTGRES), show_default=True)
def main(kinds: Sequence[Store], rounds: int, as_json: bool, postgres_url: str) -> None:
    """Measure, and print the figures."""
    measured = measure(postgres_url, kinds=kinds, rounds=rounds)
    click.echo(measured.model_dump_json(indent=2) if as_json else shown(measured))


if __name__ == "__main__":
    main()
