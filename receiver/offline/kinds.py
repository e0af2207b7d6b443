"""How an evaluation may end, and how often each way is drawn."""

from typing import Final, Literal, get_args

from receiver.offline.luck import Luck

Kind = Literal[
    "passed",
    "not_passed",
    "overridden",
    "no_verdict",
    "invalid_media",
    "dispatch_failed",
    "processing_failed",
    "timed_out",
]
"""`passed` and `not_passed` are plain verdicts. `overridden` has a good rate and does not pass all the same. `no_verdict` is
completed with nulls for a verdict. The others are failure codes: the evaluation itself failed."""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
FAILURES: Final[frozenset[Kind]] = frozenset({"invalid_media", "dispatch_failed", "processing_failed", "timed_out"})

_SHARES = (50, 26, 6, 4, 3, 3, 4, 4)


def draw_kind(luck: Luck) -> Kind:
    """One kind; about half of them pass."""
    return luck.choices(KINDS, _SHARES)[0]


def is_billed(kind: Kind) -> bool:
    """Completed evaluations cost, and of the failed ones those that failed while they were worked on."""
    return kind not in FAILURES or kind == "processing_failed"
