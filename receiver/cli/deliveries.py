"""`receiver deliveries`: the outbox."""

from collections.abc import Callable
from typing import Any, NamedTuple

import click

from receiver.cli.common import NO_SUCCESS, ROW_ID, UTF8, WRONG_USE, fail, json_option, with_database, yes_option
from receiver.cli.output import print_json, print_table, shown
from receiver.settings import Settings
from receiver.store import lanes, outbox_desk
from receiver.store.database import Database
from receiver.store.outbox import STATES
from receiver.store.outbox_desk import Count, DeliveryFilter

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
ids_argument = click.argument("ids", type=ROW_ID, nargs=-1)


class Verb(NamedTuple):
    """What is done to deliveries: how many it would change, the change, and the words for it."""

    counts: Callable[..., list[Count]]
    act: Callable[..., int]
    done: str
    only: str


VERBS = {
    "retry": Verb(outbox_desk.retryable, outbox_desk.retry, "are due now", "only dead, discarded and waiting ones"),
    "discard": Verb(outbox_desk.discardable, outbox_desk.discard, "discarded", "only dead and waiting ones"),
}


@click.group()
def deliveries() -> None:
    """Show, retry and discard what is due to sinks."""


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that choose deliveries; one given twice means any of."""
    command = click.option("--evaluation-id", "evaluation_ids", type=click.UUID, multiple=True)(command)
    command = click.option("--sink", "sinks", type=UTF8, multiple=True, metavar="NAME")(command)
    return click.option("--state", "states", type=click.Choice(STATES), multiple=True)(command)


@deliveries.command("list")
@filter_options
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@click.option("--before", type=ROW_ID, metavar="ID", help="Go on where a list ended: those older than this one.")
@json_option
def list_(limit: int, before: int | None, as_json: bool, **chosen: Any) -> None:
    """The newest deliveries; what is paused, and counts, first."""

    async def work(database: Database, _settings: Settings) -> None:
        filter_ = DeliveryFilter(**chosen)
        counts = await database.read(outbox_desk.counts, filter_)
        paused = await database.read(lanes.troubled)
        records = await database.read(outbox_desk.page, filter_, limit=limit, before_id=before)
        if as_json:
            content = {
                "counts": [count._asdict() for count in counts],
                "paused": [lane._asdict() | {"suspects": list(lane.suspects)} for lane in paused],
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
    """Send dead and waiting ones now, with all their attempts before them again.

    Discarded ones too, where their ids or --state discarded name them. A sink that is paused tries again at once.
    """
    _change("retry", ids, yes=yes, as_json=as_json, chosen=chosen)


@deliveries.command()
@ids_argument
@filter_options
@yes_option
@json_option
def discard(ids: tuple[int, ...], yes: bool, as_json: bool, **chosen: Any) -> None:
    """Give up on dead and waiting ones; `retry` by id brings one back."""
    _change("discard", ids, yes=yes, as_json=as_json, chosen=chosen)


def _change(verb: str, ids: tuple[int, ...], *, yes: bool, as_json: bool, chosen: dict[str, Any]) -> None:
    filter_ = DeliveryFilter(ids=ids, **chosen)
    if filter_ == DeliveryFilter():
        fail(f"say which to {verb}: ids, or --state, --sink, --evaluation-id", WRONG_USE)
    change = VERBS[verb]

    async def work(database: Database, _settings: Settings) -> None:
        counts = await database.read(change.counts, filter_, database.now())
        many = sum(count.deliveries for count in counts)
        click.echo(f"{many} to {verb}", err=as_json)
        if many and not yes:
            click.confirm(f"{verb} them?", abort=True, err=True)
        changed = await database.write(change.act, filter_, database.now())
        for lane in {lanes.sink_lane(count.sink) for count in counts}:
            if verb == "retry":
                await database.write(lanes.probe_now, lane, database.now())
            await database.ring(lane)
        if as_json:
            print_json({"changed": changed})
        elif changed:
            click.echo(f"{changed} {change.done}")
        if ids and not changed:
            fail(f"there is none to {verb}: {change.only} can be", NO_SUCCESS)

    with_database(work)
