"""What the tests of the rules share: the samples, and the verdicts made of them."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from receiver.core import verdict
from receiver.core.callback import read_callback
from receiver.core.evaluation import Evaluation
from receiver.core.verdict import Verdict


@pytest.fixture(scope="session")
def completed(samples: Path) -> bytes:
    """The signed body of a completed evaluation's callback."""
    return (samples / "callback_completed.json").read_bytes()


@pytest.fixture(scope="session")
def failed(samples: Path) -> bytes:
    """The signed body of a failed evaluation's callback."""
    return (samples / "callback_failed.json").read_bytes()


@pytest.fixture(scope="session")
def tree_body(samples: Path) -> bytes:
    """Runflow's answer to the GET of the completed evaluation, with all embeds."""
    return (samples / "evaluation_full.json").read_bytes()


@pytest.fixture(scope="session")
def pending(completed: bytes) -> Verdict:
    """What is known of the completed evaluation when only its callback came."""
    return verdict.from_callback(
        read_callback(completed, "evaluation.completed")[0],
        evaluation_id=UUID("01a1ef00-87be-711d-ab0d-549b6f03675a"),
        event="evaluation.completed",
        received_at=datetime(2026, 11, 18, 14, 13, 25, 120_000, tzinfo=UTC),
        origin="callback",
    )


@pytest.fixture(scope="session")
def complete(tree_body: bytes, pending: Verdict) -> Verdict:
    """The first forwarded result of the completed evaluation."""
    return verdict.from_tree(Evaluation.read(tree_body)[0], pending).model_copy(update={"revision": 1})
