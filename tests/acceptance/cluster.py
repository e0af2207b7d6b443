"""A PostgreSQL server of the test's own, which it may stop as hard as it likes."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.acceptance.processes import DEADLINE
from tests.sinks.servers import free_port

_IN_CI = os.environ.get("CI") == "true"
_TRIES = 5


class Cluster:
    """A running server on a port of 127.0.0.1. It refuses to run as root, and then runs as the user `postgres`."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._user = "postgres" if os.getuid() == 0 else None
        if self._user:
            os.chown(folder, pwd.getpwnam(self._user).pw_uid, -1)
        options = ("--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--no-sync")
        self._run("initdb", "--pgdata", str(folder / "data"), *options)
        self._port = 0

    @property
    def url(self) -> str:
        """The address of the database that is there from the start."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """On a free port, or on that of before; returns when it answers."""
        for _ in range(_TRIES):
            port = self._port or free_port()
            options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._folder}"
            log = str(self._folder / "log")
            with_options = ("--wait", "--timeout", f"{DEADLINE:g}", "--log", log, "--options", options)
            try:
                self._run("pg_ctl", "--pgdata", str(self._folder / "data"), *with_options, "start")
            except subprocess.CalledProcessError:
                continue  # the free port was taken meanwhile
            self._port = port
            return
        pytest.fail(f"PostgreSQL did not start: {(self._folder / 'log').read_text(errors='replace')[-3000:]}")

    def stop(self) -> None:
        """At once, as if the machine had failed: nothing is written down any more."""
        self._run("pg_ctl", "--pgdata", str(self._folder / "data"), "--mode", "immediate", "stop")

    def signal(self, number: signal.Signals) -> None:
        """To every process of the server: SIGSTOP makes it hang, SIGCONT go on."""
        postmaster = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for pid in (postmaster, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return (self._folder / "data" / "postmaster.pid").exists()

    def _run(self, program: str, *arguments: str) -> None:
        """Its output goes nowhere: a server keeps what it was given, and whoever read it would wait for its end."""
        subprocess.run(
            [self._programs / program, *arguments],
            user=self._user,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=DEADLINE,
            check=True,
        )


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A started server with a folder in the system's own place for them: `postgres` cannot enter pytest's."""
    with tempfile.TemporaryDirectory(prefix="receiver-postgres-") as folder:
        cluster = Cluster(_programs(), Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            if cluster.is_running():
                cluster.signal(signal.SIGCONT)
                cluster.stop()


def _programs() -> Path:
    """Where `initdb` is: Debian keeps it out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    anywhere = shutil.which("initdb")
    if not found and anywhere is None:
        message = "no initdb on this machine: apt-get install postgresql"
        if _IN_CI:
            pytest.fail(message)
        pytest.skip(message)
    return (found[-1] if found else Path(str(anywhere)).resolve()).parent
