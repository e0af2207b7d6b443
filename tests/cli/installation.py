"""Commands as people call them: in this process where that is enough, in processes of their own where it matters."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, Self, TypeVar

import orjson
from anyio.from_thread import start_blocking_portal
from click.testing import CliRunner
from sqlalchemy import Connection

from receiver.cli import receiver
from tests.store.places import opened
from tests.web.logged import logging_as_before, shows_no_secret
from tests.web.wire import LONG

P = ParamSpec("P")
T = TypeVar("T")

ROOT = Path(__file__).parents[2]
SECRET = "whsec_of_the_command_line_4Kd8"
API_KEY = "rf_live_of_the_command_line"
TOKEN = "a-token-of-the-command-line"
SECRETS = (SECRET, API_KEY, TOKEN)


class Result(NamedTuple):
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on standard output."""
        return orjson.loads(self.out)

    @property
    def told(self) -> list[str]:
        """Standard error, without log lines: a server that runs beside may have logged there."""
        return [line for line in self.err.splitlines() if not line.startswith("{")]

    @property
    def lines(self) -> list[str]:
        """Standard output, without the space that fills up a table."""
        return [line.rstrip() for line in self.out.splitlines()]


class Installation:
    """A folder with its `receiver.toml` and its database, and the environment in which commands run there."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.environ = {
            "RUNFLOW_WEBHOOK_SECRET": f"blue={SECRET}",
            "RECEIVER_API_TOKENS": f"me:operate={TOKEN}",
            "RECEIVER_PORT": "0",
            "DATABASE_URL": url,
        }

    def configure(self, toml: str) -> None:
        """Writes `receiver.toml`."""
        (self.folder / "receiver.toml").write_text(toml)

    def run(self, *arguments: Any, answer: str | None = None, **environ: str) -> Result:
        """A command in this process; `answer` is what the caller types. Nothing that it says may be a secret."""
        with logging_as_before():
            ended = CliRunner().invoke(
                receiver, [*map(str, arguments)], input=answer, env={**self.environ, **environ}, catch_exceptions=False
            )
        said = Result(ended.exit_code, ended.stdout, ended.stderr)
        shows_no_secret(said.err, SECRETS)
        assert [secret for secret in SECRETS if secret in said.out] == []
        return said

    def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a function of the store returns, over a connection of its own."""

        async def work() -> T:
            async with opened(self.url) as database:
                return await database.write(fn, *args, **kwargs)

        return asyncio.run(work())

    def process_environ(self, **environ: str) -> dict[str, str]:
        """The whole environment of a process of its own."""
        return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **self.environ, **environ}

    @contextmanager
    def process(self, *arguments: str, **environ: str) -> Iterator["Process"]:
        """A command in a process of its own, which is killed at the end if it still runs."""
        with Process([*arguments], self.folder, self.process_environ(**environ)) as process:
            yield process


class Process:
    """`python -m receiver …` under its own process id, with what it says in files."""

    def __init__(self, arguments: list[str], folder: Path, environ: dict[str, str]) -> None:
        self._arguments = arguments
        self._folder = folder
        self._environ = environ

    def __enter__(self) -> Self:
        self._out = (self._folder / "stdout").open("w+b")
        self._err = (self._folder / "stderr").open("w+b")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "receiver", *self._arguments], cwd=self._folder, env=self._environ,
            stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._err,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(LONG)
        self._out.close()
        self._err.close()

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def ended(self) -> Result:
        """Waits for its end."""
        status = self._process.wait(LONG)
        return Result(status, self.out, self.err)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def out(self) -> str:
        """Standard output so far."""
        return (self._folder / "stdout").read_text()

    @property
    def err(self) -> str:
        """Standard error so far."""
        return (self._folder / "stderr").read_text()

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one event so far; a line that is not whole yet is left out."""
        lines = [line for line in self.err.splitlines(keepends=True) if line.startswith("{") and line.endswith("\n")]
        return [line for line in map(orjson.loads, lines) if line["event"] == event]


def until(condition: Callable[[], T], what: str) -> T:
    """What the condition gives once it gives something that is true."""
    deadline = time.monotonic() + LONG
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {LONG:g} s"
        time.sleep(0.05)
    return found


@contextmanager
def beside(context: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Runs an asynchronous context in a thread of its own, beside a test that is not asynchronous."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(context) as value:
        yield value
