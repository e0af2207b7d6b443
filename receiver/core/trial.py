"""Rules tried on verdicts: how many would go where, and what would change against other rules. The rules are the live ones."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

from receiver.core.explaining import why
from receiver.core.routing import Route, due_to
from receiver.core.verdict import Verdict


class Example(NamedTuple):
    """A verdict that was counted, and why."""

    evaluation_id: UUID
    client_ref: str | None
    why: str


class Tally:
    """How many there are, and the first few of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.count = 0
        self.examples: list[Example] = []

    @property
    def wants_examples(self) -> bool:
        """Whether there are fewer than the most."""
        return len(self.examples) < self._most

    def add(self, verdict: Verdict, *reasons: str) -> None:
        """Counts it. The reasons are given only where an example is wanted."""
        self.count += 1
        if reasons and self.wants_examples:
            self.examples.append(Example(verdict.evaluation_id, verdict.client_ref, "; ".join(reasons)))


class SinkTally:
    """One sink: what would go there, and, against other rules, what would be gained and lost."""

    def __init__(self, sink: str, most: int) -> None:
        self.sink = sink
        self.due, self.gained, self.lost = Tally(most), Tally(most), Tally(most)


class Trial:
    """Looks at one verdict after the other, each as if it came now. Keeps `most` examples of each kind."""

    def __init__(self, tried: Sequence[Route], present: Sequence[Route] | None = None, *, most: int = 3) -> None:
        """`present` are the rules to compare with, None for no comparison."""
        self._tried = {route.sink: route for route in tried}
        self._present = None if present is None else {route.sink: route for route in present}
        names = dict.fromkeys([*self._tried, *(self._present or {})])
        self.sinks = {name: SinkTally(name, most) for name in names}
        self.nowhere = Tally(most)
        self.to_several = Tally(most)
        self.verdicts = 0
        self.samples = 0
        self.pending = 0
        self.nowhere_at_present = 0

    @property
    def compares(self) -> bool:
        """Whether there are rules to compare with."""
        return self._present is not None

    def look_at(self, verdict: Verdict) -> None:
        """Counts it. What waits for its fetch goes nowhere before that, and is counted as that alone."""
        if verdict.tree == "pending":
            self.pending += 1
            return
        self.verdicts += 1
        self.samples += verdict.origin == "sample"
        due = due_to([*self._tried.values()], verdict, ())
        for sink in due:
            tally = self.sinks[sink].due
            tally.add(verdict, *_why(tally, self._tried, sink, verdict))
        if not due:
            reasons = self._all_reasons(verdict) if self.nowhere.wants_examples else ()
            self.nowhere.add(verdict, *reasons)
        elif len(due) > 1:
            self.to_several.add(verdict, ", ".join(due))
        if self._present is not None:
            self._compare(verdict, due, self._present)

    def _all_reasons(self, verdict: Verdict) -> Iterator[str]:
        if not self._tried:
            yield "there is no sink"
        for sink, route in self._tried.items():
            yield f"{sink}: {why(route, verdict)}"

    def _compare(self, verdict: Verdict, due: Sequence[str], present: dict[str, Route]) -> None:
        before = due_to([*present.values()], verdict, ())
        self.nowhere_at_present += not before
        for sink in due:
            if sink not in before:
                tally = self.sinks[sink].gained
                tally.add(verdict, *_why(tally, self._tried, sink, verdict))
        for sink in before:
            if sink not in due:
                tally = self.sinks[sink].lost
                tally.add(verdict, *_why(tally, self._tried, sink, verdict))


def _why(tally: Tally, routes: dict[str, Route], sink: str, verdict: Verdict) -> Iterator[str]:
    if tally.wants_examples:
        yield why(routes[sink], verdict) if sink in routes else "there is no such sink"
