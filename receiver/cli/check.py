"""`receiver check`: the settings, and every part that they name, reached for real."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple
from uuid import UUID

import click

from receiver.cli.common import NO_SUCCESS, json_option, quiet_logs, read_settings, run
from receiver.cli.output import print_json, shown
from receiver.cli.send import sample_id
from receiver.core.envelope import Message
from receiver.core.verdict import Verdict
from receiver.errors import ReceiverError, SettingsError
from receiver.settings import Settings
from receiver.sinks.base import Done, Sink, SinkError, SinkOptions
from receiver.sinks.registry import open_sink
from receiver.store import lanes, promises, schema
from receiver.wiring import database_of, evaluations_address, runflow_of

LONGEST = 20.0
"""Seconds that one part may take."""

Result = Literal["ok", "failed", "warning", "not checked"]


class Line(NamedTuple):
    """One part, and how it stands."""

    part: str
    result: Result
    detail: str
    paused_until: datetime | None = None


@click.command()
@click.option("--send-test", is_flag=True, help="Send a marked test message to each sink.")
@json_option
def check(send_test: bool, as_json: bool) -> None:
    """Check the settings and reach every part; a line each. Exit status 1 if one fails, 2 if a setting is wrong."""
    lines = run(_check(send_test=send_test))
    if as_json:
        print_json([line._asdict() for line in lines])
    else:
        for line in lines:
            click.echo(f"{line.result:<12}{line.part}: {line.detail}")
    sys.exit(NO_SUCCESS if any(line.result == "failed" for line in lines) else 0)


async def _check(*, send_test: bool) -> list[Line]:
    settings = read_settings()
    quiet_logs(settings)
    parts = [
        _part("Runflow", lambda: _runflow(settings)),
        *(_part(f"sink {each.name}", _sink_check(each, settings, send_test=send_test)) for each in settings.sinks),
    ]
    database, *others = await asyncio.gather(_part("database", lambda: _database(settings)), *parts)
    inside = await _inside(settings) if database.result == "ok" else []
    return [*_settings(settings), database, *others, *inside, *_not_checked(settings)]


def _settings(settings: Settings) -> Iterator[Line]:
    yield Line("settings", "ok", "all are well-formed")
    for warning in settings.warnings:
        yield Line("settings", "warning", warning)
    if settings.takes_callbacks:
        labels = ", ".join(secret.label for secret in settings.webhook_secrets)
        yield Line("callback secrets", "ok", f"{len(settings.webhook_secrets)}: {labels}")
    else:
        yield Line("callback secrets", "failed", "RUNFLOW_WEBHOOK_SECRET is missing: `serve` would not start")
    if not settings.sinks:
        yield Line("sinks", "warning", "none: verdicts are stored and forwarded nowhere")


def _not_checked(settings: Settings) -> Iterator[Line]:
    if settings.api_key is not None:
        yield Line("Runflow", "not checked", "evaluations:read of one evaluation, evaluations:edit, evaluations:create")


async def _part(name: str, work: Callable[[], Awaitable[str]]) -> Line:
    try:
        async with asyncio.timeout(LONGEST):
            return Line(name, "ok", await work())
    except TimeoutError:
        return Line(name, "failed", f"no answer within {LONGEST:g} s")
    except _NotConfigured as error:
        return Line(name, "warning", str(error))
    except (ReceiverError, SinkError) as error:
        return Line(name, "failed", str(error))


class _NotConfigured(Exception):
    """A part that works without being there, but less well."""


async def _database(settings: Settings) -> str:
    path = settings.database_path
    if path is not None and not path.exists():
        return _not_made_yet(path, settings.database_shown)
    database = database_of(settings)
    try:
        state = await database.read(schema.schema_state)
        if not state.is_current and not settings.migrates_at_start:
            await schema.require_current(database)
    finally:
        await database.close()
    return f"{settings.database_shown}, schema {state.current or 'none yet: made at start'}"


async def _inside(settings: Settings) -> list[Line]:
    """What the database itself has to tell: whether it keeps what it says, and what is paused."""
    if settings.database_path is not None and not settings.database_path.exists():
        return []
    database = database_of(settings)
    try:
        found = [Line("database", "warning", doubt) for doubt in await database.read(promises.doubts)]
        if (await database.read(schema.schema_state)).is_current:
            found += map(_paused, await database.read(lanes.troubled))
    except ReceiverError as error:
        return [Line("database", "failed", str(error))]
    finally:
        await database.close()
    return found


def _paused(lane: lanes.LaneState) -> Line:
    part = "Runflow" if lane.name == lanes.FETCH else lane.name.replace(":", " ", 1)
    until = f"paused until {shown(lane.paused_until)}: {shown(lane.reason)}; then it is tried by itself"
    return Line(part, "warning", until, lane.paused_until)


def _not_made_yet(path: Path, shown: str) -> str:
    """A check makes no file; whether one could be made can be told all the same."""
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise SettingsError(f"DATABASE_URL: the folder of {path} is not there or cannot be written; name one that can")
    return f"{shown} is not there yet: made at start"


async def _runflow(settings: Settings) -> str:
    client = runflow_of(settings)
    if client is None:
        raise _NotConfigured("no RUNFLOW_API_KEY: verdicts are forwarded without their tree")
    try:
        await client.who_am_i()
    finally:
        await client.close()
    return f"{settings.api_url} takes the key"


def _sink_check(options: SinkOptions, settings: Settings, *, send_test: bool) -> Callable[[], Awaitable[str]]:
    async def work() -> str:
        sink = open_sink(options, public_url=settings.public_url)
        try:
            found = await sink.check()
            return f"{found}; {await _send_test(sink, settings)}" if send_test else found
        finally:
            await sink.close()

    return work


async def _send_test(sink: Sink, settings: Settings) -> str:
    [outcome] = await sink.send([Message(test_verdict(sample_id()), evaluations_address(settings))])
    if not isinstance(outcome, Done):
        raise SinkError(f"the test message: {outcome.reason}")
    return "the test message was taken"


def test_verdict(evaluation_id: UUID) -> Verdict:
    """A verdict that says what it is: its id and its `origin` mark it as a sample."""
    now = datetime.now(UTC)
    return Verdict(
        evaluation_id=evaluation_id,
        event="evaluation.completed",
        status="completed",
        overall_passed=False,
        weighted_pass_rate=0.0,
        top_issues=["This is a test of runflow-receiver: no image was judged"],
        client_ref="receiver check --send-test",
        completed_at=now,
        received_at=now,
        tree="unavailable",
        tree_reason="sample",
        origin="sample",
        revision=1,
    )
