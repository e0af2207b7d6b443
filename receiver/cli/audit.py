"""`receiver audit`: the books."""

import sys

import click

from receiver.cli.common import NO_SUCCESS, json_option, with_database
from receiver.cli.output import print_json, print_table, progress_console, shown
from receiver.settings import Settings
from receiver.store.audit import Books
from receiver.store.audit import audit as audit_store
from receiver.store.database import Database
from receiver.store.outbox import STATES


@click.command()
@json_option
def audit(as_json: bool) -> None:
    """Check that every event is accounted for. Lists every exception; exit status 1 if it does not add up."""

    async def work(database: Database, settings: Settings) -> Books:
        with progress_console().status("going through all that is stored …"):  # shown on a terminal alone
            return await database.survey(audit_store, [sink.name for sink in settings.sinks])

    books = with_database(work)
    if as_json:
        sinks = [{**sink._asdict(), "adds_up": sink.adds_up} for sink in books.sinks]
        print_json({**books._asdict(), "sinks": sinks, "adds_up": books.adds_up})
    else:
        _print(books)
    sys.exit(0 if books.adds_up else NO_SUCCESS)


def _print(books: Books) -> None:
    click.echo(
        f"{books.events} events of {books.evaluations} evaluations"
        f" = {books.verdicts} verdicts + {books.waiting} waiting for their fetch"
        + ("" if books.evaluations == books.verdicts + books.waiting else "   DOES NOT ADD UP")
    )
    if books.sinks:
        rows = [(s.sink, s.due, *(s.by_state[state] for state in STATES), s.adds_up) for s in books.sinks]
        print_table(("sink", "due", *STATES, "adds up"), rows)
    click.echo(f"{books.quarantined} in quarantine")
    for exception in books.exceptions:
        click.echo(f"! {shown(exception)}")
