"""What Runflow does with a submission: keeps it, decides after a while, and sends the callback."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from receiver.core.signature import Secret
from receiver.offline.callbacks import Callback, Callbacks
from receiver.offline.evaluations import Evaluation, Evaluations
from receiver.offline.faults import Faults
from receiver.offline.journal import Journal
from receiver.offline.kinds import FAILURES, Kind, draw_kind
from receiver.offline.luck import Luck, fresh_uuid7
from receiver.offline.submission import Feedback, Submission, invent_submission
from receiver.offline.trees import callback_bytes

RETRIES: Final = (1.0, 2.0, 4.0)
KEEP: Final = 10_000


class Evaluator:
    """Evaluations come in by `submit` (decided after `decide_delay` seconds, then called back) or by `add` (decided, silent).

    `faults` is what goes wrong; `journal` what was served and sent, the last `keep` of each. Everything happens in one event
    loop; `close` ends what is under way.
    """

    def __init__(
        self,
        *,
        secret: str,
        seed: int = 0,
        decide_delay: float = 0.05,
        retries: Sequence[float] = RETRIES,
        callback_timeout: float = 5,
        keep: int = KEEP,
    ) -> None:
        self.faults = Faults()
        self.journal = Journal(keep)
        self.evaluations = Evaluations()
        self._callbacks = Callbacks(self.journal, self.faults, Secret(secret), retries, callback_timeout)
        self._seed = seed
        self._decide_delay = decide_delay
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: list[BaseException] = []

    def submit(self, *, callback_url: str | None = None, kind: Kind | None = None, **fields: Any) -> UUID:
        """Takes a submission as `POST /v1/evaluations` does; what is not among `fields` is made up. `kind` is how it ends."""
        return self.take(self._invent({**fields, "callback_url": callback_url}), kind).id

    def take(self, submission: Submission, kind: Kind | None = None) -> Evaluation:
        """Takes a submission whole, pending as yet."""
        evaluation = self._new(submission, kind, datetime.now(UTC))
        self._start(self._decide(evaluation))
        return evaluation

    def add(self, *, kind: Kind | None = None, **fields: Any) -> UUID:
        """An evaluation that is decided already and whose callback, if `callback_url` is among `fields`, is not sent."""
        now = datetime.now(UTC)
        submission = self._invent(fields)
        seconds = Luck(f"{self._seed}/{len(self.evaluations)}/duration").uniform(15, 90)
        evaluation = self._new(submission, kind, now - timedelta(seconds=seconds))
        evaluation.completed_at = evaluation.updated_at = now
        return evaluation.id

    def announce(self, evaluation_id: UUID, callback_url: str | None = None) -> None:
        """Sends the callback of a decided evaluation, as a delivery of its own; to its own address if none is given."""
        evaluation = self.evaluations.get(evaluation_id)
        url = callback_url or evaluation.submission.callback_url
        if url is None:
            raise ValueError("this evaluation has no callback_url")
        self._start(self._callbacks.deliver(self._callback(evaluation, url)))

    def change(self, evaluation_id: UUID) -> None:
        """Makes later reads differ: the verdict is turned round by a reviewer, or, where there is none, superseded."""
        evaluation = self.evaluations.get(evaluation_id)
        evaluation.touch(datetime.now(UTC))
        if evaluation.kind in FAILURES or evaluation.kind == "no_verdict":
            evaluation.superseded_at = evaluation.updated_at
        else:
            evaluation.changes += 1

    def comment(self, evaluation_id: UUID, feedback: Feedback) -> None:
        """Sets or clears what the customer thinks; a cleared one keeps no reason. Fires no callback."""
        evaluation = self.evaluations.get(evaluation_id)
        evaluation.feedback = feedback if feedback.is_positive is not None else None
        evaluation.touch(datetime.now(UTC))

    def comment_on_run(self, run_id: UUID, feedback: Feedback) -> Evaluation | None:
        """The same for a run; an evaluation of it, or None where there is no such run."""
        judged = self.evaluations.of_run(run_id)
        for evaluation in judged:
            evaluation.run_feedback = feedback if feedback.is_positive is not None else None
        return judged[0] if judged else None

    def callback_body(self, evaluation_id: UUID) -> bytes:
        """The bytes of its callback. Raises ValueError if it is not decided."""
        return callback_bytes(self.evaluations.get(evaluation_id))

    def sign(self, body: bytes) -> str:
        """The value of `Runflow-Signature` for this body."""
        return self._callbacks.secret.sign(body)

    def use_secret(self, secret: str) -> None:
        """Signs later callbacks with another secret; deliveries under way keep their signature."""
        self._callbacks.secret = Secret(secret)

    @property
    def under_way(self) -> int:
        """How many submissions are not decided, or have a callback that is still to be sent or tried again."""
        return len(self._tasks)

    async def answered(self, count: int, *, within: float = 30) -> None:
        """Waits until so many deliveries in all were answered with a 2xx. Raises TimeoutError after `within` seconds."""
        await self.until(lambda: self.journal.accepted >= count, within=within)

    async def until(self, condition: Callable[[], bool], *, within: float = 30) -> None:
        """Waits until a condition over requests, callbacks and evaluations holds. Raises TimeoutError."""
        await self.journal.until(condition, within)

    async def close(self) -> None:
        """Ends what is under way. Raises what broke in the background, if something did."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._callbacks.close()
        if self._broken:
            raise self._broken[0]

    def _invent(self, fields: dict[str, Any]) -> Submission:
        luck = Luck(f"{self._seed}/{len(self.evaluations)}/submission")
        return invent_submission(luck, datetime.now(UTC), fields)

    def _new(self, submission: Submission, kind: Kind | None, submitted_at: datetime) -> Evaluation:
        seed = f"{self._seed}/{len(self.evaluations)}"
        evaluation = Evaluation(
            id=fresh_uuid7(submitted_at),
            seed=seed,
            kind=kind or draw_kind(Luck(f"{seed}/kind")),
            submission=submission,
            submitted_at=submitted_at,
            updated_at=submitted_at,
        )
        self.evaluations.add(evaluation)
        return evaluation

    async def _decide(self, evaluation: Evaluation) -> None:
        await asyncio.sleep(self._decide_delay)
        evaluation.completed_at = evaluation.updated_at = datetime.now(UTC)
        self.journal.wake()
        if url := evaluation.submission.callback_url:
            await self._callbacks.deliver(self._callback(evaluation, url))

    def _callback(self, evaluation: Evaluation, url: str) -> Callback:
        event = f"evaluation.{evaluation.status}"
        return self._callbacks.make(evaluation.id, event, url, callback_bytes(evaluation))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken.append(error)
        self.journal.wake()
