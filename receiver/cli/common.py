"""What all commands share: settings, one database for one command, and from errors to a line and an exit status."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from receiver import logs
from receiver.errors import Invalid, ReceiverError, SchemaError, SettingsError
from receiver.settings import Settings, load_settings
from receiver.store import schema
from receiver.store.database import Database
from receiver.wiring import database_of

T = TypeVar("T")

WRONG_USE = 2
NO_SUCCESS = 1


class _Utf8(click.ParamType[str]):
    """Text. An argument's bytes may be anything, and what is no UTF-8 can be in no database."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail("is not text in UTF-8", param, ctx)
        return value


UTF8 = _Utf8()
ROW_ID = click.IntRange(1, 2**63 - 1)
"""What a database can hold as one."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes_option = click.option("--yes", is_flag=True, help="Do it without asking.")


@contextmanager
def exit_status() -> Iterator[None]:
    """Ends the program with one line on standard error: status 2 for wrong use or settings, 1 for what did not succeed."""
    try:
        yield
    except (SettingsError, SchemaError, Invalid) as error:
        fail(str(error), WRONG_USE)
    except ReceiverError as error:
        fail(str(error), NO_SUCCESS)


def fail(message: str, status: int) -> NoReturn:
    """Prints the message and ends the program."""
    click.echo(message, err=True)
    sys.exit(status)


def read_settings() -> Settings:
    """The caller's settings. Warnings go to the log; secrets are hidden in all logs from now on."""
    settings = load_settings(os.environ, directory=Path.cwd())
    logs.hide(*settings.plain_secrets())
    return settings


def read_environment() -> Settings:
    """The caller's settings without `receiver.toml`, for a command that needs nothing of it."""
    settings = load_settings(os.environ, directory=Path.cwd(), with_file=False)
    logs.hide(*settings.plain_secrets())
    return settings


def quiet_logs(settings: Settings) -> None:
    """For commands that print: only what went wrong is logged."""
    logs.configure("warning" if settings.log_level in ("info", "debug") else settings.log_level, settings.log_format)


def require_file(settings: Settings) -> None:
    """Raises `SettingsError` where the SQLite file is not there: connecting would make an empty one."""
    path = settings.database_path
    if path is not None and not path.exists():
        raise SettingsError(
            f"DATABASE_URL: there is no file {path}; `receiver serve` or `receiver db upgrade` makes it"
        )


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs it to its end, with errors as exit statuses."""
    with exit_status():
        return asyncio.run(work)


def with_database(
    work: Callable[[Database, Settings], Awaitable[T]], read: Callable[[], Settings] = read_settings
) -> T:
    """Runs `work` on the database of the caller's settings, which must be migrated."""

    async def opened() -> T:
        settings = read()
        quiet_logs(settings)
        require_file(settings)
        database = database_of(settings)
        try:
            await schema.require_current(database)
            return await work(database, settings)
        finally:
            await database.close()

    return run(opened())
