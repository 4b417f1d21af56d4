"""Dynamic batching: answers, order, poison, cancelling, deadlines, overload."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings

from backprop.serve.batcher import Batcher, Expired, Full, Pace
from tests.schedules import Hang, Schedule, judge, play, run_in_virtual_time, schedules


@settings(max_examples=300, deadline=None)
@given(schedules())
def test_each_answer_equals_its_solo_answer_whatever_else_happens(schedule: Schedule) -> None:
    judge(schedule, play(schedule))


class Recorder:
    """A model that takes a second a batch and keeps what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []

    async def __call__(self, rows: Sequence[Any], options: Mapping[str, Any]) -> list[Any]:
        self.batches.append(list(rows))
        await asyncio.sleep(1)
        return [row * 10 for row in rows]


def test_an_idle_model_starts_at_once_and_what_comes_meanwhile_is_one_batch() -> None:
    model = Recorder()

    async def work() -> None:
        batcher = Batcher(model, most_cost=100, queue=100)
        first = asyncio.create_task(batcher.submit([1], {}))
        await asyncio.sleep(0.5)
        others = [asyncio.create_task(batcher.submit([i], {})) for i in range(2, 6)]
        assert await first == [10]
        assert [await each for each in others] == [[20], [30], [40], [50]]
        assert asyncio.get_running_loop().time() == pytest.approx(2)

    run_in_virtual_time(work())
    assert model.batches == [[1], [2, 3, 4, 5]]


def test_a_large_request_is_split_and_lets_a_small_one_in_between() -> None:
    model = Recorder()

    async def work() -> None:
        batcher = Batcher(model, most_cost=4, queue=100)
        large = asyncio.create_task(batcher.submit(list(range(10)), {}))
        await asyncio.sleep(0.5)
        assert await batcher.submit([99], {}) == [990]
        assert not large.done()
        assert await large == [row * 10 for row in range(10)]

    run_in_virtual_time(work())
    assert model.batches == [[0, 1, 2, 3], [99, 4, 5, 6], [7, 8, 9]]


def test_a_large_request_is_computed_in_all_batches_that_run_at_a_time() -> None:
    model = Recorder()

    async def work() -> None:
        batcher = Batcher(model, most_cost=4, queue=100, parallel=2)
        alone = asyncio.create_task(batcher.submit([99], {}))
        large = asyncio.create_task(batcher.submit(list(range(16)), {}))
        await asyncio.sleep(0.5)
        last = asyncio.create_task(batcher.submit([100], {}))
        assert await large == [row * 10 for row in range(16)]
        assert asyncio.get_running_loop().time() == pytest.approx(3)
        assert (await alone, last.done()) == ([990], True)

    run_in_virtual_time(work())


def test_what_comes_as_the_last_batch_ends_is_computed() -> None:
    async def work() -> None:
        batcher = Batcher(Recorder(), most_cost=1, queue=10)

        async def later(turns: int) -> list[Any]:
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.sleep(1)  # just when the other's batch is done, in any order
            return await batcher.submit([2], {})

        for turns in range(6):
            first = asyncio.create_task(batcher.submit([1], {}))
            assert [*await asyncio.gather(first, later(turns))] == [[10], [20]]

    run_in_virtual_time(work())


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async def work() -> None:
        batcher = Batcher(Recorder(), most_cost=1, queue=3)
        running = asyncio.create_task(batcher.submit([0, 1, 2], {}))
        await asyncio.sleep(1.5)  # one is answered, so a unit of cost is known to take a second
        with pytest.raises(Full) as told:
            await batcher.submit([3, 4], {})
        assert told.value.retry_s == pytest.approx(2)
        assert await batcher.submit([5], {}) == [50]
        assert await running == [0, 10, 20]

    run_in_virtual_time(work())


def test_who_would_wait_too_long_is_refused_though_there_is_room() -> None:
    async def work() -> None:
        batcher = Batcher(Recorder(), most_cost=1, queue=1000, wait_s=5)
        await batcher.submit([0], {})
        waiting = [asyncio.create_task(batcher.submit([i], {})) for i in range(6)]
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await batcher.submit([7], {})
        await asyncio.gather(*waiting)

    run_in_virtual_time(work())


def test_the_pace_tells_the_time_of_a_batch_from_that_of_its_rows() -> None:
    writing, reading = Pace(), Pace()
    assert writing.seconds(1, 16) == 0
    for _ in range(20):
        writing.note(1, 3.0)
    assert writing.seconds(1, 16) == pytest.approx(3.0)  # not 48: they are written together
    for cost in (10, 100, 50, 1000, 20, 500):
        reading.note(cost, 0.01 + cost / 1000)
    assert reading.seconds(2, 2000) == pytest.approx(2.02, rel=0.05)


def test_what_is_late_is_told_at_its_deadline_and_never_computed() -> None:
    model = Recorder()

    async def work() -> None:
        loop = asyncio.get_running_loop()
        batcher = Batcher(model, most_cost=1, queue=10)
        running = asyncio.create_task(batcher.submit([0], {}))
        await asyncio.sleep(0.1)
        with pytest.raises(Expired):
            await batcher.submit([1], {}, deadline=loop.time() + 0.2)
        assert loop.time() == pytest.approx(0.3)
        await running

    run_in_virtual_time(work())
    assert model.batches == [[0]]


def test_answers_of_another_number_are_an_error_and_not_a_mix() -> None:
    async def wrong(rows: Sequence[Any], options: Mapping[str, Any]) -> list[Any]:
        return [1]

    async def work() -> None:
        batcher = Batcher(wrong, most_cost=10, queue=10)
        with pytest.raises(RuntimeError, match="2 rows were answered with 1"):
            await batcher.submit([1, 2], {})

    run_in_virtual_time(work())


def test_a_hang_is_noticed_by_these_tests() -> None:
    async def never(rows: Sequence[Any], options: Mapping[str, Any]) -> list[Any]:
        found: list[Any] = await asyncio.get_running_loop().create_future()
        return found

    async def work() -> None:
        await Batcher(never, most_cost=1, queue=1).submit([1], {})

    with pytest.raises(Hang):
        run_in_virtual_time(work())
