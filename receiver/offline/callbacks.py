"""Sending callbacks: signed once, tried on a schedule until a 2xx, the same bytes each time.

Runflow says that anything but a 2xx, a timeout and a broken connection is tried again, a few times at growing distances; the
numbers are ours. (docs.runflow.io/concepts/callbacks)
"""

import asyncio
import itertools
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from receiver.core.signature import Secret
from receiver.httpclient import MOST_CONNECTIONS, Client, HTTPError, InvalidURL, why
from receiver.offline.faults import Faults, take
from receiver.offline.journal import Journal, SentCallback
from receiver.offline.submission import is_loopback

SIGNATURE: Final = "Runflow-Signature"
REQUEST_ID: Final = "Runflow-Request-Id"


@dataclass(frozen=True, slots=True)
class Callback:
    """What is to be sent where; `number` tells deliveries apart."""

    number: int
    evaluation_id: UUID
    event: str
    url: str
    body: bytes
    signature: str


class Callbacks:
    """The sender. `retries` are the waits in seconds before the second and later attempts; `timeout` is for one attempt."""

    def __init__(
        self, journal: Journal, faults: Faults, secret: Secret, retries: Sequence[float], timeout: float
    ) -> None:
        self.secret = secret
        self._journal = journal
        self._faults = faults
        self._waits = (0.0, *retries)
        self._timeout = timeout
        self._numbers = itertools.count(1)
        # As many as the client has connections: waiting for one would otherwise look like a slow receiver.
        self._slots = asyncio.Semaphore(MOST_CONNECTIONS)
        self._client = Client(timeout=timeout)

    def make(self, evaluation_id: UUID, event: str, url: str, body: bytes) -> Callback:
        """A callback signed with the secret that is current now."""
        return Callback(next(self._numbers), evaluation_id, event, url, body, self.secret.sign(body))

    async def deliver(self, callback: Callback) -> None:
        """Sends it, with the faults that are on; returns when no attempt is left."""
        faults, who = self._faults, callback.evaluation_id
        if take(faults.callback_lost, who):
            return
        if delayed := take(faults.callback_delayed, who):
            await asyncio.sleep(delayed.seconds)
        if reordered := take(faults.callback_reordered, who):
            ended = await reordered.turn()
            await self.send(callback)
            ended.set()
        else:
            await self.send(callback)
        if take(faults.callback_twice, who):
            await self.send(replace(callback, number=next(self._numbers)))
        if take(faults.callback_rewritten, who):
            await self.send(self._rewritten(callback))

    async def send(self, callback: Callback) -> None:
        """Tries on the schedule until one attempt is accepted."""
        for attempt, wait in enumerate(self._waits, start=1):
            await asyncio.sleep(wait)
            tried = await self._attempt(callback, attempt)
            self._journal.sent(tried)
            if tried.is_accepted:
                return
        self._journal.gave_up()

    async def close(self) -> None:
        """Gives back the connections."""
        await self._client.aclose()

    async def _attempt(self, callback: Callback, attempt: int) -> SentCallback:
        tried = SentCallback(
            evaluation_id=callback.evaluation_id,
            event=callback.event,
            delivery=callback.number,
            attempt=attempt,
            request_id=f"req_{secrets.token_hex(8)}",
            body=callback.body,
            signature=callback.signature,
        )
        if not is_loopback(callback.url):
            return replace(tried, error="not on loopback: not sent")
        headers = {
            "content-type": "application/json",
            SIGNATURE: callback.signature,
            REQUEST_ID: tried.request_id,
            "user-agent": "runflow-offline",
        }
        try:
            async with self._slots, asyncio.timeout(self._timeout):
                response = await self._client.post(callback.url, headers, callback.body)
        except TimeoutError:
            return replace(tried, error="no answer in time")
        except (HTTPError, InvalidURL) as error:
            return replace(tried, error=why(error))
        return replace(tried, status=response.status_code, answer=response.content)

    def _rewritten(self, callback: Callback) -> Callback:
        body = json.dumps(json.loads(callback.body), ensure_ascii=False, indent=1).encode()
        return self.make(callback.evaluation_id, callback.event, callback.url, body)
