"""The two sides that the pipeline works between, as cheap as they can be: a Runflow that answers trees, and a destination.

Both are one server in a thread of the measuring process, which is pinned to a core of its own. It takes the time, and the CPU
time of the process that it watches, when the first tree is asked for and when the last message has come.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, thread_time
from typing import NamedTuple, cast

import orjson
import uvloop

from bench.processes import cpu_seconds
from receiver.core.evaluation import WIDE_EMBEDS
from receiver.offline.evaluator import Evaluator
from receiver.offline.trees import tree

KINDS = 16
"""Different trees; the last digit of an evaluation's id says which one is its."""
GET_PATH = b"/v1/evaluations/"
POST_PATH = "/verdicts"
_ID_LENGTH = 36
_ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


class Tree(NamedTuple):
    """The body of a tree, up to its evaluation's id and from there on."""

    before: bytes
    after: bytes

    def of(self, evaluation_id: bytes) -> bytes:
        """The body for this evaluation."""
        return self.before + evaluation_id + self.after


def make_trees() -> list[Tree]:
    """What the offline Runflow says of `KINDS` evaluations, with all embeds: always the same."""
    evaluator = Evaluator(secret="whsec_of_nothing", seed=1)
    trees = []
    for _ in range(KINDS):
        evaluation = evaluator.evaluations.get(evaluator.add())
        body = orjson.dumps(tree(evaluation, WIDE_EMBEDS))
        before, _, after = body.partition(str(evaluation.id).encode())
        trees.append(Tree(before, after))
    return trees


class Watched(NamedTuple):
    """From the first fetch to the last delivery. Times in seconds; `own_cpu` is that of the stand-ins."""

    seconds: float
    cpu: float
    own_cpu: float
    fetches: int
    deliveries: int
    different: int


class Watch:
    """Counts what one process does until so many messages have come."""

    def __init__(self, pid: int, count: int) -> None:
        self.done = threading.Event()
        self.watched: Watched | None = None
        self._pid = pid
        self._count = count
        self._fetches = 0
        self._deliveries = 0
        self._ids: set[bytes] = set()
        self._began = self._cpu = self._own = 0.0

    def fetched(self) -> None:
        """A tree was asked for."""
        if not self._fetches:
            self._began, self._cpu, self._own = perf_counter(), cpu_seconds(self._pid), thread_time()
        self._fetches += 1

    def delivered(self, message_id: bytes) -> None:
        """A message has come."""
        self._deliveries += 1
        self._ids.add(message_id)
        if self._deliveries == self._count:
            self.watched = Watched(
                perf_counter() - self._began,
                cpu_seconds(self._pid) - self._cpu,
                thread_time() - self._own,
                self._fetches,
                self._deliveries,
                len(self._ids),
            )
            self.done.set()


class StandIns:
    """A server on a free port of loopback. Trees are answered `latency` seconds after they are asked for."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.latency = 0.0
        self.watch: Watch | None = None
        self.trees = make_trees()


class _Connection(asyncio.Protocol):
    def __init__(self, sides: StandIns) -> None:
        self._sides = sides
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head, end, body = received.partition(b"\r\n\r\n")
        if not end or len(body) < int(_header(head, b"content-length") or 0):
            self._received = received
            return
        self._received = b""
        watch = self._sides.watch
        if head.startswith(b"GET "):
            if watch is not None:
                watch.fetched()
            self._answer_tree(head[4 + len(GET_PATH) :][:_ID_LENGTH])
        else:
            self._transport.write(_ACCEPTED)
            if watch is not None:
                watch.delivered(_header(head, b"webhook-id"))

    def _answer_tree(self, evaluation_id: bytes) -> None:
        body = self._sides.trees[int(evaluation_id[-1:], 16)].of(evaluation_id)
        answer = _HEAD % len(body) + body
        if self._sides.latency:
            asyncio.get_running_loop().call_later(self._sides.latency, self._transport.write, answer)
        else:
            self._transport.write(answer)


def _header(head: bytes, name: bytes) -> bytes:
    at = head.lower().find(b"\r\n" + name + b": ")
    return head[at + len(name) + 4 :].partition(b"\r\n")[0] if at >= 0 else b""


@contextmanager
def standing_in() -> Iterator[StandIns]:
    """Both sides, served by a thread until the end."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        sides = StandIns(listener.getsockname()[1])
        loop = uvloop.new_event_loop()
        thread = threading.Thread(target=_serve, args=(loop, listener, lambda: _Connection(sides)))
        thread.start()
        try:
            yield sides
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


def _serve(loop: asyncio.AbstractEventLoop, listener: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
    server = loop.run_until_complete(loop.create_server(protocol, sock=listener))
    loop.run_forever()
    server.close()
    loop.close()
