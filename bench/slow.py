"""A database made slow, for bench/pressure.py: syncs that take long, and another who keeps the lock for seconds on end.

python -m bench.slow URL HOLD REST      takes the lock that every insert needs, holds it, lets go, until it is ended
"""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from bench.processes import environment
from bench.stores import execute, file_of

SYNC_MS = 20
"""How much longer each sync takes: a slow disk, or one across a network."""
HOLD_SECONDS = 5.0
REST_SECONDS = 15.0

_SHIM = f"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static int slowly(const char *name, int fd) {{
    struct timespec wait = {{0, {SYNC_MS} * 1000000L}};
    nanosleep(&wait, 0);
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}}
int fsync(int fd) {{ return slowly("fsync", fd); }}
int fdatasync(int fd) {{ return slowly("fdatasync", fd); }}
"""


def slow_sync(url: str, folder: Path) -> Mapping[str, str] | None:
    """Makes each commit wait: the settings to start the server with, or None where that cannot be done.

    On PostgreSQL the server itself waits before each sync (`commit_delay`); on SQLite a library that is loaded first does.
    """
    if url.startswith("postgresql:"):
        name = url.rpartition("/")[2]
        execute(
            url,
            *(
                f"ALTER DATABASE {name} SET {setting}"
                for setting in ("commit_siblings = 0", f"commit_delay = {SYNC_MS}000")
            ),
        )
        return {}
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library = folder / "slow.so"
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(command, input=_SHIM, text=True, check=True)
    return {"LD_PRELOAD": str(library)}


@contextmanager
def locked_at_times(url: str, hold: float, rest: float) -> Iterator[None]:
    """Another process keeps the lock for `hold` seconds, again and again."""
    command = [sys.executable, "-m", "bench.slow", url, str(hold), str(rest)]
    process = subprocess.Popen(command, env=environment({}))
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"whoever was to hold the lock ended with status {process.returncode}")
    finally:
        process.terminate()
        process.wait()


def hold_sqlite(path: Path, hold: float, rest: float) -> None:
    """Writes nothing, but nobody else may write meanwhile."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    while True:
        time.sleep(rest)
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(hold)
        connection.execute("ROLLBACK")


async def hold_postgres(url: str, hold: float, rest: float) -> None:
    """The same for the table that takes callbacks."""
    connection = await asyncpg.connect(url)
    while True:
        await asyncio.sleep(rest)
        async with connection.transaction():
            await connection.execute("LOCK TABLE events IN EXCLUSIVE MODE")
            await asyncio.sleep(hold)


def main() -> None:
    """Until it is ended."""
    url, hold, rest = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    if url.startswith("postgresql:"):
        asyncio.run(hold_postgres(url, hold, rest))
    else:
        hold_sqlite(file_of(url), hold, rest)


if __name__ == "__main__":
    main()
