"""SQLite's disk full: callers are told to come again, `/readyz` and the log say why, and room is all that it takes."""

import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from receiver.offline import OfflineRunflow
from tests.acceptance.books import LookInto, check_books, quiet, stored
from tests.acceptance.collector import Collector, check_arrived
from tests.acceptance.load import Callback, Load
from tests.acceptance.processes import API_KEY, SECRET, Install, Report, Server

MIB = 1024 * 1024
ROOM = 8 * MIB
"""More than SQLite's log grows to before it is used again from its beginning."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that holds little."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"may not mount here ({mounted.stderr.decode().strip()}); the test with a quota runs everywhere")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


async def test_no_room_on_the_device(small_disk: Path, install: Install, look_into: LookInto, report: Report) -> None:
    """ENOSPC, for real: a file fills the disk that the database is on."""
    filler = small_disk / "filler"
    await _is_survived(
        small_disk / "receiver.db",
        lambda _: _fill(filler),
        lambda _: filler.unlink(),
        install,
        look_into,
        report,
    )


@pytest.mark.parametrize("is_new", [True, False])
async def test_started_without_room(is_new: bool, small_disk: Path, install: Install) -> None:
    """A receiver that starts on a full disk, with a database there or none yet, waits for room."""
    filler = small_disk / "filler"
    place = install("", DATABASE_URL=f"sqlite:///{small_disk / 'receiver.db'}")
    if not is_new:
        (await place.serve(forked=True)).kill()
    _fill(filler)
    server = await place.serve(forked=True)
    await server.says_it_is(503, "disk")
    filler.unlink()
    await server.says_it_is(200, None)
    await server.stop()


async def test_files_may_not_grow(tmp_path: Path, install: Install, look_into: LookInto, report: Report) -> None:
    """The same where the process may write no file beyond a size, as under a quota."""
    database = tmp_path / "receiver.db"

    def limit(server: Server, largest: int | None) -> None:
        _, highest = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (largest or highest, highest))

    def fill(server: Server) -> None:
        limit(server, max(path.stat().st_size for path in tmp_path.glob("receiver.db*")))

    def make_room(server: Server) -> None:
        limit(server, None)

    await _is_survived(database, fill, make_room, install, look_into, report)


def _fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


async def _is_survived(
    path: Path,
    fill: Callable[[Server], None],
    make_room: Callable[[Server], None],
    install: Install,
    look_into: LookInto,
    report: Report,
) -> None:
    async with OfflineRunflow(secret=SECRET, api_key=API_KEY) as runflow, Collector() as collector:
        place = install(
            collector.sink(),
            DATABASE_URL=f"sqlite:///{path}",
            RUNFLOW_API_URL=runflow.url,
            RUNFLOW_API_KEY=API_KEY,
        )
        server = await place.serve(forked=True)
        load = Load(server.address)
        async with load.going_on(lambda: Callback(runflow)):
            await load.taken(20)
            fill(server)
            await load.refused(20)
            await server.says_it_is(503, "disk")
            said = await server.logged("callback.turned_away")
            assert said["reason"].startswith("SQLite cannot write: "), said
            make_room(server)
            await load.taken(20)
            await server.says_it_is(200, None)
        database = look_into(f"sqlite:///{path}")
        await quiet(database)
        assert await stored(database) == load.acknowledged.keys()
        check_arrived(load.acknowledged.values(), collector.arrivals)
        await check_books(database, delivered=len(load.acknowledged))
        assert load.outcomes.keys() <= {"200", "202", "503"}, load.outcomes
        assert load.retry_after == {"5"}
        await server.stop()
    report(f"{dict(load.outcomes)}")
