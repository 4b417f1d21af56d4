"""Schedules of requests for a batcher: drawn by hypothesis, played in virtual time, judged.

Used by ``tests/test_serve_batcher.py`` and, ten thousand at once, by ``bench/serve/schedules.py``.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from backprop.errors import InputError
from backprop.serve.batcher import Batcher, Expired, Full

__all__ = ["Item", "Schedule", "judge", "play", "run_in_virtual_time", "schedules"]


@dataclass(frozen=True)
class Item:
    """One request.

    Args:
        at: when it comes.
        costs: of each of its rows.
        key: of its options.
        poisoned: index of a row that can't be computed, or None.
        cancel_after: when its caller gives up, counted from ``at``; None never does.
        late_after: its deadline, counted from ``at``; None has none.
    """

    at: float
    costs: tuple[int, ...]
    key: int
    poisoned: int | None
    cancel_after: float | None
    late_after: float | None


@dataclass(frozen=True)
class Schedule:
    """Requests, and how fast the model is.

    Args:
        items: in any order.
        most_cost: of a batch.
        queue: rows that may wait.
        seconds: that a unit of cost takes.
        parallel: batches at a time.
    """

    items: tuple[Item, ...]
    most_cost: int
    queue: int
    seconds: float
    parallel: int


def schedules() -> st.SearchStrategy[Schedule]:
    """Return schedules of up to 12 requests that meet in a short time."""
    times = st.floats(0, 4).map(lambda value: round(value, 2))
    later = st.none() | st.floats(0, 3).map(lambda value: round(value, 2))

    @st.composite
    def items(draw: st.DrawFn) -> Item:
        costs = draw(st.lists(st.integers(1, 6), min_size=0, max_size=8).map(tuple))
        poison = st.none() | st.integers(0, len(costs) - 1) if costs else st.none()
        return Item(
            draw(times), costs, draw(st.integers(0, 2)), draw(poison), draw(later), draw(later)
        )

    return st.builds(
        Schedule,
        st.lists(items(), min_size=1, max_size=12).map(tuple),
        st.integers(1, 12),
        st.integers(1, 40),
        st.sampled_from((0.0, 0.01, 0.3)),
        st.integers(1, 3),
    )


Row = tuple[int, int]
"""Number of its request, number in it."""


@dataclass
class Played:
    """What happened.

    Args:
        outcomes: of each request: its answers, or what was raised.
        computed: rows that were computed, batch by batch, with their options.
        batcher: as it was at the end.
        begun_at: when each row was first computed.
    """

    outcomes: list[Any]
    computed: list[tuple[list[Row], Mapping[str, Any]]] = field(default_factory=list)
    begun_at: dict[Row, float] = field(default_factory=dict)
    batcher: Batcher | None = None


def solo(row: Row, options: Mapping[str, Any]) -> str:
    """Return what the model says to a row, whatever stands beside it."""
    return f"{row}:{options['key']}"


def play(schedule: Schedule) -> Played:
    """Return what happened when all requests came as scheduled."""
    played = Played([None] * len(schedule.items))
    run_in_virtual_time(_play(schedule, played))
    return played


async def _play(schedule: Schedule, played: Played) -> None:
    loop = asyncio.get_running_loop()

    async def run(rows: Sequence[Row], options: Mapping[str, Any]) -> list[str]:
        played.computed.append((list(rows), options))
        for row in rows:
            played.begun_at.setdefault(row, loop.time())
        cost = sum(schedule.items[own].costs[number] for own, number in rows)
        await asyncio.sleep(cost * schedule.seconds)
        for own, number in rows:
            if schedule.items[own].poisoned == number:
                raise InputError(f"row {own}.{number} can't be computed")
        return [solo(row, options) for row in rows]

    batcher = Batcher(
        run,
        most_cost=schedule.most_cost,
        queue=schedule.queue,
        parallel=schedule.parallel,
    )
    played.batcher = batcher

    async def request(number: int, item: Item) -> None:
        await asyncio.sleep(item.at)
        deadline = None if item.late_after is None else loop.time() + item.late_after
        rows = [(number, i) for i in range(len(item.costs))]
        work = loop.create_task(
            batcher.submit(
                rows, {"key": item.key}, costs=item.costs, key=item.key, deadline=deadline
            )
        )
        if item.cancel_after is not None:
            loop.call_later(item.cancel_after, work.cancel)
        try:
            played.outcomes[number] = await work
        except (InputError, Expired, Full) as error:
            played.outcomes[number] = error
        except asyncio.CancelledError as error:
            played.outcomes[number] = error

    await asyncio.gather(*(request(i, item) for i, item in enumerate(schedule.items)))
    while not batcher.is_idle:  # what was cancelled while it was computed
        await asyncio.sleep(1)


def judge(schedule: Schedule, played: Played) -> None:
    """Check every promise of the batcher.

    Raises:
        AssertionError: one is broken.
    """
    assert played.batcher is not None and played.batcher.is_idle
    assert played.batcher.waiting == 0 and played.batcher.expected_s() == 0
    assert played.batcher._queued_cost == 0
    for number, (item, outcome) in enumerate(zip(schedule.items, played.outcomes, strict=True)):
        rows = [(number, i) for i in range(len(item.costs))]
        computed = [row for row in rows if row in played.begun_at]
        if isinstance(outcome, list):
            assert outcome == [solo(row, {"key": item.key}) for row in rows]
            assert item.poisoned is None
        elif isinstance(outcome, InputError):
            assert str(outcome) == f"row {number}.{item.poisoned} can't be computed"
        elif isinstance(outcome, Expired):
            assert item.late_after is not None
            assert len(computed) < len(rows), "it was begun in time, so it must be answered"
        elif isinstance(outcome, asyncio.CancelledError):
            assert item.cancel_after is not None
        else:
            assert isinstance(outcome, Full) and not computed
        ends = [end for end in (item.cancel_after, item.late_after) if end is not None]
        if ends:
            assert all(played.begun_at[row] <= item.at + min(ends) + 1e-9 for row in computed)
    for batch, options in played.computed:
        assert all(schedule.items[own].key == options["key"] for own, _ in batch)
        cost = sum(schedule.items[own].costs[i] for own, i in batch)
        assert cost <= schedule.most_cost or len(batch) == 1


class Hang(Exception):
    """Everybody waits, and nothing will ever happen."""


class _Clock(selectors.DefaultSelector):
    """Lets time pass in no time: what the loop would wait for, it has waited for."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if found:
            return found
        if timeout is None:
            raise Hang
        self.now += max(timeout, 0)
        return found


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = _Clock()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def run_in_virtual_time(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` to its end; sleeping takes no time.

    Raises:
        Hang: it never ends.
    """
    loop = _VirtualLoop()
    try:
        task = loop.create_task(work)
        try:
            loop.run_until_complete(task)
        except Hang:
            for each in asyncio.all_tasks(loop):
                each.cancel()
            with suppress(Hang, asyncio.CancelledError):
                loop.run_until_complete(asyncio.sleep(0))
            raise
    finally:
        loop.close()
