"""The fetch lane: one GET for each evaluation, at a bounded pace, with one policy for all that can go wrong."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog
from aiolimiter import AsyncLimiter

from receiver.core.evaluation import NARROW_EMBEDS, WIDE_EMBEDS
from receiver.core.fetching import Trouble, has_grace, next_try
from receiver.core.retry import backoff
from receiver.core.routing import Route
from receiver.core.verdict import from_tree
from receiver.pipeline.ahead import KEPT_SECONDS, Ahead
from receiver.pipeline.batcher import Batcher
from receiver.pipeline.pace import Allowance, allowed, chance
from receiver.pipeline.pause import Pause
from receiver.pipeline.stage import announce
from receiver.pipeline.station import FETCHES, Bells
from receiver.pipeline.tasks import Patience, Tasks
from receiver.runflow.client import EmbedsRefused, FetchAnswer, NoTree, RunflowClient, TreeRead
from receiver.store import fetches, lanes
from receiver.store.attempts import Failure, Outcome
from receiver.store.database import Database
from receiver.store.fetches import ClaimedFetch, FinishedFetch, SettledFetch
from receiver.store.results import Found

LEASE = timedelta(seconds=60)
"""A fetch may take two GETs, and each twenty seconds; after the lease it is another process's turn."""
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=5)
SHORTEST_PAUSE = timedelta(seconds=1)
MOST_WRITTEN_AT_ONCE = 100
GATHER_SECONDS = 0.1
"""How long a result waits for others that are written back with it, while they come in quick succession.

A batch of few costs SQLite nearly as many pages as one of many (docs/benchmarks.md). An evaluation has taken tens of seconds.
"""
MOST_UNWRITTEN = 200
MOST_UNWRITTEN_BYTES = 64 * 1024 * 1024
"""Trees that were fetched and wait to be written back: with more than this no further fetch is begun."""

log = structlog.get_logger()


@dataclass(frozen=True)
class FetchPace:
    """`rate`: fetches a second over all processes, or None for no limit. `concurrency`: fetches at once in this process."""

    rate: float | None = None
    concurrency: int = 10


class FetchLane:
    """Fetches what is due, writes back what came, and releases what was held for long enough without its tree."""

    def __init__(
        self, database: Database, bells: Bells, client: RunflowClient | None, routes: Sequence[Route], pace: FetchPace
    ) -> None:
        self._database = database
        self._bells = bells
        self._client = client
        self._routes = routes
        self._pace = pace
        self._sharers = 1
        self._limiter = _limiter(pace.rate)
        self._ahead = Ahead(pace.concurrency, self._begin, may_begin=self._may_begin, hungry=bells.bell(FETCHES).set)
        self._tasks = Tasks(pace.concurrency + MOST_UNWRITTEN, self._ahead.fill)
        self._unwritten_bytes = 0
        self._finish = Batcher(self._write_finished, most=MOST_WRITTEN_AT_ONCE, gather=GATHER_SECONDS)
        self._settle = Batcher(self._write_settled, flights=1, most=200)
        self._patience = Patience(LEASE.total_seconds() / 2)
        self._pause = Pause(database, lanes.FETCH, "fetch", self._patience, log)
        self._state = lanes.LaneState(lanes.FETCH)
        self._embeds: Sequence[str] = WIDE_EMBEDS
        self._cut_off: list[ClaimedFetch] = []

    def share_rate(self, processes: int) -> None:
        """Takes this process's part of the rate, when so many are alive."""
        if self._pace.rate is not None and processes != self._sharers:  # a new limiter permits a burst
            self._sharers = processes
            self._limiter = _limiter(self._pace.rate / max(processes, 1))

    async def step(self) -> datetime | None:
        """Releases what was held for long enough, and starts as many fetches as there is room for."""
        if self._client is None:
            taken = await self._database.write(fetches.take_keyless, self._routes, now=self._database.now())
            announce(self._bells, taken.released)
            return taken.next_moment
        self._give_back(self._not_begun(KEPT_SECONDS))
        allowance = await self._allowance()
        taken = await self._database.write(
            fetches.take,
            self._routes,
            limit=allowance.begin,
            lease=LEASE,
            now=self._database.now(),
            idle=not self._tasks.busy,
        )
        self._state = taken.lane
        announce(self._bells, taken.released)
        may_be_more = taken.probing or len(taken.claimed) >= allowance.begin
        self._ahead.add([(claimed, taken.probing) for claimed in taken.claimed], may_be_more=may_be_more)
        return min((at for at in (taken.next_moment, allowance.look_again) if at is not None), default=None)

    async def _allowance(self) -> Allowance:
        """How many to claim: ahead of free slots only where no rate is set, for what is permitted counts as used."""
        if self._pause.is_beginning:
            return Allowance(0)  # the end of the fetch that found it rings the bell
        if self._limiter is None:
            return Allowance(self._ahead.wanted)
        next_due = partial(self._database.read, fetches.next_due)
        return await allowed(self._limiter, self._ahead.free, next_due, self._database.now)

    def _may_begin(self) -> bool:
        """Whether not too much waits to be written back, and nothing has told that all must wait."""
        has_room = self._tasks.room > 0 and self._unwritten_bytes < MOST_UNWRITTEN_BYTES
        return has_room and not self._pause.is_beginning

    def _begin(self, work: tuple[ClaimedFetch, bool]) -> None:
        claimed, probing = work
        self._tasks.start(self._fetch(claimed, probing=probing))

    def _give_back(self, not_ended: Sequence[ClaimedFetch]) -> None:
        """Makes due again what was claimed."""
        for claimed in not_ended:
            self._settle.post(SettledFetch(claimed, self._database.now(), None, uncounted=True))

    def _not_begun(self, older_than: float = 0) -> list[ClaimedFetch]:
        """What was claimed ahead, so many seconds ago, and was not begun; it is not ours to begin any more."""
        return [claimed for claimed, _ in self._ahead.give_back(older_than)]

    async def stop(self, grace: float) -> None:
        """Lets what is under way end within `grace` seconds; gives back the rest."""
        self._cut_off += self._not_begun()
        await self._tasks.stop(grace)
        self._patience.end()
        await self._finish.drained()
        # After the results, and fenced: one whose result was written in the end is left as it is.
        self._give_back(self._cut_off)
        await self._settle.drained()
        if self._cut_off:
            self._bells.ring(FETCHES)

    async def _fetch(self, claimed: ClaimedFetch, *, probing: bool) -> None:
        try:
            with self._ahead.slot():
                told = await self._ask(claimed)
            answer = self._own_failure(claimed, told)
            if probing and answer is told and not _is_lanes_own(answer):
                await self._pause.end()
            await self._handle(claimed, answer)
        except asyncio.CancelledError:
            self._cut_off.append(claimed)
            raise

    async def _ask(self, claimed: ClaimedFetch) -> FetchAnswer:
        """The answer, with the widest embeds that this key may have."""
        if self._client is None:
            raise RuntimeError("a fetch was claimed without a client")
        answer = await self._client.evaluation(claimed.evaluation_id, self._embeds)
        if isinstance(answer, EmbedsRefused) and self._embeds != NARROW_EMBEDS:
            narrow = await self._client.evaluation(claimed.evaluation_id, NARROW_EMBEDS)
            if isinstance(narrow, TreeRead) and self._embeds != NARROW_EMBEDS:
                log.warning("fetch.embeds_narrowed", status=answer.status, embeds=NARROW_EMBEDS)
                self._embeds = NARROW_EMBEDS
            answer = narrow
        if isinstance(answer, EmbedsRefused) and answer.status == 403:
            return NoTree(Trouble.KEY_REFUSED, answer.detail, status=answer.status)
        return answer

    def _own_failure(self, claimed: ClaimedFetch, told: FetchAnswer) -> FetchAnswer:
        """The answer, or the evaluation's own failure where the lane was paused for it again and again, and read others.

        So no one evaluation stops all fetches for good.
        """
        match told:
            case NoTree(trouble=Trouble.KEY_REFUSED) if self._state.finds_out(claimed.evaluation_id):
                detail = f"this evaluation alone, others are read: {told.detail}"
                return told._replace(trouble=Trouble.REFUSED, detail=detail)
        return told

    async def _handle(self, claimed: ClaimedFetch, answer: FetchAnswer) -> None:
        match answer:
            case TreeRead():
                await self._finished(claimed, answer)
            case EmbedsRefused(status, detail):
                await self._give_up(claimed, NoTree(Trouble.REFUSED, detail, status=status))
            case NoTree(trouble=Trouble.KEY_REFUSED | Trouble.RATE_LIMITED):
                await self._wait(claimed, answer)
            case NoTree():
                await self._try_again(claimed, answer)

    async def _finished(self, claimed: ClaimedFetch, answer: TreeRead) -> None:
        if answer.oddities:
            log.warning("fetch.odd", evaluation_id=str(claimed.evaluation_id), oddities=answer.oddities[:20])
        verdict = from_tree(answer.evaluation, claimed.known)
        self._unwritten_bytes += len(answer.body)
        try:
            await self._finish.put(FinishedFetch(claimed, Found(verdict, answer.body, answer.evaluation.updated_at)))
        finally:
            self._unwritten_bytes -= len(answer.body)

    async def _wait(self, claimed: ClaimedFetch, answer: NoTree) -> None:
        """The lane's own failure: everyone waits, and this evaluation has used up no attempt."""
        not_begun = self._not_begun()
        suspects = [claimed.evaluation_id] if answer.trouble is Trouble.KEY_REFUSED else []
        try:
            await self._pause.begin(
                f"{answer.trouble}: {answer.detail}", lambda failures: _pause_of(failures, answer.after), suspects
            )
        finally:  # also where this is cut off by a stop
            self._give_back(not_begun)
        now = self._database.now()
        failure = _failure(answer, now, "paused")
        await self._settle.put(SettledFetch(claimed, now, answer.trouble, uncounted=True, failure=failure))

    async def _give_up(self, claimed: ClaimedFetch, answer: NoTree) -> None:
        log.warning("fetch.given_up", evaluation_id=str(claimed.evaluation_id), reason=answer.trouble)
        why = (answer.trouble, self._routes, self._database.now(), answer.detail, answer.status)
        released = await self._patience.wait_for(lambda: self._database.write(fetches.give_up, claimed, *why))
        announce(self._bells, released)

    async def _try_again(self, claimed: ClaimedFetch, answer: NoTree) -> None:
        now = self._database.now()
        due_at = next_try(
            answer.trouble, claimed.attempts, claimed.started_at, now, after=answer.after, spread=chance()
        )
        if due_at is None:
            await self._give_up(claimed, answer)
            return
        log.info(
            "fetch.again",
            evaluation_id=str(claimed.evaluation_id),
            reason=answer.trouble,
            detail=answer.detail,
            attempt=claimed.attempts,
            due_at=due_at.isoformat(),
        )
        uncounted = has_grace(answer.trouble, claimed.started_at, now)
        failure = _failure(answer, now, "again")
        await self._settle.put(SettledFetch(claimed, due_at, answer.trouble, uncounted, failure))

    async def _write_finished(self, finished: list[FinishedFetch]) -> Sequence[None]:
        released = await self._patience.wait_for(
            lambda: self._database.write(fetches.finish, finished, self._routes, self._database.now())
        )
        announce(self._bells, released)
        self._bells.bell(FETCHES).set()  # one that was asked for again meanwhile is due
        return [None] * len(finished)

    async def _write_settled(self, settled: list[SettledFetch]) -> Sequence[None]:
        await self._patience.wait_for(lambda: self._database.write(fetches.settle, settled, self._database.now()))
        self._bells.bell(FETCHES).set()
        return [None] * len(settled)


def _failure(answer: NoTree, now: datetime, outcome: Outcome) -> Failure:
    return Failure(now, outcome, answer.trouble, answer.detail, answer.status)


def _pause_of(failures: int, after: timedelta | None) -> timedelta:
    if after is not None:
        return max(after, SHORTEST_PAUSE)
    return backoff(failures, first=FIRST_PAUSE, longest=LONGEST_PAUSE, spread=chance())


def _is_lanes_own(answer: FetchAnswer) -> bool:
    """Whether this answer says something of the lane, and not of one evaluation."""
    match answer:
        case NoTree(trouble=Trouble.KEY_REFUSED | Trouble.RATE_LIMITED | Trouble.UNREACHABLE | Trouble.SERVER_ERROR):
            return True
    return False


def _limiter(rate: float | None) -> AsyncLimiter | None:
    """Evenly, with at most a second's worth at once."""
    if rate is None:
        return None
    return AsyncLimiter(rate, 1) if rate >= 1 else AsyncLimiter(1, 1 / rate)
