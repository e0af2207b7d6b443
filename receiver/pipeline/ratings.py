"""What people clicked goes to Runflow, and what became of it is shown to them. A click is stored before this begins."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby

import structlog

from receiver.core.feedback import Feedback
from receiver.core.retry import backoff
from receiver.errors import RunflowRefused
from receiver.pipeline.pace import chance
from receiver.pipeline.station import Bells
from receiver.runflow.client import RunflowClient
from receiver.runflow.refusals import explained, is_passing
from receiver.sinks.base import Again, Board, Done, Down, Outcome
from receiver.store import ratings
from receiver.store.database import Database
from receiver.store.ratings import DueRating

LEASE = timedelta(minutes=3)
"""Longer than one takes: a request to Runflow and a few to the board, each with a timeout of its own."""
MOST_AT_ONCE = 5
FIRST_WAIT = timedelta(seconds=2)
LONGEST_WAIT = timedelta(minutes=15)
GIVEN_UP_AFTER = timedelta(hours=24)
FEWEST_TRIES = 12
"""With fewer nothing is given up, and these take half an hour or more: the day may have passed while nobody could try."""
_MAY_PASS = (409, 429)
"""Beside what `is_passing` knows: there is no person here who could say it again."""
_MOST_ROUNDS = 3

log = structlog.get_logger()


class _Refused(Exception):
    """Runflow will not take it; the text is for the person who clicked."""


class RatingLane:
    """Sees to what is due. Runflow holds one thumb for an evaluation: the newest of all that people say."""

    def __init__(
        self, database: Database, bells: Bells, client: RunflowClient | None, boards: Mapping[str, Board]
    ) -> None:
        self._database = database
        self._bells = bells
        self._client = client
        self._boards = boards

    async def step(self) -> datetime | None:
        """Sees to a few that are due; returns when there is next one."""
        due = await self._database.read(ratings.next_due)
        now = self._database.now()
        if due is None or due > now:
            return due
        taken = await self._database.write(ratings.take, limit=MOST_AT_ONCE, lease=LEASE, now=now)
        by_evaluation = groupby(sorted(taken.due), key=lambda each: each.evaluation_id)
        await asyncio.gather(*(self._one_by_one(list(each)) for _, each in by_evaluation))
        return taken.next_moment if not taken.due else self._database.now()

    async def _one_by_one(self, due: Sequence[DueRating]) -> None:
        """Those of one evaluation: they change the same message."""
        for each in due:
            await self._see_to(each)

    async def _see_to(self, due: DueRating) -> None:
        """Done twice, as after a crash, it does no harm."""
        try:
            await self._tell_runflow(due)
            outcome = await self._show(due)
        except RunflowRefused as error:
            await self._later(due, f"Runflow {error}", error.after)
        except _Refused as why:
            await self._database.write(ratings.settle, due, "refused", error=str(why))
            log.warning("rating.refused", evaluation_id=str(due.evaluation_id), sink=due.sink, reason=str(why))
            await self._whisper(due, f"Your rating was not taken. {why}")
            await self._show(due)
        else:
            await self._shown(due, outcome)

    async def _tell_runflow(self, due: DueRating) -> None:
        """Raises `_Refused`, and `RunflowRefused` where it may pass."""
        if self._client is None:
            raise _Refused("This receiver has no RUNFLOW_API_KEY, so it cannot tell Runflow.")
        told, newest = None, await self._newest(due)
        for _ in range(_MOST_ROUNDS):  # until it is the newest that was told last: others may click meanwhile
            if told == newest:
                return
            try:
                await self._client.give_feedback(due.evaluation_id, newest)
            except RunflowRefused as error:
                if is_passing(error) or error.status in _MAY_PASS:
                    raise
                raise _Refused(f"{explained(error, 'evaluation')}.") from None
            told, newest = newest, await self._newest(due)

    async def _newest(self, due: DueRating) -> Feedback:
        said = await self._database.read(ratings.of, due.evaluation_id)
        return Feedback(is_positive=said[-1].is_positive if said else None)

    async def _show(self, due: DueRating) -> Outcome:
        """Draws the message until it shows what is so: somebody else may rate meanwhile."""
        board = self._boards.get(due.sink)
        verdict = await self._database.read(ratings.rated, due.evaluation_id, due.revision)
        if board is None or verdict is None:
            return Done()
        outcome: Outcome = Done()
        drawn, said = None, await self._database.read(ratings.of, due.evaluation_id)
        for _ in range(_MOST_ROUNDS):
            if drawn == said:
                break
            outcome = await board.show(due.place, verdict, said)
            drawn, said = said, await self._database.read(ratings.of, due.evaluation_id)
        return outcome

    async def _shown(self, due: DueRating, outcome: Outcome) -> None:
        if isinstance(outcome, Again | Down) and not self._is_old(due):
            await self._again(due, outcome.reason, outcome.after)
            return
        error = None if isinstance(outcome, Done) else outcome.reason
        await self._database.write(ratings.settle, due, "told", error=error)
        log.info("rating.told", evaluation_id=str(due.evaluation_id), sink=due.sink, error=error)

    async def _later(self, due: DueRating, reason: str, after: float | None) -> None:
        """For up to a day. The person is told once that it takes longer, and once that it came to nothing."""
        if self._is_old(due):
            await self._database.write(ratings.settle, due, "refused", error=reason)
            log.warning("rating.given_up", evaluation_id=str(due.evaluation_id), sink=due.sink, reason=reason)
            await self._whisper(due, "Your rating was not taken: Runflow could not be told for 24 hours.")
            await self._show(due)
            return
        await self._again(due, reason, after)
        if due.attempts == 1:
            await self._whisper(
                due, "Runflow does not answer just now. Your rating is kept, and passed on when it does."
            )

    async def _again(self, due: DueRating, reason: str, after: float | None) -> None:
        wait = backoff(due.attempts, first=FIRST_WAIT, longest=LONGEST_WAIT, spread=chance())
        asked = timedelta(seconds=min(after or 0, LONGEST_WAIT.total_seconds()))
        due_at = self._database.now() + max(wait, asked)
        await self._database.write(ratings.settle, due, "due", due_at=due_at, error=reason)
        log.warning(
            "rating.again", evaluation_id=str(due.evaluation_id), sink=due.sink, attempt=due.attempts, reason=reason
        )

    def _is_old(self, due: DueRating) -> bool:
        return self._database.now() - due.started_at >= GIVEN_UP_AFTER and due.attempts >= FEWEST_TRIES

    async def _whisper(self, due: DueRating, text: str) -> None:
        """Best effort: what counts is stored, and shown in the message."""
        board = self._boards.get(due.sink)
        outcome = Done() if board is None else await board.whisper(due.place, due.person, text)
        if not isinstance(outcome, Done):
            log.warning("rating.not_whispered", sink=due.sink, reason=outcome.reason)
