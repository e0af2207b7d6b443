"""What can befall a broker, in one list. What a broker does at each is a method of that name in its class."""

from collections.abc import Mapping
from typing import NamedTuple


class Trouble(NamedTuple):
    """`fails`: nothing is delivered while it lasts. `loses_answers`: what the broker has may be sent again.

    `shakes_all`: the whole server is affected, and so whoever else uses it. `timeout`: the sink's, in seconds; short where
    the trouble is one of no answers, else long, so that a slow machine adds none.
    """

    fails: bool = True
    loses_answers: bool = True
    shakes_all: bool = False
    timeout: float = 10


TROUBLES: Mapping[str, Trouble] = {
    # the server
    "stopped": Trouble(shakes_all=True),
    "killed": Trouble(shakes_all=True),
    "hanging": Trouble(shakes_all=True, timeout=1),
    # the way to it
    "away": Trouble(),
    "swallowed": Trouble(timeout=1),
    "unanswered": Trouble(timeout=1),
    "reset": Trouble(),
    "slow": Trouble(fails=False, loses_answers=False),
    # what it says
    "full": Trouble(loses_answers=False),
    "alarmed": Trouble(shakes_all=True, timeout=1),
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
