"""A pgbouncer of the tests' own, in transaction mode, before a PostgreSQL server."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.store.places import LONG

_CONFIG = """
[databases]
* = host={host} port={port} user={user}{password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
max_client_conn = 100
"""


def program() -> str:
    """Where pgbouncer is; Debian puts it outside of most users' PATH."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        message = "no pgbouncer: install one (apt-get install pgbouncer)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@contextmanager
def bouncer(server: str, folder: Path) -> Iterator[str]:
    """The address of a transaction pooler before this server."""
    executable = program()
    for _ in range(10):
        listen = _free_port()
        process = _started(executable, server, folder, listen)
        try:
            if _answers(process, listen):
                yield f"postgresql://any@127.0.0.1:{listen}/{urlsplit(server).path[1:]}"
                return
        finally:
            process.kill()
            process.wait()
    pytest.fail(f"pgbouncer did not start: {(folder / 'log').read_text()}")


def _started(executable: str, server: str, folder: Path, listen: int) -> "subprocess.Popen[bytes]":
    parts = urlsplit(server)
    password = f" password={parts.password}" if parts.password else ""
    config = folder / "pgbouncer.ini"
    config.write_text(
        _CONFIG.format(
            host=parts.hostname, port=parts.port or 5432, user=parts.username, password=password, listen=listen
        )
    )
    as_other = ["-u", "nobody"] if os.getuid() == 0 else []  # it refuses to run as root
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([executable, *as_other, str(config)], stdout=log, stderr=log)


def _free_port() -> int:
    with closing(socket.socket()) as it:
        it.bind(("127.0.0.1", 0))
        port: int = it.getsockname()[1]
        return port


def _answers(process: "subprocess.Popen[bytes]", port: int) -> bool:
    """Whether it took the port; another may have taken it first, and then it ends."""
    deadline = time.monotonic() + LONG
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process.poll() is None
    return False
