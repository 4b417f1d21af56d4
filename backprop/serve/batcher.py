"""Dynamic batching: what waits for a model while it computes is computed together next.

There is no fixed wait: an idle model starts at once, and batches form only while it is busy.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Batcher", "Expired", "Full", "Pace", "Run"]

Run = Callable[[Sequence[Any], Mapping[str, Any]], Awaitable[list[Any]]]
"""Given rows and the options they share, one answer a row."""

KEPT = 0.9
"""What a batch counts for beside the one after it."""
DRAWN = 0.01
"""Share of the mean cost, squared, that is added to its spread."""


class Full(Exception):
    """The queue is full.

    Args:
        retry_s: seconds after which there should be room.
    """

    def __init__(self, retry_s: float) -> None:
        super().__init__(f"The queue is full; try again in {retry_s:.0f} s.")
        self.retry_s = retry_s


class Expired(Exception):
    """A request was not begun before its deadline, and never will be."""


@dataclass(eq=False)
class _Job:
    """What one call of ``submit`` waits for.

    ``taken`` counts the rows that were put into batches, ``running`` the batches that have some of
    them now; ``left_rows`` and ``left_cost`` are of those that have no answer yet.
    """

    rows: Sequence[Any]
    costs: Sequence[int]
    options: Mapping[str, Any]
    key: Hashable
    future: asyncio.Future[list[Any]]
    answers: list[Any]
    left_rows: int
    left_cost: int
    taken: int = 0
    running: int = 0
    timer: asyncio.TimerHandle | None = None


@dataclass
class _Part:
    """Rows of a job that go into one batch, from ``start`` on."""

    job: _Job
    start: int
    rows: Sequence[Any]
    cost: int


class Batcher:
    """Joins what different callers want of one model into batches.

    A batch holds rows with equal options only. A caller with more than a batch of rows gets its
    turn with the others, batch by batch. A batch that fails is run again, caller by caller, so
    that one caller's bad row is told to that one alone.

    Args:
        run: computes a batch.
        most_cost: of a batch; a single row may cost more.
        queue: most rows that wait; a caller with more is let in when nothing waits.
        parallel: batches that run at a time.
        wait_s: longest time that a caller may be expected to wait; beyond it the queue is full.
        observe: told the rows of each batch and the seconds it took.
    """

    def __init__(
        self,
        run: Run,
        *,
        most_cost: int,
        queue: int,
        parallel: int = 1,
        wait_s: float = math.inf,
        observe: Callable[[int, float], None] = lambda rows, seconds: None,
    ) -> None:
        self._run = run
        self._most_cost = most_cost
        self._queue = queue
        self._parallel = parallel
        self._wait_s = wait_s
        self._observe = observe
        self._jobs: deque[_Job] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._waiting_rows = 0
        self._waiting_cost = 0
        self._queued_cost = 0
        self._pace = Pace()

    @property
    def waiting(self) -> int:
        """Rows that have not been computed yet."""
        return self._waiting_rows

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is computed."""
        return not self._workers

    def expected_s(self) -> float:
        """Return how long what waits now will take, by what batches took before."""
        batches = math.ceil(self._waiting_cost / self._most_cost)
        return self._pace.seconds(batches, self._waiting_cost) / self._parallel

    async def submit(
        self,
        rows: Sequence[Any],
        options: Mapping[str, Any],
        *,
        costs: Sequence[int] | None = None,
        key: Hashable = None,
        deadline: float | None = None,
    ) -> list[Any]:
        """Return one answer a row, in order.

        Cancelling takes what has not been computed out of the queue.

        Args:
            rows: any number.
            options: given to ``run``.
            costs: what each row costs; 1 by default.
            key: equal for equal options.
            deadline: by the clock of the event loop; what is not begun by then is dropped.

        Raises:
            Full: too much waits already; nothing of this was taken.
            Expired: the deadline has come.
            Exception: whatever ``run`` raised when it had rows of this caller alone.
        """
        if not rows:
            return []
        self._admit(len(rows))
        loop = asyncio.get_running_loop()
        costs = [1] * len(rows) if costs is None else costs
        cost = sum(costs)
        empty: list[Any] = [None] * len(rows)
        job = _Job(rows, costs, options, key, loop.create_future(), empty, len(rows), cost)
        if deadline is not None:
            job.timer = loop.call_at(deadline, self._expire, job)
        self._jobs.append(job)
        self._count(len(rows), cost)
        self._queued_cost += cost
        if len(self._workers) < self._parallel:
            self._workers.add(loop.create_task(self._work()))
        try:
            return await job.future
        finally:
            if job.timer is not None:
                job.timer.cancel()
            self._leave(job)

    def _admit(self, rows: int) -> None:
        expected = self.expected_s()
        if self._waiting_rows and self._waiting_rows + rows > self._queue:
            raise Full(max(expected, 1.0))
        if expected > self._wait_s:
            raise Full(expected)

    def _count(self, rows: int, cost: int) -> None:
        self._waiting_rows += rows
        self._waiting_cost += cost

    def _expire(self, job: _Job) -> None:
        if not job.future.done():
            job.future.set_exception(Expired())

    def _leave(self, job: _Job) -> None:
        """Take what is left of a job out of the queue; of one that was answered nothing is."""
        self._count(-job.left_rows, -job.left_cost)
        self._queued_cost -= sum(job.costs[job.taken :])
        job.taken = len(job.rows)
        if job in self._jobs:
            self._jobs.remove(job)

    async def _work(self) -> None:
        """Run batches until nothing waits."""
        batch: list[_Part] = []
        try:
            while batch := self._next():
                await self._compute(batch)
        except BaseException:  # the loop ends, say: nobody shall wait for ever
            for job in {*self._jobs, *(part.job for part in batch)}:
                job.future.cancel()
            raise
        finally:
            # In the same step that found nothing to do: what comes after it starts a worker anew.
            self._workers.discard(_this_task())

    def _next(self) -> list[_Part]:
        """Return rows of the first job, and of those behind it with the same options.

        No more than a share of what is queued: the rest is for the batches beside this one.
        """
        batch: list[_Part] = []
        left = min(self._most_cost, math.ceil(self._queued_cost / self._parallel))
        while self._jobs and self._jobs[0].future.done():
            self._jobs.popleft()
        if not self._jobs:
            return batch
        key = self._jobs[0].key
        for job in list(self._jobs):
            if job.key != key or job.future.done():
                continue
            part = _take(job, left, first=not batch)
            if part is None:
                break
            batch.append(part)
            left -= part.cost
            self._queued_cost -= part.cost
            # What has more rows goes behind the others; what has none left is begun in time.
            self._jobs.remove(job)
            job.running += 1
            if job.taken < len(job.rows):
                self._again(job)
            elif job.timer is not None:
                job.timer.cancel()
        return batch

    def _again(self, job: _Job) -> None:
        """Put a job with more rows at the end of the queue, unless it is in every batch now."""
        if job.running < self._parallel and job not in self._jobs:
            self._jobs.append(job)

    async def _compute(self, batch: Sequence[_Part]) -> None:
        loop = asyncio.get_running_loop()
        rows = [row for part in batch for row in part.rows]
        start = loop.time()
        try:
            answers = await self._run(rows, batch[0].job.options)
            if len(answers) != len(rows):
                raise RuntimeError(f"{len(rows)} rows were answered with {len(answers)} answers")
        except Exception as error:
            await self._apart(batch, error)
            return
        seconds = loop.time() - start
        self._pace.note(sum(part.cost for part in batch), seconds)
        self._observe(len(rows), seconds)
        place = 0
        for part in batch:
            self._deliver(part, answers[place : place + len(part.rows)])
            place += len(part.rows)

    async def _apart(self, batch: Sequence[_Part], error: Exception) -> None:
        """Run a batch that failed part by part, and tell each caller its own error."""
        if len(batch) == 1:
            future = batch[0].job.future
            if not future.done():
                future.set_exception(error)
            return
        for part in batch:
            if not part.job.future.done():
                await self._compute([part])

    def _deliver(self, part: _Part, answers: Sequence[Any]) -> None:
        """Give a job answers; when it has all of them, it is done."""
        job = part.job
        if job.future.done():  # cancelled, expired or failed meanwhile: it leaves, or has left
            return
        job.answers[part.start : part.start + len(part.rows)] = answers
        job.left_rows -= len(part.rows)
        job.left_cost -= part.cost
        self._count(-len(part.rows), -part.cost)
        job.running -= 1
        if not job.left_rows:
            job.future.set_result(job.answers)
        elif job.taken < len(job.rows):
            self._again(job)


class Pace:
    """How long batches take: so much each, and so much a unit of cost, by the latest of them."""

    def __init__(self) -> None:
        self._cost = self._seconds = self._square = self._product = self._weight = 0.0

    def note(self, cost: int, seconds: float) -> None:
        """Learn from a batch."""
        self._weight = 1 + KEPT * self._weight
        self._cost = cost + KEPT * self._cost
        self._seconds = seconds + KEPT * self._seconds
        self._square = cost * cost + KEPT * self._square
        self._product = cost * seconds + KEPT * self._product

    def seconds(self, batches: int, cost: float) -> float:
        """Return what batches that cost so much together should take; 0 before any is known.

        A line by weighted least squares. Its slope is drawn to 0: batches that all cost the same
        do not say what more would take, and for models that write it is hardly more.
        """
        if not self._weight:
            return 0.0
        mean, time = self._cost / self._weight, self._seconds / self._weight
        spread = self._square / self._weight - mean**2 + DRAWN * mean**2
        together = self._product / self._weight - mean * time
        slope = min(max(together / spread, 0.0), time / mean) if spread > 0 else 0.0
        return batches * (time - slope * mean) + slope * cost


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _take(job: _Job, left: int, *, first: bool) -> _Part | None:
    """Return as many of a job's next rows as cost at most ``left``; one at least if it is first."""
    cost, start = 0, job.taken
    for own in job.costs[start:]:
        if cost + own > left and (job.taken > start or not first):
            break
        cost += own
        job.taken += 1
    if job.taken == start:
        return None
    return _Part(job, start, job.rows[start : job.taken], cost)
