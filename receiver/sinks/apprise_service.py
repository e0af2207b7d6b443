"""One service of Apprise's, told something in a thread of its own, for it may be silent for long.

What Apprise logs is heard here and nowhere else: it may hold an address with what is secret in it.
"""

import logging
import re
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from apprise import Apprise, NotifyFormat, NotifyType, OverflowMode
from apprise.conversion import convert_between

from receiver.sinks.own_thread import in_own_thread

_LOGGER = logging.getLogger("apprise")
_LOGGER.propagate = False
_LOGGER.addHandler(logging.NullHandler())

_GENERIC = frozenset({"json", "jsons", "xml", "xmls", "form", "forms"})
"""Kinds of addresses whose host is where they lead."""


class Told(NamedTuple):
    """What Apprise says, which is yes or no, and what it logged meanwhile."""

    is_taken: bool
    logged: str


class Service:
    """What an address of Apprise's leads to."""

    def __init__(self, address: str, *, timeout: float) -> None:
        """`timeout` in seconds. Raises ValueError, which says what is wrong, if Apprise can make nothing of the address."""
        plugin = Apprise.instantiate(address)
        if plugin is None:
            raise ValueError("url is no address that Apprise can use: see appriseit.com/services")
        if len(plugin) > 1:  # it tells of all of them that one refused, and each retry would go to the others again
            raise ValueError("url names several recipients: give each of them a sink of its own")
        plugin.socket_connect_timeout = plugin.socket_read_timeout = timeout
        if "overflow=" not in address:
            plugin.overflow_mode = OverflowMode.TRUNCATE
        self._plugin: Any = plugin
        self.name = str(plugin.service_name)

    @property
    def origin(self) -> str | None:
        """Scheme, host and port, where they are known without a message."""
        plugin = self._plugin
        parts = urlsplit(str(getattr(plugin, "notify_url", "")))
        if parts.scheme == "https" and re.fullmatch(r"[a-z0-9.-]+", parts.netloc):
            return f"https://{parts.netloc}"
        if urlsplit(str(plugin.url())).scheme not in _GENERIC:
            return None
        port = "" if plugin.port is None else f":{plugin.port}"
        return f"{'https' if plugin.secure else 'http'}://{plugin.host}{port}"

    async def tell(self, title: str, body: str, kind: str) -> Told:
        """`title` and `body` are plain text; `kind` is `success`, `failure`, `warning` or `info`."""
        return await in_own_thread(partial(self._tell, title, body, kind), "apprise")

    def _tell(self, title: str, body: str, kind: str) -> Told:
        plugin = self._plugin
        form = plugin.resolve_format(NotifyFormat.TEXT)
        convert: Callable[..., str] = partial(convert_between, NotifyFormat.TEXT, form)
        with _Listener() as listener:
            try:
                is_taken = plugin.notify(
                    title=title if plugin.title_maxlen > 0 else convert(title),
                    body=convert(body),
                    notify_type=NotifyType(kind),
                    body_format=form,
                )
            except Exception as error:  # noqa: BLE001 (a plugin may raise anything; in a thread nobody would see it)
                return Told(is_taken=False, logged=f"({type(error).__name__})")
        return Told(bool(is_taken), listener.text)


class _Listener(logging.Handler):
    """Hears what Apprise logs in this thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.text += record.getMessage() + "\n"

    def __enter__(self) -> Self:
        _LOGGER.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        _LOGGER.removeHandler(self)
