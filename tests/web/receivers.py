"""Receivers that run as `receiver serve` runs them, in the test's own loop, and what their stores hold."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, Table, delete, func, select

from receiver.cli.serving import Server, listen, server_config
from receiver.core.signature import Secret
from receiver.settings import Settings, load_settings
from receiver.store.tables import events, metadata
from receiver.web.hook import PATH
from receiver.wiring import Service, open_service
from tests.web.logged import shows_no_secret
from tests.web.wire import LONG, Answer, Header, Wire, request

FIRST = "whsec_first_of_two_7Jm2"
SECOND = "whsec_second_of_two_9Qx4"
API_KEY = "rf_live_of_the_web_tests"
READER = "a-token-that-may-read"
OPERATOR = "a-token-that-may-operate"
SECRETS = (FIRST, SECOND, API_KEY, READER, OPERATOR)

WAYS = {PATH: "short", f"{PATH}?by=asgi": "ASGI"}
"""Addresses of the hook, by the way that a callback takes to it (`receiver.web.protocol`)."""

ENVIRONMENT = {
    "RUNFLOW_WEBHOOK_SECRET": f"blue={FIRST},green={SECOND}",
    "RUNFLOW_API_KEY": API_KEY,
    "RUNFLOW_API_URL": "http://127.0.0.1:9",  # nobody fetches: the pipeline of these receivers only stages
    "RECEIVER_API_TOKENS": f"reader:read={READER},operator:operate={OPERATOR}",
}


def settings_for(url: str, folder: Path, toml: str = "", **more: str | None) -> Settings:
    """The settings of these tests with another database, a `receiver.toml`, and more or (None) fewer names."""
    (folder / "receiver.toml").write_text(toml)
    environ = {"DATABASE_URL": url, **ENVIRONMENT, **more}
    return load_settings({name: value for name, value in environ.items() if value is not None}, directory=folder)


def signed(body: bytes, secret: str = FIRST) -> Header:
    """The header that makes a body genuine."""
    return "Runflow-Signature", Secret(secret).sign(body)


def callback(
    event: str = "evaluation.completed", evaluation_id: UUID | str | None = None, **fields: Any
) -> tuple[UUID, bytes]:
    """The id and the body of a callback."""
    key = evaluation_id or uuid4()
    content = {
        "event": event,
        "evaluation_id": str(key),
        "status": event.removeprefix("evaluation."),
        "overall_passed": False,
        "weighted_pass_rate": 0.7,
        "completed_at": "2026-11-25T10:00:00+00:00",
        **fields,
    }
    return UUID(str(key)), json.dumps(content).encode()


@dataclass(frozen=True)
class Receiver:
    """A running receiver. No answer of it may show a secret."""

    service: Service
    server: Server
    port: int

    async def ask(self, method: str, target: str, headers: Iterable[Header] = (), body: bytes | None = None) -> Answer:
        """One request on a connection of its own."""
        async with Wire(self.port) as wire:
            answer = await wire.ask(request(method, target, list(headers), body), to=method)
        guarded(answer)
        return answer

    async def post(self, body: bytes, *headers: Header) -> Answer:
        """A callback; signed, unless headers are given."""
        return await self.ask("POST", PATH, headers or [signed(body)], body)

    async def get(self, target: str, token: str | None = READER) -> Answer:
        """A request of the API."""
        return await self.ask("GET", target, [] if token is None else [("Authorization", f"Bearer {token}")])

    async def rows(self, table: Table) -> list[Row[Any]]:
        """All rows."""
        return await self.service.database.read(lambda conn: list(conn.execute(select(table))))

    async def count(self, *tables: Table) -> int:
        """How many rows there are in all of these."""

        def counted(conn: Connection) -> int:
            return sum(int(conn.execute(select(func.count()).select_from(table)).scalar_one()) for table in tables)

        return await self.service.database.read(counted)

    async def forget(self) -> None:
        """Empties the store, the counts of what was turned away, and the memory of when they were told."""
        self.service._hook.turned_away.clear()
        self.service._hook._told_at = -math.inf
        # Events first: a stage that is under way holds them, and what it makes of them goes with the rest.
        tables = [events, *(table for table in metadata.sorted_tables if table is not events)]

        def delete_all(conn: Connection) -> None:
            for table in tables:
                conn.execute(delete(table))

        await self.service.database.write(delete_all)


def guarded(answer: Answer) -> Answer:
    """The answer, in which there is no secret."""
    shows_no_secret("\n".join(map(": ".join, answer.headers)) + answer.body.decode("utf-8", "replace"), SECRETS)
    return answer


@asynccontextmanager
async def serving(settings: Settings, *, runs_pipeline: bool = False) -> AsyncIterator[Receiver]:
    """A receiver on a free port, for as long as this lasts."""
    with listen("127.0.0.1", 0) as listener:
        async with open_service(settings, runs_pipeline=runs_pipeline) as service:
            service.intake.longest_wait = LONG  # what a slow machine needs is no reason to turn a callback away
            server = Server(server_config(service.app, settings))
            task = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield Receiver(service, server, listener.getsockname()[1])
            finally:
                server.should_exit = True
                await task


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Waits for a condition that somebody else brings about."""
    try:
        async with asyncio.timeout(LONG):
            while not await condition():  # noqa: ASYNC110 (it is of another thread's or the database's making)
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{what}: not within {LONG:g} s") from None


def matches(row: Mapping[str, Any], **expected: Any) -> bool:
    """Whether a row has these values."""
    return {name: row[name] for name in expected} == expected
