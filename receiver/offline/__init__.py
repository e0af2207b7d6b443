"""A Runflow that runs on loopback: for `receiver demo`, for the tests, and by itself (`python -m receiver.offline`).

It does what Runflow's public pages say and invents the rest: prices, judges, categories, the shape of `check_summary`. It
knows the rules (`receiver.core`) and nothing else of this package, so that both sides of a test are written apart.
"""

from receiver.offline.faults import Faults
from receiver.offline.journal import SentCallback, ServedRequest
from receiver.offline.kinds import KINDS, Kind
from receiver.offline.runflow import OfflineRunflow

__all__ = ["KINDS", "Faults", "Kind", "OfflineRunflow", "SentCallback", "ServedRequest"]
