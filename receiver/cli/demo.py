"""`receiver demo`: the whole flow on one machine, with an offline Runflow, in a temporary folder.

Blind to the caller's environment and configuration: what it shows is the package, not the caller's settings.
"""

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click
import orjson
import uvloop

from receiver import logs
from receiver.cli.common import NO_SUCCESS, exit_status, fail
from receiver.cli.output import shown
from receiver.cli.serving import Server, address_of, listen, running, server_config
from receiver.core.verdict import Verdict
from receiver.offline import OfflineRunflow
from receiver.settings import Settings, load_settings
from receiver.web.hook import PATH

VERDICTS = 20
LONGEST = 60.0
LOOK_EVERY = 0.05
HOST = "127.0.0.1"
CONFIGURATION = """\
[[sinks]]
name = "demo"
type = "file"
path = "{path}"
"""


@click.command()
@click.option("--keep", is_flag=True, help="Stay up afterwards, and say where to look.")
def demo(keep: bool) -> None:
    """Show the whole flow: an offline Runflow judges, signs and calls back; verdicts arrive in a file."""
    logs.configure("error")
    with (
        exit_status(),
        tempfile.TemporaryDirectory(prefix="runflow-receiver-demo-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_demo(Path(folder), keep=keep))


async def _demo(folder: Path, *, keep: bool) -> None:
    secret, api_key, token = f"whsec_{secrets.token_hex(16)}", f"rf_live_{secrets.token_hex(8)}", secrets.token_hex(16)
    async with OfflineRunflow(secret=secret, api_key=api_key) as runflow:
        click.echo(f"offline Runflow   {runflow.url}")
        settings = _settings(folder, runflow.url, secret, api_key, token)
        async with _served(settings) as (address, stopped):
            click.echo(f"receiver          {address}{PATH}")
            for _ in range(VERDICTS):
                runflow.submit(callback_url=f"{address}{PATH}")
            click.echo(
                f"submitted         {VERDICTS} images; their verdicts, as they arrive in {folder / 'verdicts.ndjson'}:\n"
            )
            arrived = await _show(folder / "verdicts.ndjson", stopped)
            click.echo(
                f"\n{arrived} of {VERDICTS} verdicts went all the way: signed callback, stored once, tree fetched, forwarded."
            )
            if arrived < VERDICTS:
                fail("interrupted" if stopped.is_set() else f"the others did not come within {LONGEST:g} s", NO_SUCCESS)
            _say_where_to_look(address, token, keep=keep)
            if keep:
                await stopped.wait()


def _settings(folder: Path, runflow_url: str, secret: str, api_key: str, token: str) -> Settings:
    """Settings of its own: no name of the caller's environment, no file of the caller's folder."""
    configuration = folder / "receiver.toml"
    configuration.write_text(CONFIGURATION.format(path=folder / "verdicts.ndjson"))
    environ = {
        "RUNFLOW_WEBHOOK_SECRET": secret,
        "RUNFLOW_API_KEY": api_key,
        "RUNFLOW_API_URL": runflow_url,
        "DATABASE_URL": f"sqlite:///{folder / 'receiver.db'}",
        "RECEIVER_API_TOKENS": f"demo:read={token}",
        "RECEIVER_CONFIG": str(configuration),
    }
    return load_settings(environ, directory=folder)


@asynccontextmanager
async def _served(settings: Settings) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A receiver on a free port: its address, and the event that Ctrl-C, or the terminal's end, sets."""
    with listen(HOST, 0) as listener:
        async with running(settings, runs_pipeline=True, reread=None) as (service, stopped):
            server = Server(server_config(service.app, settings))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield address_of(listener), stopped
            finally:
                server.should_exit = True
                await serving


async def _show(path: Path, stopped: asyncio.Event) -> int:
    """Prints each verdict as its line comes; returns how many evaluations came until all had, a signal or the time's end."""
    seen: set[str] = set()
    lines = 0
    try:
        async with asyncio.timeout(LONGEST):
            while len(seen) < VERDICTS and not stopped.is_set():
                written = _lines_of(path)
                for line in written[lines:]:
                    verdict = Verdict.model_validate(orjson.loads(line)["data"])
                    seen.add(str(verdict.evaluation_id))
                    click.echo(_line(verdict))
                lines = len(written)
                await asyncio.sleep(LOOK_EVERY)
    except TimeoutError:
        pass
    return len(seen)


def _lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.exists() else []


def _line(verdict: Verdict) -> str:
    """One verdict on one line: the answer, the score, what for, and the first thing that was wrong."""
    words = {True: "passed", False: "FAILED", None: verdict.failure_code or "no verdict"}
    score = "" if verdict.weighted_pass_rate is None else f"{verdict.weighted_pass_rate:.2f}"
    first = verdict.top_issues[0] if verdict.top_issues else ""
    return f"  {words[verdict.overall_passed]:<18}{score:<6}{shown(verdict.task_type):<22}{shown(first)[:70]}".rstrip()


def _say_where_to_look(address: str, token: str, *, keep: bool) -> None:
    if keep:
        click.echo("\nStill up; Ctrl-C ends it. Ask it yourself:\n")
        click.echo(f'  curl -s -H "Authorization: Bearer {token}" "{address}/v1/verdicts?overall_passed=false&limit=3"')
    else:
        click.echo("`receiver demo --keep` stays up, for you to ask it yourself.")
