"""`python -m bench`: all measurements in one run, and one report of them."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import click

from bench import rates, report, stores
from bench.measure import How, folder
from bench.parts import PARTS
from bench.processes import ROOT, stolen_seconds
from bench.stores import Kind

POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"


@click.command()
@click.option("--only", default="all", show_default=True, help=f"Of {', '.join(PARTS)}.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seconds", type=float, default=4.0, show_default=True, help="Of each measurement.")
@click.option("--warm-up", type=float, default=1.0, show_default=True, help="Seconds before each that do not count.")
@click.option("--connections", type=click.IntRange(1), default=48, show_default=True)
@click.option("--variants", default="all", show_default=True, help=f"For rates, of {', '.join(rates.NAMED)}.")
@click.option("--latency-seconds", type=float, default=60.0, show_default=True, help="At half load; 0 for no latency.")
@click.option("--pressure-seconds", type=float, default=60.0, show_default=True, help="Of each kind of pressure.")
@click.option("--burst", type=click.IntRange(1), default=200_000, show_default=True, help="Callbacks, for memory.")
@click.option("--rows", type=click.IntRange(1), default=5_000_000, show_default=True, help="Stored before, for growth.")
@click.option("--verdicts", type=click.IntRange(1), default=10_000, show_default=True, help="Forwarded, for storage.")
@click.option("--postgres-url", default=os.environ.get("TEST_POSTGRES_URL", POSTGRES), show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=ROOT / "bench" / "results")
def main(only: str, out: Path, **options: Any) -> None:
    """Measure, print the tables, and write them with all figures to the folder --out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that databases and processes are gone then, too
    chosen = _chosen("--only", only, PARTS)
    _chosen("--variants", options["variants"], rates.NAMED)
    if not options["latency_seconds"]:
        chosen = [name for name in chosen if name != "latency"]
    postgres = _postgres(options["postgres_url"])
    databases: list[Kind] = ["sqlite"] if postgres is None else ["sqlite", "postgresql"]
    how = How(databases=databases, **options)
    with folder() as here:
        made = report.begin(how, stores.sync_ms(here), report.durability(postgres))
    for name in chosen:
        _measure(name, how, made)
        report.write(made, PARTS, out)
    click.echo(report.markdown(made, PARTS))
    sys.exit(1 if made.failed else 0)


def _measure(name: str, how: How, made: report.Report) -> None:
    """One part. If it fails the others are measured all the same, and the report says why."""
    began, made.measured_at[name] = time.monotonic(), datetime.now(UTC)
    stolen = stolen_seconds()
    click.echo(f"{name} …", err=True)
    try:
        made.parts[name] = PARTS[name].run(how)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is told and ends the run with status 1)
        traceback.print_exc()
        made.failed[name] = f"{type(error).__name__}: {error}"
    made.seconds_taken[name] = seconds = time.monotonic() - began
    made.stolen[name] = (stolen_seconds() - stolen) / (seconds * (os.cpu_count() or 1))
    click.echo(f"{name}: {made.seconds_taken[name]:.0f} s", err=True)


def _postgres(url: str) -> dict[str, str] | None:
    try:
        return stores.postgres_settings(url)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        click.echo(f"PostgreSQL is left out ({error}): start one, or name it with --postgres-url", err=True)
        return None


def _chosen(option: str, names: str, there: Mapping[str, object]) -> list[str]:
    wanted = set(there) if names == "all" else set(names.split(","))
    if unknown := wanted - set(there):
        raise click.UsageError(f"{option}: there is no {', '.join(sorted(unknown))}")
    return [name for name in there if name in wanted]


if __name__ == "__main__":
    main()
