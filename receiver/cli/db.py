"""`receiver db`: the schema."""

import click

from receiver.cli.common import json_option, quiet_logs, read_settings, require_file, run
from receiver.cli.output import print_json
from receiver.store import schema
from receiver.wiring import database_of


@click.group()
def db() -> None:
    """Migrate the database."""


@db.command()
@json_option
def upgrade(as_json: bool) -> None:
    """Bring the schema up to date. Several at once do no harm."""
    run(_upgrade(as_json=as_json))


async def _upgrade(*, as_json: bool) -> None:
    settings = read_settings()
    quiet_logs(settings)
    database = database_of(settings)
    try:
        state = await schema.upgrade(database)
    finally:
        await database.close()
    if as_json:
        _print_json(state)
    else:
        click.echo(f"{settings.database_shown}: schema {state.current}")


@db.command()
@json_option
def current(as_json: bool) -> None:
    """Show the schema's version, and the one that this program needs."""
    run(_current(as_json=as_json))


async def _current(*, as_json: bool) -> None:
    settings = read_settings()
    quiet_logs(settings)
    require_file(settings)
    database = database_of(settings)
    try:
        state = await database.read(schema.schema_state)
    finally:
        await database.close()
    if as_json:
        _print_json(state)
    else:
        click.echo(f"{settings.database_shown}: schema {state.current or 'none'}, this program needs {state.newest}")


def _print_json(state: schema.SchemaState) -> None:
    print_json({**state._asdict(), "is_current": state.is_current})
