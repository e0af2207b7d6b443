"""What a process asked of the system, in order, by strace: was a callback on the disk before it was acknowledged?"""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

_IN_CI = os.environ.get("CI") == "true"
_READS = ("read", "readv", "recvfrom", "recvmsg")
_WRITES = ("write", "writev", "sendto", "sendmsg")
_TO_FILES = ("pwrite64", "fsync", "fdatasync")
_LONGEST_SHOWN = 16384
"""Bytes of each buffer: more than a page of SQLite has, or a message to PostgreSQL with as many callbacks as come at once."""

_LINE = re.compile(r"(?P<thread>\d+) +(?:(?P<name>\w+)\((?P<text>.*)|<\.\.\. (?P<resumed>\w+) resumed>(?P<rest>.*))")
_UNFINISHED = " <unfinished ...>"
SUCCESS = "HTTP/1.1 20"
RESULT = r"{\"result\":"
"""The beginning of an answer's body, as strace writes it."""
COMMITTED = r"Z\0\0\0\5I"
"""PostgreSQL's `ReadyForQuery` outside of any transaction: what ran is committed. As strace writes it.
(www.postgresql.org/docs/current/protocol-message-formats.html)"""


class Call(NamedTuple):
    """One call of the system: its arguments and result as strace writes them, and the lines where it began and ended."""

    name: str
    text: str
    began: int
    ended: int

    @property
    def file(self) -> str:
        """What its first argument leads to: a path, or the two ends of a connection."""
        return self.text.partition("<")[2].partition(">, ")[0].partition(">)")[0]

    @property
    def has_succeeded(self) -> bool:
        """Whether it returned what is no error."""
        return re.search(r"\) += \d+$", self.text) is not None


def under_strace(output: Path) -> Sequence[str]:
    """The beginning of a command line that has a program traced into this file."""
    program = shutil.which("strace")
    if program is None:
        message = "no strace on this machine: apt-get install strace"
        if _IN_CI:
            pytest.fail(message)
        pytest.skip(message)
    calls = ",".join((*_READS, *_WRITES, *_TO_FILES))
    return (
        program,
        "-f",
        "-yy",
        "-s",
        str(_LONGEST_SHOWN),
        "-e",
        f"trace={calls}",
        "-e",
        "signal=none",
        "-o",
        str(output),
    )


def calls_in(output: Path) -> list[Call]:
    """All calls, in the order of their ends."""
    return list(_calls(output.read_text(errors="replace").splitlines()))


def _calls(lines: Sequence[str]) -> Iterator[Call]:
    begun: dict[str, tuple[str, str, int]] = {}
    for number, line in enumerate(lines):
        found = _LINE.fullmatch(line)
        if found is None:  # a thread's end
            continue
        if found["resumed"]:
            name, text, began = begun.pop(found["thread"])
            yield Call(name, text + found["rest"], began, number)
        elif found["text"].endswith(_UNFINISHED):
            begun[found["thread"]] = found["name"], found["text"].removesuffix(_UNFINISHED), number
        else:
            yield Call(found["name"], found["text"], number, number)


def is_acknowledged_after(calls: Sequence[Call], key: str, durable: Callable[[Call, Call], bool]) -> bool:
    """Whether `durable` holds of the read that first brought this evaluation's callback in and the write of its 2xx."""
    read = next(call for call in calls if call.name in _READS and key in call.text)
    body = next(call for call in calls if call.name in _WRITES and RESULT in call.text and key in call.text)
    heads = [call for call in calls if call.name in _WRITES and call.file == body.file and SUCCESS in call.text]
    return durable(read, max((call for call in heads if call.ended <= body.ended), key=lambda call: call.began))


def log_writes(calls: Sequence[Call], key: str) -> list[Call]:
    """The writes of pages with this evaluation's callback to SQLite's log."""
    return [call for call in calls if call.name == "pwrite64" and call.file.endswith("-wal") and key in call.text]


def was_synced(calls: Sequence[Call], key: str) -> bool:
    """Whether SQLite's log held this evaluation's callback, and was on the disk, before the 2xx went out."""
    written = log_writes(calls, key)[0]
    syncs = [call for call in calls if call.name in ("fsync", "fdatasync") and call.file == written.file]

    def durable(read: Call, answer: Call) -> bool:
        later = [sync for sync in syncs if written.ended < sync.began and sync.ended < answer.began]
        return read.ended < written.began and any(sync.has_succeeded for sync in later)

    return is_acknowledged_after(calls, key, durable)


def was_committed(calls: Sequence[Call], key: str, port: int) -> bool:
    """Whether PostgreSQL was sent this evaluation's callback and had said that it is committed before the 2xx went out."""
    at_server = [call for call in calls if call.file.endswith(f":{port}]")]
    sent = next(call for call in at_server if call.name in _WRITES and key in call.text)
    said = [call for call in at_server if call.file == sent.file and call.name in _READS and COMMITTED in call.text]

    def durable(read: Call, answer: Call) -> bool:
        return read.ended < sent.began and any(sent.ended < call.began and call.ended < answer.began for call in said)

    return is_acknowledged_after(calls, key, durable)
