"""Delivering to one sink: claim, send, write back. Each sink has a lane of its own, so none can hold up another."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain

import structlog
from aiolimiter import AsyncLimiter

from receiver.core.envelope import Message
from receiver.core.retry import USUAL, Waits, backoff
from receiver.errors import StoreUnavailable
from receiver.pipeline.ahead import KEPT_SECONDS, MOST_AHEAD, Ahead
from receiver.pipeline.batcher import Batcher
from receiver.pipeline.burst import Burst
from receiver.pipeline.pace import Allowance, allowed, chance, permitted
from receiver.pipeline.pause import Pause
from receiver.pipeline.station import Bells
from receiver.pipeline.tasks import Patience, Tasks
from receiver.pipeline.telling import Telling
from receiver.pipeline.threads import LONGEST_WAIT, Threads
from receiver.sinks.base import Again, Done, Down, Gathering, Never, Outcome, Sink
from receiver.store import lanes, outbox
from receiver.store.attempts import Failure
from receiver.store.database import Database
from receiver.store.hours import LATE
from receiver.store.outbox import Claimed, Settled

MARGIN = 5.0
"""Seconds that a sink may take beyond its own timeout before it is cut off; the lease is longer by twice that."""
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=5)
LONGEST_ASKED_WAIT = timedelta(hours=1)
"""The most that a sink's `Retry-After` is heeded."""
GATHER_SECONDS = 0.02
"""How long an outcome waits for others that are written back with it, while they come in quick succession."""
MOST_UNSETTLED = 250
"""Sends whose outcome waits to be written back: with more than this no further one is begun."""
MOST_CLAIMED = 1000
"""How many messages one claim takes at most: on SQLite callbacks wait while it runs, for some tens of milliseconds."""

log = structlog.get_logger()


@dataclass(frozen=True)
class SinkPlan:
    """A sink and how it is to be used: `timeout` in seconds, `rate` in messages a second over all processes.

    Where it gathers, what is sent together counts as one message. `threads`: for how long later messages about the same follow
    the first.
    """

    name: str
    sink: Sink
    timeout: float
    concurrency: int
    rate: float | None
    dead_after: timedelta
    gathering: Gathering | None = None
    threads: timedelta | None = None
    retry: Waits = USUAL


class SinkLane:
    """Delivers what is due to one sink."""

    def __init__(self, database: Database, bells: Bells, plan: SinkPlan, *, source: str, process: str) -> None:
        self._database = database
        self._bells = bells
        self._plan = plan
        self._source = source
        self._lane = lanes.sink_lane(plan.name)
        waiting = 0 if plan.threads is None else LONGEST_WAIT
        self._lease = timedelta(seconds=plan.timeout + 2 * MARGIN + waiting)
        self._limiter = None if plan.rate is None else _limiter(plan.rate)
        self._threads = None if plan.threads is None else Threads(database, plan.name, plan.threads)
        self._burst = None if plan.gathering is None else Burst(plan.gathering, plan.sink.batch)
        self._holder = None if plan.rate is None and self._burst is None else process
        self._ahead = Ahead(
            plan.concurrency,
            self._begin,
            may_begin=lambda: self._tasks.room > 0 and not self._pause.is_beginning,
            hungry=bells.bell(self._lane).set,
            most=MOST_AHEAD // plan.sink.batch,
        )
        self._tasks = Tasks(plan.concurrency + MOST_UNSETTLED, self._ahead.fill)
        self._settle = Batcher(self._write_settled, gather=GATHER_SECONDS)
        self._patience = Patience(self._lease.total_seconds())
        self._log = log.bind(sink=plan.name)
        self._telling = Telling(self._log)
        self._pause = Pause(database, self._lane, "sink", self._patience, self._log)
        self._cut_off: list[Settled] = []
        self._state = lanes.LaneState(self._lane)

    @property
    def name(self) -> str:
        """The lane's name, which is its bell's too."""
        return self._lane

    async def step(self) -> datetime | None:
        """Starts as many sends as there is room for."""
        self._give_back(self._not_begun(KEPT_SECONDS))
        if self._pause.is_beginning:
            return None  # the end of the send that found it rings the bell
        allowance = await self._allowance()
        if not allowance.begin:
            self._ahead.add([], may_be_more=True)
            return allowance.look_again  # or whatever ends first rings the bell
        taken = await self._database.write(
            outbox.take,
            self._plan.name,
            limit=allowance.begin,
            lease=self._lease,
            now=self._database.now(),
            idle=not self._tasks.busy,
            sole_holder=self._holder,
            hold=self._hold(),
        )
        if self._burst is not None:
            self._burst.claimed(len(taken.claimed), self._database.now())
        self._state = taken.lane
        chunks = _chunks(taken.claimed, self._plan.sink.batch)
        may_be_more = taken.probing or len(taken.claimed) >= allowance.begin
        self._ahead.add([(chunk, taken.probing) for chunk in chunks], may_be_more=may_be_more)
        return taken.next_moment

    async def _allowance(self) -> Allowance:
        """How many to claim: ahead of free slots only where no rate is set, for what is permitted counts as used."""
        if self._burst is not None:
            return await self._gathered(self._burst)
        if self._limiter is None:
            return Allowance(min(self._ahead.wanted * self._plan.sink.batch, MOST_CLAIMED))
        room = min(self._ahead.free * self._plan.sink.batch, MOST_CLAIMED)
        return await allowed(self._limiter, room, self._next_due, self._database.now)

    async def _gathered(self, burst: Burst) -> Allowance:
        """One message, or all that has gathered for long enough; either is one send, which the pace counts as one."""
        if not self._ahead.free:
            return Allowance(0)
        now = self._database.now()
        if until := burst.waits_until(now):
            return Allowance(0, until)
        due = await self._next_due()
        if due is None or due > now:
            return Allowance(0, due)
        count = burst.permits(now)
        if count and self._limiter is not None and not await permitted(self._limiter, 1):
            return Allowance(0, now)
        return Allowance(count, burst.waits_until(now))

    def _hold(self) -> timedelta:
        """For how long this process is the one that drains the sink, once it has claimed something.

        Longer than from one claim to the next, or two processes would take turns, and double the rate or halve the gathering.
        """
        hold = outbox.HOLD if self._plan.rate is None else max(outbox.HOLD, timedelta(seconds=2 / self._plan.rate))
        return hold if self._burst is None else hold + self._burst.longest_wait

    def _begin(self, work: tuple[Sequence[Claimed], bool]) -> None:
        claimed, probing = work
        self._tasks.start(self._send(claimed, probing=probing))

    def _not_begun(self, older_than: float = 0) -> list[Claimed]:
        """What was claimed ahead, so many seconds ago, and was not begun; it is not ours to begin any more."""
        return [each for claimed, _ in self._ahead.give_back(older_than) for each in claimed]

    def _give_back(self, not_begun: Sequence[Claimed]) -> None:
        """Makes it due again."""
        if not_begun:
            self._settle.post(self._given_back(not_begun))

    async def _next_due(self) -> datetime | None:
        return await self._database.read(outbox.next_due, self._plan.name)

    async def stop(self, grace: float) -> None:
        """Lets what is under way end within `grace` seconds; gives back the rest."""
        self._cut_off += self._given_back(self._not_begun())
        await self._tasks.stop(grace)
        self._patience.end()
        await self._settle.drained()
        if self._cut_off:
            self._settle.post(self._cut_off)
            await self._settle.drained()
            self._bells.ring(self._lane)

    async def _send(self, claimed: Sequence[Claimed], *, probing: bool) -> None:
        settled: list[Settled] | None = None
        messages = [Message(each.document, self._source, each.replay_id or None) for each in claimed]
        try:
            with self._ahead.slot():
                async with self._following(messages):
                    told = await self._outcomes(messages)
                    outcomes = list(map(self._own_failure, claimed, told))
                    settled = self._settled(claimed, outcomes)
                    if self._threads is not None:  # before the next is sent, which may follow one of these
                        await self._patience.wait_for(partial(self._threads.note, messages, outcomes))
            # The pause first: what is settled may be claimed again at once.
            await self._heed(claimed, outcomes, probing=probing and outcomes == [*told])
            await self._settle.put(settled)
        except (StoreUnavailable, TimeoutError):  # the database, or whoever begins the thread
            if settled is not None:
                raise
            self._give_back(claimed)  # nothing was sent yet
        except asyncio.CancelledError:
            self._cut_off += settled or self._given_back(claimed)  # what is written back twice is fenced
            raise

    def _following(self, messages: Sequence[Message]) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._threads is None else self._threads.following(messages)

    def _given_back(self, claimed: Sequence[Claimed]) -> list[Settled]:
        now = self._database.now()
        return [Settled(each.id, each.claim, "pending", now, uncounted=True) for each in claimed]

    def _own_failure(self, claimed: Claimed, outcome: Outcome) -> Outcome:
        """The outcome, or the message's own failure where the sink was paused for it again and again, and took others.

        So no one message stops a sink for good.
        """
        if isinstance(outcome, Down) and self._state.finds_out(claimed.id):
            return Again(f"this message alone, others are taken: {outcome.reason}", outcome.after)
        return outcome

    async def _heed(self, claimed: Sequence[Claimed], outcomes: Sequence[Outcome], *, probing: bool) -> None:
        """Pauses the sink if it is down, and ends its pause when a probe was not told so."""
        downs = [(each.id, it) for each, it in zip(claimed, outcomes, strict=True) if isinstance(it, Down)]
        if downs:
            # Refused by themselves, or beside others that were taken: it may be they and not the sink.
            by_themselves = len(claimed) == 1 or any(isinstance(outcome, Done) for outcome in outcomes)
            suspects = [delivery for delivery, _ in downs] if by_themselves else []
            _, down = downs[0]
            not_begun = self._not_begun()
            try:
                await self._pause.begin(
                    down.reason, lambda failures: max(_pause_of(failures), _asked(down.after)), suspects
                )
            finally:  # also where this is cut off by a stop
                self._give_back(not_begun)
        elif probing:
            await self._pause.end()

    async def _outcomes(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        try:
            async with asyncio.timeout(self._plan.timeout + MARGIN):
                outcomes = await self._plan.sink.send(messages)
        except TimeoutError:
            return [Again(f"no answer within {self._plan.timeout + MARGIN:g} s")] * len(messages)
        except Exception as error:  # noqa: BLE001 (it is logged with its traceback)
            # A defect of the sink. The message is not lost for it: it is tried again, and is a dead letter in the end.
            self._log.error("delivery.sink_failed", exc_info=error)
            return [Again(f"the sink failed ({type(error).__name__})")] * len(messages)
        if len(outcomes) != len(messages):
            return [Again("the sink told too few outcomes")] * len(messages)
        return outcomes

    def _settled(self, claimed: Sequence[Claimed], outcomes: Sequence[Outcome]) -> list[Settled]:
        now = self._database.now()
        return [self._settled_one(*pair, now) for pair in zip(claimed, outcomes, strict=True)]

    def _settled_one(self, claimed: Claimed, outcome: Outcome, now: datetime) -> Settled:
        match outcome:
            case Done(remote_id, _):
                self._telling.went_well()
                late = now - claimed.created_at > LATE
                return Settled(claimed.id, claimed.claim, "delivered", ended_at=now, remote_id=remote_id, late=late)
            case Never(reason):
                return self._dead(claimed, reason, now)
            case Down(reason):
                failure = Failure(now, "paused", reason)
                return Settled(claimed.id, claimed.claim, "pending", now, error=reason, uncounted=True, failure=failure)
            case Again(reason, after):
                wait = backoff(claimed.attempts, **self._plan.retry._asdict(), spread=chance())
                due_at = now + max(wait, _asked(after))
                if now - claimed.started_at >= self._plan.dead_after:
                    return self._dead(claimed, f"given up after {self._plan.dead_after}: {reason}", now)
                self._telling.failed(now, **_described(claimed, reason), due_at=due_at.isoformat())
                failure = Failure(now, "again", reason)
                return Settled(claimed.id, claimed.claim, "pending", due_at, error=reason, failure=failure)

    def _dead(self, claimed: Claimed, reason: str, now: datetime) -> Settled:
        self._log.warning("delivery.dead", **_described(claimed, reason))
        failure = Failure(now, "dead", reason)
        return Settled(claimed.id, claimed.claim, "dead", ended_at=now, error=reason, failure=failure)

    async def _write_settled(self, chunks: list[list[Settled]]) -> Sequence[None]:
        settled = list(chain.from_iterable(chunks))
        await self._patience.wait_for(lambda: self._database.write(outbox.settle, settled))
        if any(each.state == "pending" for each in settled):
            self._bells.bell(self._lane).set()
        return [None] * len(chunks)


def _described(claimed: Claimed, reason: str) -> dict[str, object]:
    """A delivery, for a line of the log."""
    return {
        "delivery": claimed.id,
        "evaluation_id": str(claimed.evaluation_id),
        "attempt": claimed.attempts,
        "reason": reason,
    }


def _asked(seconds: float | None) -> timedelta:
    return timedelta(seconds=min(max(0.0, seconds or 0.0), LONGEST_ASKED_WAIT.total_seconds()))


def _pause_of(failures: int) -> timedelta:
    return backoff(failures, first=FIRST_PAUSE, longest=LONGEST_PAUSE, spread=chance())


def _limiter(rate: float) -> AsyncLimiter:
    """One message every 1/rate seconds, without a burst: a service that asks for one a second means that."""
    return AsyncLimiter(1, 1 / rate)


def _chunks(claimed: Sequence[Claimed], size: int) -> list[Sequence[Claimed]]:
    return [claimed[start : start + size] for start in range(0, len(claimed), size)]
