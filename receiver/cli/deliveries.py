"""`receiver deliveries`: the outbox."""

from collections.abc import Callable, Sequence
from typing import Any

import click
from pydantic import ValidationError

from receiver.cli.common import NO_SUCCESS, WRONG_USE, fail, json_option, with_database, yes_option
from receiver.cli.output import print_json, print_table, shown
from receiver.settings import Settings
from receiver.store import lanes, outbox_desk
from receiver.store.database import Database
from receiver.store.outbox import STATES, State
from receiver.store.outbox_desk import DISCARDABLE, RETRYABLE, DeliveryFilter

COLUMNS = (
    "id",
    "sink",
    "state",
    "evaluation_id",
    "revision",
    "attempts",
    "due_at",
    "ended_at",
    "remote_id",
    "last_error",
)
ids_argument = click.argument("ids", type=click.IntRange(1, 2**63 - 1), nargs=-1)
DONE = {"retry": "are due now", "discard": "discarded"}


@click.group()
def deliveries() -> None:
    """Show, retry and discard what is due to sinks."""


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that choose deliveries; one given twice means any of."""
    command = click.option("--evaluation-id", "evaluation_ids", type=click.UUID, multiple=True)(command)
    command = click.option("--sink", "sinks", multiple=True, metavar="NAME")(command)
    return click.option("--state", "states", type=click.Choice(STATES), multiple=True)(command)


def _filter(**chosen: Any) -> DeliveryFilter:
    try:
        return DeliveryFilter(**chosen)
    except ValidationError:  # all but names were checked before, and a name of the command line may be no text
        fail("--sink: is not text in UTF-8", WRONG_USE)


@deliveries.command("list")
@filter_options
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@json_option
def list_(limit: int, as_json: bool, **chosen: Any) -> None:
    """The newest deliveries; paused sinks and counts first."""

    async def work(database: Database, _settings: Settings) -> None:
        filter_ = _filter(**chosen)
        counts = await database.read(outbox_desk.counts, filter_)
        paused = [lane for lane in await database.read(lanes.troubled) if lane.name != lanes.FETCH]
        records = await database.read(outbox_desk.page, filter_, limit=limit)
        if as_json:
            content = {
                "counts": [count._asdict() for count in counts],
                "paused": [lane._asdict() for lane in paused],
                "items": [record.model_dump(mode="json") for record in records],
            }
            print_json(content)
            return
        for lane in paused:
            click.echo(
                f"{lane.name.replace(':', ' ')} is paused until {shown(lane.paused_until)}: {shown(lane.reason)}"
            )
        click.echo(", ".join(f"{count.sink} {count.state} {count.deliveries}" for count in counts) or "nothing")
        print_table(COLUMNS, ([getattr(record, column) for column in COLUMNS] for record in records))

    with_database(work)


@deliveries.command()
@ids_argument
@filter_options
@yes_option
@json_option
def retry(ids: tuple[int, ...], yes: bool, as_json: bool, **chosen: Any) -> None:
    """Send dead, discarded and waiting ones now, with all their attempts before them again."""
    _change("retry", RETRYABLE, ids, yes=yes, as_json=as_json, chosen=chosen)


@deliveries.command()
@ids_argument
@filter_options
@yes_option
@json_option
def discard(ids: tuple[int, ...], yes: bool, as_json: bool, **chosen: Any) -> None:
    """Give up on dead and waiting ones for good."""
    _change("discard", DISCARDABLE, ids, yes=yes, as_json=as_json, chosen=chosen)


def _change(
    verb: str, states: Sequence[State], ids: tuple[int, ...], *, yes: bool, as_json: bool, chosen: dict[str, Any]
) -> None:
    filter_ = _filter(ids=ids, **chosen)
    if filter_ == DeliveryFilter():
        fail(f"say which to {verb}: ids, or --state, --sink, --evaluation-id", WRONG_USE)

    async def work(database: Database, _settings: Settings) -> None:
        counts = await database.read(outbox_desk.counts, filter_)
        many = sum(count.deliveries for count in counts if count.state in states)
        click.echo(f"{many} to {verb}", err=as_json)
        if many and not yes:
            click.confirm(f"{verb} them?", abort=True, err=True)
        act = outbox_desk.retry if verb == "retry" else outbox_desk.discard
        changed = await database.write(act, filter_, database.now())
        for sink in {count.sink for count in counts}:
            await database.ring(lanes.sink_lane(sink))
        if as_json:
            print_json({"changed": changed})
        elif changed:
            click.echo(f"{changed} {DONE[verb]}")
        if ids and not changed:
            fail(f"there is none to {verb}: only {', '.join(states)} ones can be", NO_SUCCESS)

    with_database(work)
