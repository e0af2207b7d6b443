"""`python -m receiver.offline`: the offline Runflow in a process of its own. Its first line of output is its address."""

import asyncio
import signal
from contextlib import suppress
from typing import Any

import click

from receiver.offline.evaluator import RETRIES
from receiver.offline.runflow import OfflineRunflow

_ABOVE_ZERO = click.FloatRange(min=0, min_open=True)


def _waits(_: click.Context, __: click.Parameter, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(wait) for wait in text.split(",") if wait)
    except ValueError:
        raise click.BadParameter("must be seconds, separated by commas") from None


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, show_default=True, help="0 takes a free one.")
@click.option("--secret", default="whsec_offline", show_default=True, help="Signs callbacks.")
@click.option("--api-key", help="The bearer key that requests must carry; without it none is asked for.")
@click.option("--user-token", help="A person's token, for feedback on runs.")
@click.option("--seed", default=0, show_default=True, help="Decides how evaluations turn out.")
@click.option("--decide-delay", default=0.05, show_default=True, help="Seconds from submission to callback.")
@click.option("--retries", default=",".join(f"{wait:g}" for wait in RETRIES), callback=_waits, show_default=True)
@click.option("--callback-timeout", default=5.0, type=_ABOVE_ZERO, show_default=True, help="Seconds for one attempt.")
@click.option("--callback-url", help="Where the callbacks of submissions of its own go; without it there are none.")
@click.option("--rate", default=1.0, type=_ABOVE_ZERO, show_default=True, help="Submissions of its own a second.")
@click.option("--count", type=click.IntRange(min=1), help="How many of them; without it they go on.")
def main(callback_url: str | None, rate: float, count: int | None, **options: Any) -> None:
    """A Runflow on loopback, until SIGINT or SIGTERM."""
    try:
        asyncio.run(_run(callback_url, rate, count, options))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {options['host']}:{options['port']}: {error.strerror}") from error


async def _run(callback_url: str | None, rate: float, count: int | None, options: dict[str, Any]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with OfflineRunflow(**options) as runflow:
        click.echo(runflow.url)  # click flushes
        if callback_url is None:
            await stop.wait()
            return
        submitting = asyncio.create_task(_submit(runflow, callback_url, 1 / rate, count))
        await stop.wait()
        submitting.cancel()
        with suppress(asyncio.CancelledError):
            await submitting


async def _submit(runflow: OfflineRunflow, callback_url: str, distance: float, count: int | None) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    number = 0
    while count is None or number < count:
        runflow.submit(callback_url=callback_url)
        number += 1
        await asyncio.sleep(begun + number * distance - loop.time())


if __name__ == "__main__":
    main()
