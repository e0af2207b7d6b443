"""Work that blocks, in a thread of its own.

The threads of `asyncio.to_thread` are few and for everyone, cannot be interrupted, and a process that ends waits for them. A
disk or a service that hangs would take them one by one, and then hold up all else, and the end. Nobody waits for these.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_own_thread(work: Callable[[], T], name: str) -> T:
    """What `work` returns or raises. Where this is cancelled, the thread goes on alone."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if told.done():
            return
        if error is not None:
            told.set_exception(error)
        else:
            told.set_result(result)  # type: ignore[arg-type]  # None only where `T` is

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 (it is raised where it is waited for)
            failure = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await told
