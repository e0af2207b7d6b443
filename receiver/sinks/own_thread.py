"""Work that blocks, in a thread of its own.

The threads of `asyncio.to_thread` are few and for everyone, cannot be interrupted, and a process that ends waits for them. A
disk or a service that hangs would take them one by one, and then hold up all else, and the end. Nobody waits for these.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def in_own_thread(work: Callable[[], T], name: str) -> T:
    """What `work` returns or raises. Where this is cancelled, the thread goes on alone."""
    told: Future[T] = Future()
    told.set_running_or_notify_cancel()  # it cannot be cancelled any more

    def run() -> None:
        try:
            told.set_result(work())
        except Exception as error:  # noqa: BLE001 (it is raised where it is waited for)
            told.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await asyncio.wrap_future(told)
