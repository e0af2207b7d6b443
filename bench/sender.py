"""The load generator, a process of its own: sends prepared requests over kept connections, and looks at every answer.

    python -m bench.sender < job.json        prints the outcome as JSON

Without a rate each connection sends its next request as soon as it has its answer. With one, requests are sent when they are
due, whether or not earlier ones were answered: what waits for a free connection waits on the server's account.
"""

import asyncio
import gc
import itertools
import math
import sys
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Literal, cast

import uvloop
from pydantic import BaseModel

from bench.callbacks import IdKind, id_of, requests
from bench.processes import cpu_seconds

TICK = 0.001
"""Seconds between two looks at what is due; the event loop's own timers are no finer."""
LONGEST_SILENCE = 60.0
"""Seconds without any answer after which a run is given up."""

NOT_GOOD = 300
UNAVAILABLE = 503

Callbacks = Literal["fresh", "half_repeated", "any"]
"""What is sent: each callback once, half of them twice, or a few over and over, where nothing is stored."""


class Address(BaseModel):
    """A server. The connections are spread evenly over all of them."""

    host: str
    port: int
    pid: int


class Job(BaseModel):
    """What to send where. `rate` is in requests a second; None is as fast as the answers come.

    `acknowledged` names a file that takes the evaluation ids, 16 bytes each, of all that was answered 2xx.
    """

    servers: list[Address]
    callbacks: Callbacks
    ids: IdKind = "v7"
    connections: int
    seconds: float
    warm_up: float
    prepared: int
    rate: float | None = None
    acknowledged: Path | None = None


class Refusals(BaseModel):
    """The answers that were not 2xx. Times are in milliseconds; a 503 should say when to come again."""

    count: int
    p50: float
    p99: float
    longest: float
    without_retry_after: int


class Outcome(BaseModel):
    """What was measured. Rate and times (in milliseconds) are those of the answers 2xx; `…_busy` is CPU time over wall time."""

    answers: dict[int, int]
    answers_before: dict[int, int]
    seconds: float
    per_second: float
    p50: float
    p99: float
    longest: float
    over_100_ms: int
    refusals: Refusals
    server_cpu_us: float
    server_busy: float
    sender_busy: float


class Connection(asyncio.Protocol):
    """One kept connection: one request at a time."""

    transport: asyncio.Transport

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.since = 0.0
        self.request = b""
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.run.lost(exc)

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head, separator, body = received.partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            self._received = received
            return
        self._received = b""
        status = int(head[9:12])
        self.run.answered(self, status, says_when=status != UNAVAILABLE or b"\r\nretry-after: " in head.lower())


def _content_length(head: bytes) -> int:
    at = head.find(b"content-length: ") + 16
    return int(head[at:].partition(b"\r\n")[0])


class Run(ABC):
    """One stretch of sending. `done` is resolved when its time is over, or its requests are, and all answers are there."""

    def __init__(self, prepared: Iterator[bytes], seconds: float) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.statuses: Counter[int] = Counter()
        self.times: list[float] = []
        self.refusal_times: list[float] = []
        self.without_retry_after = 0
        self.acknowledged: list[bytes] = []
        self.began = self.ended = perf_counter()
        self.seconds = seconds
        self.is_over = False
        self._prepared = prepared
        self._sent = 0
        self._answered = 0

    @abstractmethod
    def start(self, connections: list[Connection]) -> None:
        """Begins to send."""

    @abstractmethod
    def free(self, connection: Connection, at: float) -> None:
        """Sends the next request if there is one to send now."""

    def answered(self, connection: Connection, status: int, *, says_when: bool) -> None:
        """Notes an answer, and sends the next request or lets the connection rest."""
        at = self.ended = perf_counter()
        self.statuses[status] += 1
        self._answered += 1
        if status < NOT_GOOD:
            self.times.append(at - connection.since)
            self.acknowledged.append(connection.request)
        else:
            self.refusal_times.append(at - connection.since)
            self.without_retry_after += not says_when
        self.free(connection, at)
        self.end_if_over()

    def send(self, connection: Connection, since: float) -> None:
        """Sends the next request; its answer's time counts from `since`."""
        request = next(self._prepared, None)
        if request is None:
            self.is_over = True
        else:
            self._sent += 1
            connection.since = since
            connection.request = request
            connection.transport.write(request)

    def end_if_over(self) -> None:
        """Ends the run if nothing will be sent any more and nothing is without an answer."""
        if self.is_over and self._sent == self._answered and not self.done.done():
            self.done.set_result(None)

    def lost(self, error: Exception | None) -> None:
        """The server ended a connection, which it has no reason to."""
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"the server ended a connection: {error}"))

    async def wait(self) -> None:
        """Until it is done. Raises TimeoutError when answers stay away."""
        async with asyncio.timeout(self.seconds + LONGEST_SILENCE):
            await self.done


class AsFastAsItCan(Run):
    """Each connection sends its next request as soon as it has its answer."""

    def start(self, connections: list[Connection]) -> None:
        self.began = perf_counter()
        for connection in connections:
            connection.run = self
            self.send(connection, self.began)

    def free(self, connection: Connection, at: float) -> None:
        if at - self.began >= self.seconds:
            self.is_over = True
        if not self.is_over:
            self.send(connection, at)


class AtARate(Run):
    """So many requests a second, whether or not earlier ones were answered."""

    def __init__(self, prepared: Iterator[bytes], seconds: float, rate: float) -> None:
        super().__init__(prepared, seconds)
        self._rate = rate
        self._due: deque[float] = deque()
        self._idle: list[Connection] = []
        self._taken = 0
        self._all_are_due = False

    def start(self, connections: list[Connection]) -> None:
        self.began = perf_counter()
        for connection in connections:
            connection.run = self
        self._idle = list(connections)
        self._tick()

    def _tick(self) -> None:
        """Sends what is due by now, or lets it wait for a free connection."""
        at = perf_counter()
        due = math.ceil(min(at - self.began, self.seconds) * self._rate)
        self._due.extend([at] * (due - self._taken))
        self._taken = due
        while self._due and self._idle:
            self.send(self._idle.pop(), self._due.popleft())
        if at - self.began < self.seconds:
            asyncio.get_running_loop().call_later(TICK, self._tick)
        else:
            self._all_are_due = True
            self._look_whether_all_are_sent()
            self.end_if_over()

    def free(self, connection: Connection, at: float) -> None:
        if self._due:
            self.send(connection, self._due.popleft())
        else:
            self._idle.append(connection)
        self._look_whether_all_are_sent()

    def _look_whether_all_are_sent(self) -> None:
        if self._all_are_due and not self._due:
            self.is_over = True


async def measure(job: Job) -> Outcome:
    """Sends for a while to warm up, and then what is measured."""
    prepared = _prepared(job)
    gc.collect()
    gc.disable()  # the sender's own pauses would be told as the server's
    before = _run(prepared, job.warm_up, job.rate)
    loop = asyncio.get_running_loop()
    servers = itertools.islice(itertools.cycle(job.servers), job.connections)
    pairs = [await loop.create_connection(lambda: Connection(before), each.host, each.port) for each in servers]
    connections = [connection for _, connection in pairs]
    before.start(connections)
    await before.wait()
    measured = _run(prepared, job.seconds, job.rate)
    server, own = _servers_cpu(job), process_time()
    measured.start(connections)
    await measured.wait()
    server, own = _servers_cpu(job) - server, process_time() - own
    for connection in connections:
        connection.transport.close()
    if job.acknowledged is not None:
        job.acknowledged.write_bytes(b"".join(map(id_of, before.acknowledged + measured.acknowledged)))
    return _outcome(before, measured, server, own)


def _servers_cpu(job: Job) -> float:
    return sum(cpu_seconds(each.pid) for each in job.servers)


def _run(prepared: Iterator[bytes], seconds: float, rate: float | None) -> Run:
    return AsFastAsItCan(prepared, seconds) if rate is None else AtARate(prepared, seconds, rate)


def _prepared(job: Job) -> Iterator[bytes]:
    ready = list(requests(job.prepared, half_repeated=job.callbacks == "half_repeated", ids=job.ids))
    return itertools.cycle(ready) if job.callbacks == "any" else iter(ready)


def _outcome(before: Run, measured: Run, server: float, own: float) -> Outcome:
    times, refusals = sorted(measured.times), sorted(measured.refusal_times)
    seconds = measured.ended - measured.began
    return Outcome(
        answers=dict(measured.statuses),
        answers_before=dict(before.statuses),
        seconds=seconds,
        per_second=len(times) / seconds,
        p50=_quantile(times, 0.5),
        p99=_quantile(times, 0.99),
        longest=_quantile(times, 1),
        over_100_ms=sum(time > 0.1 for time in times),
        refusals=Refusals(
            count=len(refusals),
            p50=_quantile(refusals, 0.5),
            p99=_quantile(refusals, 0.99),
            longest=_quantile(refusals, 1),
            without_retry_after=measured.without_retry_after,
        ),
        server_cpu_us=server / (len(times) + len(refusals)) * 1e6,
        server_busy=server / seconds,
        sender_busy=own / seconds,
    )


def _quantile(ordered: list[float], share: float) -> float:
    """In milliseconds; 0 of none."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000 if ordered else 0.0


def main() -> None:
    """The job from standard input, the outcome to standard output."""
    job = Job.model_validate_json(sys.stdin.read())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(measure(job)).model_dump_json())


if __name__ == "__main__":
    main()
