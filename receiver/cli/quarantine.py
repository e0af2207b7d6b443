"""`receiver quarantine`: what was genuine and not understood, and other kinds of event."""

import re
import sys
from typing import Literal

import click

from receiver.cli.common import NO_SUCCESS, WRONG_USE, fail, json_option, with_database
from receiver.cli.output import print_json, print_table, shown
from receiver.errors import NotFound
from receiver.pipeline.station import EVENTS
from receiver.settings import Settings
from receiver.store import quarantine as store
from receiver.store.database import Database

SHORT_ID = 12
_ID = re.compile(r"[0-9a-f]{4,64}")

ids_argument = click.argument("ids", nargs=-1, required=True)


@click.group()
def quarantine() -> None:
    """See to what was genuine and not understood. An ID is the SHA-256 of the body, or its first digits."""


@quarantine.command("list")
@click.option("--ignored", "kind", flag_value="ignored", help="Other kinds of event, which nobody waits for.")
@click.option("--quarantined", "kind", flag_value="quarantined", default=True, help="What was not understood.")
@click.option("--state", type=click.Choice(["kept", "retried", "discarded"]), default="kept", show_default=True)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@json_option
def list_(kind: Literal["ignored", "quarantined"], state: str, limit: int, as_json: bool) -> None:
    """The newest first."""

    async def work(database: Database, _settings: Settings) -> None:
        kept = await database.read(store.listed, kind=kind, state=state, limit=limit)
        if as_json:
            print_json([each._asdict() for each in kept])
            return
        rows = [
            (
                each.id[:SHORT_ID],
                each.received_at,
                each.why or each.event,
                len(each.body),
                each.repeats,
                each.request_id,
            )
            for each in kept
        ]
        print_table(("id", "received_at", "why", "bytes", "repeats", "request_id"), rows)

    with_database(work)


@quarantine.command()
@click.argument("id_", metavar="ID")
@click.option("--raw", is_flag=True, help="Write the body alone, byte for byte.")
@json_option
def show(id_: str, raw: bool, as_json: bool) -> None:
    """One body, with what is known of it."""

    async def work(database: Database, _settings: Settings) -> None:
        kept = await _find(database, id_)
        if raw:
            sys.stdout.buffer.write(kept.body)
        elif as_json:
            print_json(kept._asdict())
        else:
            for name, value in kept._asdict().items():
                click.echo(f"{name}: {shown(value)}")

    with_database(work)


@quarantine.command()
@ids_argument
@json_option
def retry(ids: tuple[str, ...], as_json: bool) -> None:
    """Read bodies again with what this program understands today; those understood go on as events."""

    async def work(database: Database, _settings: Settings) -> None:
        found = [(await _find(database, each)).id for each in ids]
        understood = [each.id for each in await database.write(store.retry, found)]
        await database.ring(EVENTS)
        if as_json:
            print_json({"understood": understood, "not_understood": [each for each in found if each not in understood]})
        else:
            click.echo(f"{len(understood)} of {len(found)} understood")
        if len(understood) < len(found):
            fail("the others stay as they are", NO_SUCCESS)

    with_database(work)


@quarantine.command()
@ids_argument
@json_option
def discard(ids: tuple[str, ...], as_json: bool) -> None:
    """Take bodies off the list. They stay stored, so that a repeat is known as one."""

    async def work(database: Database, _settings: Settings) -> None:
        found = [(await _find(database, each)).id for each in ids]
        changed = await database.write(store.discard, found)
        if as_json:
            print_json({"changed": changed})
        else:
            click.echo(f"{changed} discarded")

    with_database(work)


async def _find(database: Database, beginning: str) -> store.Kept:
    if not _ID.fullmatch(beginning.lower()):
        fail(f"{beginning!r} is no ID: it takes 4 to 64 hexadecimal digits", WRONG_USE)
    found = await database.read(store.find, beginning.lower())
    if len(found) != 1:
        raise NotFound(f"{'none' if not found else 'more than one'} begins with {beginning}")
    return found[0]
