"""What would so many callbacks a day take? Arithmetic with what one was measured to cost (bench/storage.py)."""

from bench.measure import TITLES
from bench.storage import Storage, Stored
from bench.tables import table

TITLE = "A hundred million callbacks a day"

A_DAY = 100_000_000
PEAK = 5
"""Times the mean."""
BUSY = 0.6
"""Of a core: what is left is for the moments when more comes."""
MEAN_A_SECOND = A_DAY / 86_400


def markdown(storage: Storage) -> str:
    """What there is to buy, and how much of it, by database."""
    columns = [_figures(stored) for stored in storage.stores.values()]
    rows = [[what, *(column[what] for column in columns)] for what in columns[0]]
    return table([TITLE, *(TITLES[kind] for kind in storage.stores)], rows)


def _figures(stored: Stored) -> dict[str, str]:
    taken, forwarded = stored.taken_in, stored.forwarded
    peak = MEAN_A_SECOND * PEAK
    return {
        "callbacks a second, mean and peak": f"{MEAN_A_SECOND:,.0f}, {peak:,.0f}",
        "cores for taking in, at the peak": _cores(taken.server_cpu_us, peak),
        "cores of the database for it, at the peak": _cores(taken.database_cpu_us, peak),
        "cores for fetching and forwarding, at the mean": _cores(forwarded.server_cpu_us, MEAN_A_SECOND),
        "cores of the database for it, at the mean": _cores(forwarded.database_cpu_us, MEAN_A_SECOND),
        "written to the database's disk, MB a second, at the mean": _mb(taken.written_bytes + forwarded.written_bytes),
        "the same a day, TB": _tb(taken.written_bytes + forwarded.written_bytes),
        "stays, a day, TB": _tb(stored.bytes_stored),
        "of which events alone, TB": _tb(stored.tables["events"]),
        "stays of 30 days, TB": _tb(30 * stored.bytes_stored),
        "messages to each sink, MB a second, at the mean": _mb(stored.message_bytes),
    }


def _cores(cpu_us: float, per_second: float) -> str:
    return f"{cpu_us * per_second / 1e6 / BUSY:,.1f}" if cpu_us else "among them"


def _mb(size: float) -> str:
    return f"{size * MEAN_A_SECOND / 1e6:,.1f}"


def _tb(size: float) -> str:
    return f"{size * A_DAY / 1e12:,.2f}"
