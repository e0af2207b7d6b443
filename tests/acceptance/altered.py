"""`python -m tests.acceptance.altered HOW COMMAND …`: `receiver` with something changed, to see what follows.

HOW is none, one or more of these, separated by commas:

short-leases            what a dead process held comes back in a few seconds
short-pauses            a sink that is down is tried again after a second at the latest
no-sync                 SQLite as it must not be: a commit does not wait for the disk
trust:FILE              also believes the authority in this file, as if it were one of those that browsers believe
die:FUNCTION:before     kills itself when this function of the store has changed something, before the commit;
                        where PostgreSQL takes in a batch, while the statement is on its way
die:FUNCTION:after      the same when the commit is done, before anything follows from it
"""

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from importlib import import_module
from typing import Any
from unittest.mock import patch

from sqlalchemy import event

LEASE = timedelta(seconds=4)
LONGEST_PAUSE = timedelta(seconds=1)
MARGIN = 1.0
ON_ITS_WAY = 0.0005
"""Seconds: enough to send a statement, and seldom enough to hear that it is committed."""


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _did_something(result: Any) -> bool:
    """Whether a function of the store found anything to do; those that return nothing are called with work only."""
    if result is None or isinstance(result, list):
        return result != []
    return bool(getattr(result, "claimed", None) or getattr(result, "events", None))


def short_leases() -> None:
    """So that what a killed process held on PostgreSQL is another's before long."""
    from receiver.pipeline import deliver, fetch

    fetch.LEASE = LEASE
    deliver.MARGIN = MARGIN


def short_pauses() -> None:
    """So that nobody waits for as long again as a destination was away."""
    from receiver.pipeline import deliver

    deliver.LONGEST_PAUSE = LONGEST_PAUSE


def no_sync() -> None:
    """Every connection to SQLite is told not to wait for the disk."""
    from receiver.store import sqlite

    open_engine = sqlite._engine

    def careless(*arguments: Any, **options: Any) -> Any:
        engine = open_engine(*arguments, **options)
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF").close())
        return engine

    sqlite._engine = careless


def trust(path: str) -> None:
    """For servers of the tests."""
    from receiver import httpclient

    usual = httpclient.tls_context

    def context() -> ssl.SSLContext:
        made = usual()
        made.load_verify_locations(path)
        return made

    httpclient.tls_context = context


def die(name: str, moment: str) -> None:
    """`name` is module and function under `receiver.store`."""
    module_name, _, function_name = name.partition(".")
    module = import_module(f"receiver.store.{module_name}")
    function: Callable[..., Any] = getattr(module, function_name)

    def last(*arguments: Any, **options: Any) -> Any:
        result = function(*arguments, **options)
        if moment == "before" and _did_something(result):
            _die()
        return result

    setattr(module, function_name, last)
    if moment == "after":
        _die_after(last, is_accept=name == "intake.accept")
    elif name == "intake.accept":
        _die_while_postgres_accepts()


def _die_while_postgres_accepts() -> None:
    """There the batch is one statement, and its commit with it: what can be had is a death while it is on its way."""
    from receiver.store.postgres import PostgresDatabase

    accept = PostgresDatabase.accept

    async def accept_and_death(database: Any, arrivals: Any) -> Any:
        is_connected = bool(database._intake._idle)  # else it has to connect first, and nothing would have been sent
        accepting = asyncio.ensure_future(accept(database, arrivals))
        if is_connected:
            await asyncio.sleep(ON_ITS_WAY)
            _die()
        return await accepting

    patch.object(PostgresDatabase, "accept", accept_and_death).start()


def _die_after(function: Callable[..., Any], *, is_accept: bool) -> None:
    from receiver.store.postgres import PostgresDatabase
    from receiver.store.sqlite import SqliteDatabase

    def dying(method: Callable[..., Any]) -> Callable[..., Any]:
        async def method_and_death(database: Any, first: Any, *arguments: Any, **options: Any) -> Any:
            result = await method(database, first, *arguments, **options)
            if (is_accept or first is function) and _did_something(result):
                _die()
            return result

        return method_and_death

    for kind in (SqliteDatabase, PostgresDatabase):
        name = "accept" if is_accept else "write"
        setattr(kind, name, dying(getattr(kind, name)))


ALTERATIONS: Mapping[str, Callable[..., None]] = {
    "short-leases": short_leases,
    "short-pauses": short_pauses,
    "no-sync": no_sync,
    "trust": trust,
    "die": die,
}


def main() -> None:
    """Alters `receiver` and runs it."""
    how, *sys.argv[1:] = sys.argv[1:]
    for each in filter(None, how.split(",")):
        word, *more = each.split(":")
        ALTERATIONS[word](*more)
    from receiver.cli import main as receiver

    receiver()


if __name__ == "__main__":
    main()
