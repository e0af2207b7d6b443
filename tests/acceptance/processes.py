"""Real processes of `receiver`: settings of their own, what they log, and their end whatever becomes of the test."""

import asyncio
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import Any, NamedTuple

import httpx

from tests.acceptance.forked import Forked

ROOT = Path(__file__).parents[2]
SECRET = "whsec_acceptance_0123456789abcdef"
API_KEY = "rf_live_acceptance"
DEADLINE = 90.0
"""Seconds that a wait may take on a slow machine."""
LONGEST_STOP = 15.0
"""Seconds from a signal to the end. The promise is 10; a busy machine is no reason to fail."""


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str, every: float = 0.02) -> None:
    """Waits for what nobody announces, and looks `every` seconds. Raises AssertionError if it does not come about."""
    deadline = time.monotonic() + DEADLINE
    while True:
        holds = condition()
        if await holds if inspect.isawaitable(holds) else holds:
            return
        assert time.monotonic() < deadline, f"not within {DEADLINE:g} s: {what}"
        await asyncio.sleep(every)


class Finished(NamedTuple):
    """How a command ended and what it printed."""

    status: int
    output: str
    errors: str


class Program:
    """A process that logs JSON lines into a file; `records` are those read so far."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked, log: Path) -> None:
        self.process = process
        self.records: list[dict[str, Any]] = []
        self._log = log
        self._read_bytes = 0

    def look(self, event: str) -> list[dict[str, Any]]:
        """All records of this event up to now."""
        if not self._log.exists():
            return []
        with self._log.open("rb") as log:
            log.seek(self._read_bytes)
            whole, newline, _ = log.read().rpartition(b"\n")
        self._read_bytes += len(whole) + len(newline)
        self.records += [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]
        return [record for record in self.records if record["event"] == event]

    async def logged(self, event: str, times: int = 1) -> dict[str, Any]:
        """The record of this event, once it is there for the `times`th time."""

        def is_there() -> bool:
            there = len(self.look(event)) >= times
            assert there or self.process.poll() is None, f"ended ({self.process.returncode}): {self.log_end()}"
            return there

        await until(is_there, f"{event} in the log, which ends: {self.log_end()}")
        return self.look(event)[times - 1]

    def log_end(self) -> str:
        """The last lines, for a failure's message."""
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""

    @property
    def pid(self) -> int:
        """The receiver's own process, also where it runs under another program."""
        served = [record["message"] for record in self.look("uvicorn.error") if "server process" in record["message"]]
        return int(served[0].split("[")[1].rstrip("]")) if served else self.process.pid

    def memory(self) -> float:
        """The resident memory now, in MB."""
        return self._status("VmRSS")

    def peak_memory(self) -> float:
        """The most resident memory so far, in MB."""
        return self._status("VmHWM")

    def _status(self, line: str) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(each.split()[1]) for each in status.splitlines() if each.startswith(line)) / 1024

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        if self.process.poll() is None and self.pid != self.process.pid:
            os.kill(self.pid, SIGKILL)
        self.process.kill()
        self.process.wait()

    def signal(self, number: Signals) -> None:
        """Sends it to the receiver's own process."""
        os.kill(self.pid, number)

    async def ended(self) -> int:
        """The exit status, once there is one; minus a signal's number if that ended it."""
        await until(
            lambda: self.process.poll() is not None, f"the end of the process, whose log ends: {self.log_end()}"
        )
        assert self.process.returncode is not None
        return self.process.returncode

    async def stop(self, number: Signals = SIGTERM) -> float:
        """Tells it to stop; it must end with status 0. Returns the seconds that took."""
        began = time.monotonic()
        self.signal(number)
        status = await self.ended()
        assert status == 0, self.log_end()
        took = time.monotonic() - began
        assert took < LONGEST_STOP, f"the stop took {took:.1f} s: {self.log_end()}"
        return took


class Server(Program):
    """A `receiver serve` that listens."""

    address = ""
    """Scheme, host and port, there from the start on."""

    async def says_it_is(self, status: int, reason: str | None) -> None:
        """Waits until `/readyz` answers so, which looks at the store once a second at most."""

        async def does() -> bool:
            async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
                answer = await client.get(f"{self.address}/readyz")
            return (answer.status_code, answer.json().get("reason")) == (status, reason)

        await until(does, f"{status} {reason} from /readyz", every=0.2)


class Installation:
    """A folder with a `receiver.toml`, the environment of the processes that run there, and those processes."""

    def __init__(self, folder: Path, config: str, **environ: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "receiver.toml").write_text(config)
        self.folder = folder
        self._environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(ROOT),
            "RUNFLOW_WEBHOOK_SECRET": SECRET,
            "RECEIVER_PORT": "0",
            "RECEIVER_LOG_FORMAT": "json",
            **environ,
        }
        self._programs: list[Program] = []

    async def serve(self, *options: str, altered: str = "", under: Sequence[str] = (), forked: bool = False) -> Server:
        """A `receiver serve` that listens on a free port, which it logs; `under` another program, or `forked`."""
        server = Server(*self._start(["serve", *options], altered, under, forked))
        self._programs.append(server)
        server.address = (await server.logged("serve.started"))["address"]
        return server

    async def serve_to_die(self, altered: str) -> Server:
        """One that is to die at what it finds to do, which may be before it listens: then its address is empty."""
        server = Server(*self._start(["serve"], altered, (), forked=True))
        self._programs.append(server)
        await until(lambda: bool(server.look("serve.started")) or server.process.poll() is not None, "its start or end")
        server.address = "".join(record["address"] for record in server.look("serve.started"))
        return server

    async def work(self, *, altered: str = "", forked: bool = False) -> Program:
        """A `receiver work` that runs."""
        worker = Program(*self._start(["work"], altered, (), forked))
        self._programs.append(worker)
        await worker.logged("work.started")
        return worker

    async def run(self, *arguments: str) -> Finished:
        """A command, run to its end."""
        process = await asyncio.create_subprocess_exec(
            *self._command(arguments),
            cwd=self.folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(DEADLINE):
                output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Finished(process.returncode or 0, output.decode(), errors.decode())

    def _start(
        self, arguments: Sequence[str], altered: str, under: Sequence[str], forked: bool
    ) -> tuple[subprocess.Popen[bytes] | Forked, Path]:
        log = self.folder / f"{arguments[0]}-{len(self._programs)}.log"
        if forked:
            return Forked([altered, *arguments], self.folder, self._environ, log), log
        with log.open("wb") as target:
            process = subprocess.Popen(
                [*under, *self._command(arguments, altered)],
                cwd=self.folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=target,
                stderr=target,
            )
        return process, log

    def _command(self, arguments: Sequence[str], altered: str = "") -> list[str]:
        module = ["tests.acceptance.altered", altered] if altered else ["receiver"]
        return [sys.executable, "-m", *module, *arguments]

    def close(self) -> None:
        """Kills what still runs."""
        for program in self._programs:
            program.kill()


Install = Callable[..., Installation]
"""Makes one of a `receiver.toml` and of environment."""
Report = Callable[[str], None]
"""Takes a measured figure."""
