"""The whole: an evaluator with Runflow's API in front of it, on loopback."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Self

from receiver.offline.access import SCOPES, Access
from receiver.offline.evaluator import KEEP, RETRIES, Evaluator
from receiver.offline.journal import SentCallback, ServedRequest
from receiver.offline.listener import Listener
from receiver.offline.server import create_app


class OfflineRunflow(Evaluator):
    """A Runflow for as long as `async with OfflineRunflow(secret=…) as runflow:` lasts, at `runflow.url`.

    `api_key` None takes every request; `scopes` are what the key may do; `user_token` is a person's. The rest is
    as for `Evaluator`.
    """

    def __init__(
        self,
        *,
        secret: str,
        api_key: str | None = None,
        user_token: str | None = None,
        scopes: Iterable[str] = SCOPES,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 0,
        decide_delay: float = 0.05,
        retries: Sequence[float] = RETRIES,
        callback_timeout: float = 5,
        keep: int = KEEP,
    ) -> None:
        super().__init__(
            secret=secret,
            seed=seed,
            decide_delay=decide_delay,
            retries=retries,
            callback_timeout=callback_timeout,
            keep=keep,
        )
        self.access = Access(api_key, frozenset(scopes), user_token)
        self._listener = Listener(create_app(self, self.access), host, port)

    @property
    def url(self) -> str:
        """Its address, as `RUNFLOW_API_URL` takes it."""
        return self._listener.url

    @property
    def requests(self) -> deque[ServedRequest]:
        """The last requests, oldest first."""
        return self.journal.requests

    @property
    def callbacks(self) -> deque[SentCallback]:
        """The last attempts at callbacks, oldest first."""
        return self.journal.callbacks

    async def __aenter__(self) -> Self:
        await self._listener.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._listener.close()
        finally:
            await self.close()
