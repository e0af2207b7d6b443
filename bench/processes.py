"""Processes for a measurement: started on a core of their own, looked at, and ended. Reads Linux's /proc."""

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson
from pydantic import BaseModel

START_SECONDS = 120.0
STOP_SECONDS = 30.0
_LOOK_EVERY = 0.02
_NOTE_EVERY = 0.5
_TICKS = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).parent.parent


class Served(NamedTuple):
    """A server that answers. `log` is what it printed."""

    pid: int
    host: str
    port: int
    log: Path

    def batches(self) -> list[int]:
        """Of how many callbacks each batch was, where the server logged that at its end."""
        lines = [line for line in self.log.read_bytes().splitlines() if b'"event":"batches"' in line]
        return list(orjson.loads(lines[-1])["sizes"]) if lines else []


def cores() -> tuple[int, int]:
    """One core for the server and one for the load generator; the same where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def stolen_seconds() -> float:
    """Seconds of all processors, since the start, in which they would have worked and the host gave them to another machine."""
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """What a process is started with: these settings, and nothing of the caller's but where programs are."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), **settings}


@contextmanager
def serving(command: Sequence[str], core: int | None, settings: Mapping[str, str], folder: Path) -> Iterator[Served]:
    """A server in `folder` that logs `serve.started`, ended in order afterwards. `core` None leaves it all cores."""
    log = folder / f"server-{secrets.token_hex(4)}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=environment(settings), cwd=folder, stdout=stream, stderr=stream
        )
    if core is not None:
        os.sched_setaffinity(process.pid, {core})  # the threads that it starts later inherit this
    with ended(process):
        host, port = _address(process, log)
        yield Served(process.pid, host, port, log)


@contextmanager
def ended(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Ends it afterwards: in order, or by force if that takes too long."""
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> tuple[str, int]:
    """Where it listens, as its log says. Raises RuntimeError with what it logged if it ends, or does not get there."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        for line in log.read_bytes().splitlines():
            if b'"serve.started"' in line:
                parts = urlsplit(orjson.loads(line)["address"])
                return parts.hostname or "", parts.port or 0
        time.sleep(_LOOK_EVERY)
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")


def run_pinned(command: Sequence[str], core: int | None, text: str, *, quiet: bool = False) -> bytes:
    """What a process printed that was given this text; `quiet` drops its log. Raises CalledProcessError."""
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        env=environment({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else None,
    ) as process:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        printed, _ = process.communicate(text.encode())
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return printed


def cpu_seconds(pid: int) -> float:
    """CPU time of a process with all its threads, in steps of 10 ms. (man 5 proc: fields 14 and 15 of stat)"""
    return sum(_stat(pid)[11:13]) / _TICKS


def cpu_seconds_of_family(pid: int) -> float:
    """CPU time of a process and its children, those that have ended too, as a PostgreSQL server has them."""
    found = sum(_stat(pid)[11:15])  # the last two are of children that have ended
    for folder in Path("/proc").iterdir():
        with suppress(OSError):  # it ends while we look
            if folder.name.isdecimal() and (fields := _stat(int(folder.name)))[1] == pid:
                found += sum(fields[11:13])
    return found / _TICKS


def _stat(pid: int) -> list[int]:
    """The fields behind the name; of the first, which is a letter, nothing."""
    return [0, *map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1:])]


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024 / 1e6


class Memory(BaseModel):
    """Resident memory over time: (seconds, MB), every half second."""

    series: list[tuple[float, float]]

    @property
    def highest(self) -> float:
        """The most that there was."""
        return max(mb for _, mb in self.series)

    @property
    def last(self) -> float:
        """What there was at the end."""
        return self.series[-1][1]

    def shown(self, points: int = 6) -> str:
        """The series in so many points, equally far apart."""
        count = len(self.series)
        chosen = sorted({round(at * (count - 1) / max(points - 1, 1)) for at in range(points)})
        return ", ".join(f"{self.series[at][1]:.0f}" for at in chosen)


@contextmanager
def memory_of(pid: int) -> Iterator[Memory]:
    """Notes a process's resident memory meanwhile."""
    noted, is_over, began = Memory(series=[]), threading.Event(), time.monotonic()

    def watch() -> None:
        while True:
            noted.series.append((time.monotonic() - began, resident_mb(pid)))
            if is_over.wait(_NOTE_EVERY):
                return

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield noted
    finally:
        is_over.set()
        watching.join()


def written_mb(pid: int) -> float:
    """What a process had written to the disk so far, in MB. (man 5 proc: write_bytes of io)"""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("write_bytes:"))
    return int(line.split()[1]) / 1e6
