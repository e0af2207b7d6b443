"""Receivers that start at once: forked from a process that has imported everything, for tests that start very many."""

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.acceptance import altered

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["pytest", "receiver.cli.serving", "receiver.sinks.http", "receiver.store.postgres", "standardwebhooks", __name__]
)


class Forked:
    """What `subprocess.Popen` says of a process, as far as it is needed here."""

    def __init__(self, arguments: Sequence[str], folder: Path, environ: Mapping[str, str], log: Path) -> None:
        """`arguments` are those of `receiver`, after a word of `altered` or an empty one."""
        self._process = _CONTEXT.Process(target=_run, args=(list(arguments), folder, dict(environ), log))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, minus the number of the signal that ended it; None while it lives."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self._process.exitcode

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def wait(self) -> None:
        """Returns when it is gone."""
        self._process.join()


def _run(arguments: list[str], folder: Path, environ: dict[str, str], log: Path) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    target = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(target, sys.stdout.fileno())
    os.dup2(target, sys.stderr.fileno())
    sys.argv = ["altered", *arguments]
    altered.main()
