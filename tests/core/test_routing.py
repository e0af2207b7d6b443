"""Which sinks a result is due to."""

import pytest

from receiver.core.matching import Filter
from receiver.core.routing import Route, due_to
from receiver.core.verdict import Verdict

ROUTES = (
    Route("all"),
    Route("failing", (Filter(overall_passed=("false",)), Filter(status=("failed",)))),
    Route("passing", (Filter(overall_passed=("true",)),)),
    Route("file", takes_samples=True),
    Route("passing file", (Filter(overall_passed=("true",)),), takes_samples=True),
)


@pytest.mark.parametrize(
    ("origin", "passed", "given_before", "sinks"),
    [
        ("callback", False, [], ["all", "failing", "file"]),
        ("callback", True, [], ["all", "passing", "file", "passing file"]),
        ("reconciled", None, [], ["all", "file"]),
        ("callback", False, ["passing"], ["all", "failing", "passing", "file"]),
        ("callback", True, ["failing", "taken away"], ["all", "failing", "passing", "file", "passing file"]),
        ("sample", True, [], ["file", "passing file"]),
        ("sample", False, ["failing", "passing file"], ["file", "passing file"]),
    ],
)
def test_due_to(complete: Verdict, origin: str, passed: bool | None, given_before: list[str], sinks: list[str]) -> None:
    """Those that match now and those that were given an earlier revision, in order; a sample only where samples go."""
    verdict = complete.model_copy(update={"origin": origin, "overall_passed": passed})
    assert due_to(ROUTES, verdict, given_before) == sinks


def test_no_routes(complete: Verdict) -> None:
    """Without sinks nothing is due."""
    assert due_to((), complete, ["gone"]) == []
