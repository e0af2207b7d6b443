"""`python -m bench`: all measurements in one run, in rounds, so that what a shared machine does meanwhile meets them all."""

import os
import tempfile
from pathlib import Path

import asyncpg
import click

from bench import report, stores
from bench.callbacks import BODY
from bench.measure import VARIANTS, Load, Measured, Variant, measure
from bench.processes import ROOT
from bench.report import Latency, Report

POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seconds", type=float, default=6.0, show_default=True, help="Of each measurement.")
@click.option("--warm-up", type=float, default=1.0, show_default=True, help="Seconds before each that do not count.")
@click.option("--connections", type=click.IntRange(1), default=48, show_default=True)
@click.option("--variants", default="all", show_default=True, help=f"Of {', '.join(each.name for each in VARIANTS)}.")
@click.option(
    "--latency-seconds", type=float, default=10.0, show_default=True, help="Idle and at half load; 0 for none."
)
@click.option("--postgres-url", default=os.environ.get("TEST_POSTGRES_URL", POSTGRES), show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=ROOT / "bench" / "results")
def main(
    rounds: int,
    seconds: float,
    warm_up: float,
    connections: int,
    variants: str,
    latency_seconds: float,
    postgres_url: str,
    out: Path,
) -> None:
    """Measure, print the tables, and write them with all figures to the folder --out."""
    chosen = _chosen(variants)
    postgres = _postgres(postgres_url) if any(each.store == "postgresql" for each in chosen) else None
    if postgres is None:
        chosen = [each for each in chosen if each.store != "postgresql"]
    with tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder:
        here = report.machine(stores.sync_ms(Path(folder)))
    measured = _in_rounds(chosen, rounds, Load(connections, seconds, warm_up), postgres_url)
    latency = {}
    for variant in chosen if latency_seconds else ():
        if variant.callbacks != "half_repeated" and variant.name != "verify":
            full = report.spread([each[variant.name].outcome.per_second for each in measured]).middle
            latency[variant.name] = _latency(
                variant, full / 2, Load(connections, latency_seconds, warm_up), postgres_url
            )
    made = Report(
        at=report.now(),
        machine=here,
        versions=report.versions(),
        durability=report.durability(postgres),
        connections=connections,
        body_bytes=len(BODY),
        seconds=seconds,
        rounds=measured,
        latency=latency,
    )
    report.write(made, out)
    click.echo(report.markdown(made))


def _postgres(url: str) -> dict[str, str] | None:
    try:
        return stores.postgres_settings(url)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        click.echo(f"PostgreSQL is left out ({error}): start one, or name it with --postgres-url", err=True)
        return None


def _chosen(names: str) -> list[Variant]:
    """The variants to measure; the empty route, to which all are compared, is always among them."""
    wanted = {each.name for each in VARIANTS} if names == "all" else {"empty", *names.split(",")}
    if unknown := wanted - {each.name for each in VARIANTS}:
        raise click.UsageError(f"--variants: there is no {', '.join(sorted(unknown))}")
    return [each for each in VARIANTS if each.name in wanted]


def _in_rounds(variants: list[Variant], rounds: int, load: Load, postgres_url: str) -> list[dict[str, Measured]]:
    """Each variant once a round, each round begun by another, so that none always has the quiet seconds."""
    measured = []
    for number in range(rounds):
        first = number % len(variants)
        this = {}
        for variant in variants[first:] + variants[:first]:
            (this[variant.name],) = measure(variant, [load], postgres_url)
            click.echo(f"round {number + 1}: {variant.title}: {this[variant.name].outcome.per_second:,.0f}/s", err=True)
        measured.append({variant.name: this[variant.name] for variant in variants})
    return measured


def _latency(variant: Variant, half: float, load: Load, postgres_url: str) -> Latency:
    idle, at_half = measure(variant, [load._replace(connections=1), load._replace(rate=half)], postgres_url)
    return Latency(idle=idle, half=at_half, half_rate=half)


if __name__ == "__main__":
    main()
