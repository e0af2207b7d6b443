"""`file`: whole lines on the disk or none, whoever else writes, renames, or dies in the middle."""

import asyncio
import fcntl
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from receiver.sinks import file as file_sink
from receiver.sinks.base import Again, Done, Down, Outcome, SinkError
from receiver.sinks.file import FileOptions, FileSink
from tests.sinks.messages import evaluation_id, message
from tests.sinks.servers import LONG, until


def sink_to(path: Path | str, timeout: float = LONG) -> FileSink:
    """A sink that appends there."""
    return FileSink(FileOptions(name="it", path=str(path), timeout=timeout))


def ids(path: Path) -> list[str]:
    """The evaluation ids of a file's lines, each of which must be JSON."""
    return [json.loads(line)["subject"] for line in path.read_text().split("\n") if line]


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Writes past the size come up short and then fail, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_line_is_an_envelope_and_ends_with_a_newline(tmp_path: Path) -> None:
    """NDJSON: one JSON object a line, without a raw line end inside."""
    path = tmp_path / "verdicts.ndjson"
    await sink_to(path).send([message(1, client_ref="a\nb\r\u2028"), message(2)])

    lines = path.read_bytes().split(b"\n")
    assert lines == [message(1, client_ref="a\nb\r\u2028").cloud_event, message(2).cloud_event, b""]


async def test_what_is_done_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One fsync of the file for a batch, after its last byte; and one of the folder, when the file is new."""
    synced: list[tuple[Path, int]] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        fsync(descriptor)
        synced.append((Path(f"/dev/fd/{descriptor}").readlink(), os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", note)
    path = tmp_path / "verdicts.ndjson"
    sink = sink_to(path)
    await sink.send([message(1), message(2)])
    first = path.stat().st_size
    await sink.send([message(3)])

    assert [name for name, _ in synced] == [path, tmp_path, path]
    assert [synced[0][1], synced[2][1]] == [first, path.stat().st_size]


async def test_a_renamed_file_is_begun_anew(tmp_path: Path) -> None:
    """Rotation by rename needs no signal: the next batch makes the file again."""
    path, old = tmp_path / "verdicts.ndjson", tmp_path / "verdicts.1"
    sink = sink_to(path)
    await sink.send([message(1)])
    path.rename(old)
    await sink.send([message(2)])

    assert (ids(old), ids(path)) == ([str(evaluation_id(1))], [str(evaluation_id(2))])


async def test_a_file_that_is_renamed_while_its_lock_is_awaited_gets_nothing_more(tmp_path: Path) -> None:
    """Whoever renames it under the lock may do with it what they like."""
    path, old = tmp_path / "verdicts.ndjson", tmp_path / "verdicts.1"
    path.touch()
    with path.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        sending = asyncio.create_task(_send(sink_to(path)))
        await until(lambda: _times_open(path) == 2)
        path.rename(old)
    await sending

    assert (ids(old), ids(path)) == ([], [str(evaluation_id(1))])


async def _send(sink: FileSink) -> None:
    assert await sink.send([message()]) == [Done()]


def _times_open(path: Path) -> int:
    """How often this process has the file open."""
    return [link.readlink() for link in Path("/dev/fd").iterdir() if link.is_file()].count(path)


async def test_a_send_that_is_cancelled_lets_its_thread_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stops must not wait for a lock, or a reader, until the sink's timeout is over."""
    path = tmp_path / "verdicts.ndjson"
    waits, over = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    write = file_sink._File.write

    def told(place: file_sink._File, lines: Sequence[bytes], patience: file_sink._Patience) -> list[Outcome]:
        loop.call_soon_threadsafe(waits.set)
        try:
            return write(place, lines, patience)
        finally:
            loop.call_soon_threadsafe(over.set)

    monkeypatch.setattr(file_sink._File, "write", told)
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        sending = asyncio.create_task(sink_to(path, timeout=300).send([message(1)]))
        await asyncio.wait_for(waits.wait(), LONG)
        sending.cancel()
        await asyncio.wait_for(over.wait(), LONG)
    assert sending.cancelled()
    assert path.read_bytes() == b""


async def test_a_lock_that_is_held_is_waited_for_and_no_longer_than_the_timeout(tmp_path: Path) -> None:
    """Another process in the middle of its batch: again."""
    path = tmp_path / "verdicts.ndjson"
    path.touch()
    with path.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        [outcome] = await sink_to(path, timeout=0.1).send([message()])

    assert outcome == Again(f"another process holds the lock on {path}")
    assert path.read_bytes() == b""


WRITER = """
import asyncio, sys
from tests.sinks.messages import message
from tests.sinks.test_file import sink_to

async def main():
    sink = sink_to(sys.argv[1])
    for start in range(20):
        await sink.send([message(int(sys.argv[2]) * 1000 + start * 5 + i, generation_prompt="x" * 20_000) for i in range(5)])

asyncio.run(main())
"""


def test_several_processes_do_not_mix_their_lines(tmp_path: Path) -> None:
    """Three write to one file at once: every line is whole, and each batch stands together."""
    path = tmp_path / "verdicts.ndjson"
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [
        subprocess.Popen([*command, str(number)], env={"PYTHONPATH": root, "PATH": os.environ["PATH"]}, cwd=tmp_path)
        for number in (1, 2, 3)
    ]

    assert [writer.wait() for writer in writers] == [0, 0, 0]
    found = ids(path)
    expected = {str(evaluation_id(number * 1000 + i)) for number in (1, 2, 3) for i in range(100)}
    assert (set(found), len(found)) == (expected, 300)
    batches = [found[start : start + 5] for start in range(0, 300, 5)]
    assert all(int(batch[-1][-6:], 16) - int(batch[0][-6:], 16) == 4 for batch in batches)


async def test_a_torn_line_is_ended_first(tmp_path: Path) -> None:
    """What a process that died left without its newline does not swallow the next message."""
    path = tmp_path / "verdicts.ndjson"
    path.write_bytes(message(1).cloud_event + b"\n" + message(2).cloud_event[:50])
    await sink_to(path).send([message(3)])

    first, torn, third, end = path.read_bytes().split(b"\n")
    assert (first, third, end) == (message(1).cloud_event, message(3).cloud_event, b"")
    assert torn == message(2).cloud_event[:50]


async def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """A batch that does not fit is not there at all, and the sink goes on when there is room again."""
    path = tmp_path / "verdicts.ndjson"
    sink = sink_to(path)
    await sink.send([message(1)])
    before = path.read_bytes()
    with files_no_larger_than(len(before) + 100):
        outcomes = await sink.send([message(2), message(3)])
    after_failure = path.read_bytes()
    again = await sink.send([message(2), message(3)])

    assert outcomes == [Down(f"cannot write to {path}: File too large")] * 2
    assert after_failure == before
    assert again == [Done(), Done()]
    assert ids(path) == [str(evaluation_id(number)) for number in (1, 2, 3)]


async def test_an_fsync_that_fails_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may not be on the disk is taken back, and tried again later."""

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    path = tmp_path / "verdicts.ndjson"
    monkeypatch.setattr(os, "fsync", fail)
    [outcome] = await sink_to(path).send([message()])

    assert outcome == Down(f"cannot write to {path}: Input/output error")
    assert path.read_bytes() == b""


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """By the check and by the outcome; nothing is made."""
    sink = sink_to(tmp_path / "nowhere" / "verdicts.ndjson")
    [outcome] = await sink.send([message()])
    with pytest.raises(SinkError) as caught:
        await sink.check()

    assert outcome == Down(f"the folder {tmp_path}/nowhere does not exist")
    assert str(caught.value) == f"the folder {tmp_path}/nowhere does not exist"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("kind", ["folder", "pipe"])
async def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    """A folder, or a pipe that nobody reads: Down at once, and the check fails."""
    path = tmp_path / "it"
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    sink = sink_to(path)
    [outcome] = await sink.send([message()])

    assert isinstance(outcome, Down)
    with pytest.raises(SinkError, match="not a regular file"):
        await sink.check()


async def test_a_check_makes_nothing(tmp_path: Path) -> None:
    """It says whether the file is there, or can be made."""
    path = tmp_path / "verdicts.ndjson"
    found_before = await sink_to(path).check()
    made_by_check = path.exists()
    path.touch()

    assert not made_by_check
    assert found_before == f"{path} is not there yet and can be made"
    assert await sink_to(path).check() == f"{path} is there and can be written"


@pytest.mark.parametrize("which", ["file", "folder"])
async def test_what_may_not_be_written_is_said(tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check asks the system; root, as whom tests may run, may write anything."""
    path = tmp_path / "verdicts.ndjson"
    if which == "file":
        path.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SinkError, match="may not be"):
        await sink_to(path).check()


async def test_a_path_through_a_file_is_said(tmp_path: Path) -> None:
    """A folder of the path that is a file: the system's own words."""
    (tmp_path / "file").touch()
    sink = sink_to(tmp_path / "file" / "verdicts.ndjson")
    [outcome] = await sink.send([message()])
    with pytest.raises(SinkError):
        await sink.check()

    assert isinstance(outcome, Down)
    assert "Not a directory" in outcome.reason


async def test_a_path_too_long_is_said(tmp_path: Path) -> None:
    """An error of the system in the check is a failed check."""
    with pytest.raises(SinkError, match="File name too long"):
        await sink_to(tmp_path / ("x" * 5000)).check()


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_a_path_that_cannot_be_is_refused(path: str) -> None:
    """Before anything is opened."""
    with pytest.raises(ValidationError, match="path"):
        FileOptions(name="it", path=path)


@contextmanager
def standard_output_is(descriptor: int) -> Iterator[None]:
    """Puts it in the place of this process's standard output."""
    saved = os.dup(1)
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: where to read, where to write."""
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        if _is_open(descriptor):
            os.close(descriptor)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


async def test_standard_output_gets_lines_at_once(pipe: tuple[int, int]) -> None:
    """`-`: what is Done can be read, without the end of the process or of a buffer."""
    reading, writing = pipe
    sink = sink_to("-")
    with standard_output_is(writing):
        outcomes = await sink.send([message(1), message(2)])
        found = await sink.check()

    assert outcomes == [Done(), Done()]
    assert os.read(reading, 1_000_000) == message(1).cloud_event + b"\n" + message(2).cloud_event + b"\n"
    assert found == "standard output is open"


async def test_a_line_larger_than_a_pipe_goes_as_it_is_read(pipe: tuple[int, int]) -> None:
    """Whoever reads slowly gets it whole."""
    reading, writing = pipe
    large = message(generation_prompt="x" * 500_000)
    with standard_output_is(writing):
        sending = asyncio.create_task(sink_to("-").send([large]))
        received = b""
        while not received.endswith(b"\n"):
            received += await asyncio.to_thread(os.read, reading, 65536)
        outcomes = await sending

    assert outcomes == [Done()]
    assert received == large.cloud_event + b"\n"


async def test_an_output_that_nobody_reads_is_tried_again(pipe: tuple[int, int]) -> None:
    """A full pipe: what went through is Done, the rest comes again, after a newline that ends the torn line."""
    reading, writing = pipe
    large = message(2, generation_prompt="x" * 500_000)
    sink = sink_to("-", timeout=0.2)
    with standard_output_is(writing):
        outcomes = await sink.send([message(1), large, message(3)])
        received = os.read(reading, 1_000_000)
        later = await sink.send([message(3)])

    assert outcomes == [Done(), *[Again("nobody reads standard output")] * 2]
    assert later == [Done()]
    first, torn = received.split(b"\n")
    assert first == message(1).cloud_event
    assert large.cloud_event.startswith(torn)
    assert os.read(reading, 1_000_000) == b"\n" + message(3).cloud_event + b"\n"


async def test_a_line_that_another_sink_left_torn_is_ended_first(pipe: tuple[int, int]) -> None:
    """The sink of before a reload, or a second one: it is the same pipe."""
    reading, writing = pipe
    with standard_output_is(writing):
        await sink_to("-", timeout=0.1).send([message(1, generation_prompt="x" * 500_000)])
        torn = os.read(reading, 1_000_000)
        assert await sink_to("-").send([message(2)]) == [Done()]

    assert not torn.endswith(b"\n")
    assert os.read(reading, 1_000_000) == b"\n" + message(2).cloud_event + b"\n"


async def test_a_write_that_hangs_takes_one_thread_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that does not answer: later batches wait for it no longer than the timeout, and nothing else waits for them."""
    hangs, begun = threading.Event(), threading.Event()

    def fsync(_: int) -> None:
        begun.set()
        hangs.wait()

    monkeypatch.setattr("os.fsync", fsync)
    sink = sink_to(tmp_path / "verdicts.ndjson", timeout=0.1)
    before = threading.active_count()
    hanging = asyncio.create_task(sink.send([message(1)]))
    await asyncio.to_thread(begun.wait)
    hanging.cancel()
    for _ in range(50):
        assert await sink.send([message(2)]) == [Again("a write from before has not ended")]
    assert threading.active_count() <= before + 2  # it, and that of `to_thread`
    monkeypatch.undo()
    hangs.set()
    assert await sink_to(tmp_path / "verdicts.ndjson").send([message(2)]) == [Done()]
    assert hanging.cancelled()


async def test_an_output_whose_reader_has_gone_is_down(pipe: tuple[int, int]) -> None:
    """A broken pipe ends nothing: the reason says what happened."""
    reading, writing = pipe
    os.close(reading)
    with standard_output_is(writing):
        outcomes = await sink_to("-").send([message(1), message(2)])

    assert outcomes == [Down("whoever read standard output has gone")] * 2


async def test_an_output_that_is_closed_is_down() -> None:
    """As for a daemon: no standard output at all."""
    saved = os.dup(1)
    os.close(1)
    try:
        [outcome] = await sink_to("-").send([message()])
        with pytest.raises(SinkError, match="closed"):
            await sink_to("-").check()
    finally:
        os.dup2(saved, 1)
        os.close(saved)

    assert outcome == Down("cannot write to standard output: Bad file descriptor")
