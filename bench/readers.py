"""Readers of the stream, as cheap as they can be, in a process of their own: `python -m bench.readers`, a `Job` on its input.

Prints `ready` when all streams are open. When its input ends it prints which verdicts came when. `idle`: they take nothing.
"""

import asyncio
import re
import sys
import time
from collections import defaultdict
from functools import partial
from typing import cast

import uvloop
from pydantic import BaseModel

_VERDICT = re.compile(rb'data: \{"schema_version":1,"evaluation_id":"([0-9a-f-]{36})"')
_LONGEST_MATCH = 80


class Job(BaseModel):
    """Whom to read from, and over how many connections; `idle` ones read nothing."""

    host: str
    port: int
    token: str
    readers: int
    idle: int = 0


class Arrivals(BaseModel):
    """By evaluation: when it came to each reader (seconds since 1970)."""

    at: dict[str, list[float]]


class Connection(asyncio.Protocol):
    """One stream."""

    def __init__(
        self, request: bytes, at: dict[str, list[float]], opened: asyncio.Future[None], *, is_idle: bool
    ) -> None:
        self._request = request
        self._at = at
        self._opened = opened
        self._is_idle = is_idle
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asks for the stream."""
        stream = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        stream.write(self._request)
        if self._is_idle:
            asyncio.get_running_loop().call_soon(stream.pause_reading)  # reading begins after this
            self._opened.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Notes what came."""
        if not self._opened.done():
            if not data.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"not a stream: {data[:200]!r}")
            self._opened.set_result(None)
        now, seen = time.time(), self._rest + data
        end = 0
        for found in _VERDICT.finditer(seen):
            self._at[found[1].decode()].append(now)
            end = found.end()
        self._rest = seen[max(end, len(seen) - _LONGEST_MATCH) :]


async def _read(job: Job) -> Arrivals:
    loop = asyncio.get_running_loop()
    head = f"GET /v1/verdicts/stream HTTP/1.1\r\nHost: receiver\r\nAuthorization: Bearer {job.token}\r\n\r\n".encode()
    at: dict[str, list[float]] = defaultdict(list)
    for number in range(job.readers + job.idle):
        opened: asyncio.Future[None] = loop.create_future()
        is_idle = number >= job.readers
        await loop.create_connection(partial(Connection, head, at, opened, is_idle=is_idle), job.host, job.port)
        await opened
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    return Arrivals(at=at)


def main() -> None:
    """Reads until the input ends."""
    job = Job.model_validate_json(sys.stdin.readline())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(_read(job)).model_dump_json())


if __name__ == "__main__":
    main()
