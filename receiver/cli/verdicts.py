"""`receiver verdicts`: what is stored, as a table or a tree."""

from typing import Any
from uuid import UUID

import click
from rich.text import Text
from rich.tree import Tree

from receiver.cli.common import UTF8, json_option, with_database
from receiver.cli.export import export
from receiver.cli.filters import filter_of, filter_options
from receiver.cli.output import console, print_json, print_table, shown
from receiver.cli.timeline import print_timeline
from receiver.core.timeline import Timeline
from receiver.core.verdict import NOT_IN_LISTS, Verdict
from receiver.errors import NotFound
from receiver.settings import Settings
from receiver.store import reading
from receiver.store.database import Database
from receiver.store.timeline import timeline
from receiver.web.cursors import cursor_for
from receiver.web.parameters import MOST_ITEMS, after_cursor

COLUMNS = (
    "received_at", "evaluation_id", "status", "overall_passed", "weighted_pass_rate", "task_type", "client_ref", "tree",
    "revision",
)  # fmt: skip


@click.group()
def verdicts() -> None:
    """Show and export stored verdicts."""


verdicts.add_command(export)


@verdicts.command("list")
@filter_options
@click.option("--limit", type=click.IntRange(1, MOST_ITEMS), default=50, show_default=True, help="At most so many.")
@click.option("--sort", type=click.Choice(["received_at", "completed_at"]), default="received_at", show_default=True)
@click.option("--cursor", type=UTF8, metavar="NEXT", help="Go on where a list with the same filters ended.")
@json_option
def list_(limit: int, sort: reading.Sort, cursor: str | None, as_json: bool, **words: tuple[str, ...]) -> None:
    """The newest verdicts that the filters match. `null` stands for no value."""

    async def work(database: Database, _settings: Settings) -> None:
        filter_ = filter_of(words)
        after = None if cursor is None else after_cursor(cursor, sort, filter_)
        page = await database.read(reading.page, filter_, limit=limit, sort=sort, after=after)
        following = page.end and cursor_for(page.end, sort, filter_)
        if as_json:
            items = [item.model_dump(mode="json", exclude=set(NOT_IN_LISTS)) for item in page.items]
            print_json({"items": items, "next": following})
            return
        print_table(COLUMNS, ([getattr(item, column) for column in COLUMNS] for item in page.items))
        if following is not None:
            click.echo(f"(there are more: --cursor {following})")

    with_database(work)


@verdicts.command()
@click.argument("evaluation_id", type=click.UUID)
@click.option("--timeline", "wants_timeline", is_flag=True, help="Why it went where it went, in place of what it says.")
@json_option
def show(evaluation_id: UUID, wants_timeline: bool, as_json: bool) -> None:
    """One verdict, with its judges and their reasons; or how it came, was fetched and was delivered."""

    async def work(database: Database, _settings: Settings) -> None:
        found: Timeline | Verdict | None
        if wants_timeline:
            found = await database.read(timeline, evaluation_id, database.now())
        else:
            found = await database.read(reading.one, evaluation_id)
        match found:
            case None:
                raise NotFound(f"there is no evaluation {evaluation_id} here")
            case _ if as_json:
                print_json(found.model_dump(mode="json"))
            case Timeline():
                print_timeline(found)
            case Verdict():
                console().print(tree_of(found))

    with_database(work)


def tree_of(verdict: Verdict) -> Tree:
    """The verdict as people read it."""
    tree = Tree(Text(f"{verdict.event} {verdict.evaluation_id}", style="bold"))
    for name in Verdict.model_fields:
        value = getattr(verdict, name)
        if name in ("evaluation_id", "event", "schema_version") or value is None or value == []:
            continue
        _add(tree, name, value)
    return tree


def _add(tree: Tree, name: str, value: Any) -> None:
    name = shown(name)  # a key of what Runflow leaves open may be anything
    if isinstance(value, list):
        branch = tree.add(Text(name))
        for number, item in enumerate(value, start=1):
            _add(branch, str(number), item)
    elif hasattr(value, "model_dump") or isinstance(value, dict):
        parts = value if isinstance(value, dict) else value.model_dump()
        branch = tree.add(Text(f"{name} {shown(parts['name'])}" if parts.get("name") else name))
        for key, part in parts.items():
            if part is not None and part != [] and key != "name":
                _add(branch, key, part)
    else:
        tree.add(Text(f"{name}: {shown(value)}"))
