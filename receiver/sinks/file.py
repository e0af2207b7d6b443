"""`file`: one CloudEvents envelope a line (NDJSON), in a file or on standard output.

A file is opened for each batch, so that it may be renamed at any time; a batch is there as a whole and on the disk, or not at
all. What comes after the other side's `rename` goes into a new file.
"""

import asyncio
import errno
import fcntl
import os
import select
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from pydantic import Field

from receiver.core.envelope import Message
from receiver.disk import sync_folder
from receiver.sinks.base import Again, Done, Down, Outcome, SinkError, SinkOptions
from receiver.sinks.own_thread import in_own_thread

STANDARD_OUTPUT = "-"
_STDOUT = 1
_HELD_UP = Again("a write from before has not ended")
_LOOK_EVERY = 0.02
"""Seconds between two looks of a thread that waits."""


class FileOptions(SinkOptions):
    """Where the lines go."""

    takes_samples: ClassVar[bool] = True

    type: Literal["file"] = "file"
    path: str = Field(
        min_length=1,
        pattern=r"^[^\x00]+$",
        description="The file, made if it is not there, in a folder that is; or `-` for standard output.",
    )

    def open(self, _public_url: str | None, /) -> "FileSink":
        """The sink; messages hold no link to us."""
        return FileSink(self)


class _Place(Protocol):
    """Where lines can be put, by one thread at a time. Blocking: runs in a thread."""

    lock: threading.Lock

    def write(self, lines: Sequence[bytes], patience: "_Patience") -> list[Outcome]: ...

    def check(self) -> str: ...


class _Patience:
    """How long a thread still waits for a lock or a reader: until the time is up, or nobody waits for it any more."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._ended = threading.Event()

    def end(self) -> None:
        self._ended.set()

    @property
    def is_over(self) -> bool:
        return self._ended.is_set() or time.monotonic() >= self._deadline


class FileSink:
    """Done is on the disk (fsync); on standard output, written to it."""

    batch: ClassVar[int] = 500

    def __init__(self, options: FileOptions) -> None:
        self._timeout = options.timeout
        self._place: _Place = _OUTPUT if options.path == STANDARD_OUTPUT else _File(Path(options.path))

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Appends a line for each, with one fsync for all."""
        lines = [message.cloud_event + b"\n" for message in messages]
        patience = _Patience(self._timeout)
        try:
            return await in_own_thread(partial(self._write, lines, patience), "file")
        except asyncio.CancelledError:
            patience.end()  # the thread cannot be cancelled
            raise

    def _write(self, lines: Sequence[bytes], patience: _Patience) -> list[Outcome]:
        # Held until the write has ended, however long that takes and whoever has given up on it: two would mix their lines.
        while not self._place.lock.acquire(timeout=_LOOK_EVERY):
            if patience.is_over:
                return [_HELD_UP] * len(lines)
        try:
            return self._place.write(lines, patience)
        finally:
            self._place.lock.release()

    async def check(self) -> str:
        """Looks whether the file could be written; makes nothing."""
        return await in_own_thread(self._place.check, "file")

    async def close(self) -> None:
        """Nothing stays open between batches."""


class _Busy(Exception):
    """Another process kept the lock until the time was up."""


class _Unfit(Exception):
    """What is at the path cannot be appended to; the message says why."""


class _File:
    """Appends whole batches. A lock keeps processes apart that write to the same file."""

    def __init__(self, path: Path) -> None:
        self.lock = threading.Lock()
        self._path = path

    def write(self, lines: Sequence[bytes], patience: _Patience) -> list[Outcome]:
        try:
            with self._locked(patience) as file:
                _append(file, b"".join(lines), self._path.resolve().parent)
        except _Busy:
            outcome: Outcome = Again(f"another process holds the lock on {self._path}")
        except _Unfit as error:
            outcome = Down(str(error))
        except OSError as error:
            outcome = Down(self._reason(error))
        else:
            outcome = Done()
        return [outcome] * len(lines)

    def check(self) -> str:
        try:
            return self._look()
        except OSError as error:
            raise SinkError(self._reason(error)) from error

    def _look(self) -> str:
        if self._path.is_file():
            if not os.access(self._path, os.R_OK | os.W_OK):
                raise SinkError(f"{self._path} may not be read and written by us")
            return f"{self._path} is there and can be written"
        if self._path.exists():
            raise SinkError(f"{self._path} is not a regular file")
        if not self._path.parent.is_dir():
            raise SinkError(self._no_folder())
        if not os.access(self._path.parent, os.W_OK | os.X_OK):
            raise SinkError(f"the folder {self._path.parent} may not be written by us")
        return f"{self._path} is not there yet and can be made"

    @contextmanager
    def _locked(self, patience: _Patience) -> Iterator[int]:
        """The file at the path, open and ours alone; made if it is not there."""
        while True:
            # Read as well as written: its last byte is looked at. Not blocking: a pipe without a reader is no reason to hang.
            file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
            try:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise _Unfit(f"{self._path} is not a regular file")
                _lock(file, patience)
                if self._is_still(file):
                    yield file
                    return
            finally:
                os.close(file)

    def _is_still(self, file: int) -> bool:
        """Whether the path still leads to this file: it may have been renamed while we waited for the lock."""
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False

    def _reason(self, error: OSError) -> str:
        if error.errno == errno.ENOENT:
            return self._no_folder()
        return f"cannot write to {self._path}: {os.strerror(error.errno or 0)}"

    def _no_folder(self) -> str:
        return f"the folder {self._path.parent} does not exist"


def _lock(file: int, patience: _Patience) -> None:
    """Takes the lock, or raises `_Busy`. It ends with the file being closed, or the process."""
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if patience.is_over:
                raise _Busy from None
            time.sleep(_LOOK_EVERY)
        else:
            return


def _append(file: int, content: bytes, folder: Path) -> None:
    """Puts the content at the end and on the disk, or leaves the file as it was and raises OSError."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        content = b"\n" + content  # the line before is torn: its writer died
    try:
        _write_all(file, content)
        os.fsync(file)
        if not size:
            sync_folder(folder)  # the file may be new, and its name must last as well
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, size)
        raise


def _write_all(file: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]


class _Output:
    """Standard output, which somebody else reads, or does not."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._torn: tuple[int, int] | None = None
        """The pipe or file at whose end half a line stands."""

    def write(self, lines: Sequence[bytes], patience: _Patience) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for line in lines:
            outcome = self._write(line, patience)
            outcomes.append(outcome)
            if not isinstance(outcome, Done):
                break
        return outcomes + outcomes[-1:] * (len(lines) - len(outcomes))

    def _write(self, line: bytes, patience: _Patience) -> Outcome:
        try:
            about = os.fstat(_STDOUT)
            place = about.st_dev, about.st_ino
            rest = memoryview(b"\n" + line if self._torn == place else line)
            while rest:
                if not _writable(patience):
                    return Again("nobody reads standard output")
                # No more than a pipe takes at once where it takes anything: then no write blocks.
                written = os.write(_STDOUT, rest[: select.PIPE_BUF])
                rest = rest[written:]
                self._torn = place if rest else None
        except BrokenPipeError:
            return Down("whoever read standard output has gone")
        except OSError as error:
            return Down(f"cannot write to standard output: {os.strerror(error.errno or 0)}")
        return Done()

    def check(self) -> str:
        try:
            os.fstat(_STDOUT)
        except OSError as error:
            raise SinkError("standard output is closed") from error
        return "standard output is open"


_OUTPUT = _Output()
"""One for all sinks that lead there: what stands at its end is the next one's to know, also after a reload."""


def _writable(patience: _Patience) -> bool:
    poll = select.poll()
    poll.register(_STDOUT, select.POLLOUT)
    while not (ready := poll.poll(_LOOK_EVERY * 1000)) and not patience.is_over:
        pass
    return bool(ready)
