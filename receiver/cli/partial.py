"""A file that is written for long: under another name until it is whole, with notes beside it from which it goes on.

`FILE.partial` is what is there so far; `FILE.partial.json` says how much of it is good, which is on the disk before that is
said. What comes behind that, after a crash, is cut off. Blocking.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Final, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from receiver.disk import sync_folder
from receiver.errors import ReceiverError


class Notes(BaseModel):
    """What is known of the file: how many of its bytes are good."""

    bytes: int = 0


N = TypeVar("N", bound=Notes)
Whole = Callable[[Path, Path], None]
"""Makes the file that is wanted, at the second path, of what was written to the first."""


class CannotGoOn(ReceiverError):
    """What is there is not what can be gone on with; the message says why."""


class Partial(Generic[N]):
    """An open partial file, locked. `notes` are those that were found, or None where it is new."""

    _SUFFIX: Final = ".partial"

    def __init__(self, path: Path, file: FileIO, notes: N | None) -> None:
        self.path = path
        self.notes = notes
        self._file = file
        self._good = 0

    @classmethod
    @contextmanager
    def opened(cls, path: Path, kind: type[N], *, goes_on: bool) -> Iterator["Partial[N]"]:
        """The partial file of `path`. Raises `CannotGoOn`, and OSError."""
        place = path.with_name(path.name + cls._SUFFIX)
        is_new = not place.exists()
        if not is_new and not goes_on:
            raise CannotGoOn(
                f"{place} of an interrupted export is there: --continue goes on with it; remove it to begin anew"
            )
        with place.open("ab", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CannotGoOn(f"another process writes {place}") from None
            if is_new:  # notes may be of one that was removed, or that got its name just before a crash
                _notes_of(place).unlink(missing_ok=True)
            partial = cls(path, file, _read(_notes_of(place), kind))
            partial._cut()
            yield partial

    def _cut(self) -> None:
        good, there = self.notes.bytes if self.notes else 0, self.place.stat().st_size
        if there < good:
            raise CannotGoOn(
                f"{self.place} is shorter than was noted ({there} of {good} bytes): remove it to begin anew"
            )
        self._file.truncate(good)
        self._good = good

    @property
    def place(self) -> Path:
        """Where it is until it is whole."""
        return Path(self._file.name)

    def write(self, content: bytes) -> None:
        """Appends all of it; what is there of it when that fails does not count."""
        rest = memoryview(content)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._good += len(content)

    def note(self, notes: N) -> None:
        """Brings all that was written to the disk, and notes how far it is good."""
        self._sync()
        noted = notes.model_copy(update={"bytes": self._good})
        new = _notes_of(self.place).with_suffix(".new")
        with new.open("wb") as file:
            file.write(noted.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())
        new.replace(_notes_of(self.place))

    def finish(self, whole: Whole | None = None) -> int:
        """Gives the file its name; if it is made of this one first, by `whole`. Returns its size."""
        self._sync()
        done = self.place
        if whole is not None:
            done = self.place.with_name(self.place.name + ".whole")
            whole(self.place, done)
            with done.open("rb") as file:
                os.fsync(file.fileno())
        size = done.stat().st_size
        done.replace(self.path)
        _notes_of(self.place).unlink(missing_ok=True)
        self.place.unlink(missing_ok=True)
        sync_folder(self.path.parent)
        return size

    def _sync(self) -> None:
        os.fdatasync(self._file.fileno())


def _notes_of(place: Path) -> Path:
    return place.with_name(place.name + ".json")


def _read(path: Path, kind: type[N]) -> N | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise CannotGoOn(f"{path} is not what an export noted: remove it, and the file that it is about") from None
