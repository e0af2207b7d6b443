"""What can befall a broker, in one list. What a broker does at each is a method of that name in its class."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Trouble(NamedTuple):
    """`fails`: messages fail while it lasts; None where some may go through, or the client heals it by itself.

    `loses_answers`: what the broker has may be sent again. `shakes_all`: the whole server is affected, and so whoever else
    uses it. `is_silent`: it is noticed by the sink's timeout, which is short then, and else long, so that a slow machine adds
    no trouble.
    """

    fails: bool | None = True
    loses_answers: bool = True
    shakes_all: bool = False
    is_silent: bool = False


PATIENCE = 10.0
"""Seconds: the timeout of a sink that is answered."""


@dataclass(frozen=True)
class Scale:
    """`connections` and `pause`: the load's. `before`: the messages that are delivered before a trouble begins, which lasts
    `least` seconds at least. `timeout`: seconds for an answer where none comes. `altered`: the receivers.
    """

    connections: int = 2
    pause: float = 0.1
    before: int = 5
    least: float = 0.0
    timeout: float = 1.0
    altered: str = ""


TROUBLES: Mapping[str, Trouble] = {
    # the server
    "stopped": Trouble(shakes_all=True),
    "killed": Trouble(shakes_all=True),
    "hanging": Trouble(shakes_all=True, is_silent=True),
    # the way to it
    "away": Trouble(),
    "swallowed": Trouble(is_silent=True),
    "unanswered": Trouble(is_silent=True),
    "reset": Trouble(fails=None),
    "slow": Trouble(fails=False, loses_answers=False),
    # what it says
    "full": Trouble(loses_answers=False),
    "alarmed": Trouble(shakes_all=True, is_silent=True),
    "revoked": Trouble(),
    "missing": Trouble(loses_answers=False),
    # what a web server does beside
    "untrusted": Trouble(),
    "expired": Trouble(),
    "cut": Trouble(),
    "failing": Trouble(loses_answers=False),
    "limited": Trouble(loses_answers=False),
    "redirected": Trouble(loses_answers=False),
}
