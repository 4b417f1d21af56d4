from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backprop.handlers.batching import (
    FEWEST,
    MAX_ROWS,
    TOKEN_BUDGET,
    in_batches,
    stacked,
)


def batches_of(lengths: list[int], **limits: int) -> list[list[int]]:
    """Return the lengths of the items of each batch, in the order they ran."""
    seen: list[list[int]] = []

    def run(batch: list[int]) -> list[int]:
        seen.append([lengths[i] for i in batch])
        return batch

    numbers = list(range(len(lengths)))
    assert in_batches(numbers, lengths, run, **limits) == numbers
    return seen


@given(st.lists(st.integers(0, 60), max_size=60), st.integers(1, 100), st.integers(1, 9))
def test_limits_and_order_hold_for_any_lengths(
    lengths: list[int], budget: int, max_rows: int
) -> None:
    batches = batches_of(lengths, budget=budget, max_rows=max_rows)
    assert all(len(batch) * max(batch) <= budget or len(batch) == 1 for batch in batches)
    assert all(0 < len(batch) <= max_rows for batch in batches)
    flat = [length for batch in batches for length in batch]
    assert flat == sorted(lengths, reverse=True)


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=9),
    st.integers(1, 200),
    st.integers(1, 9),
    st.sampled_from([0, 8, 40, FEWEST]),
)
def test_no_other_cut_costs_less(
    lengths: list[int], budget: int, max_rows: int, overhead: int
) -> None:
    def cost(batches: list[list[int]]) -> int:
        return sum(overhead + len(batch) * max(batch) for batch in batches)

    def cuts(rows: list[int]) -> Iterator[list[list[int]]]:
        if not rows:
            yield []
        for count in range(1, len(rows) + 1):
            if count == 1 or (count <= max_rows and count * rows[0] <= budget):
                yield from ([rows[:count], *rest] for rest in cuts(rows[count:]))

    found = batches_of(lengths, budget=budget, max_rows=max_rows, overhead=overhead)
    assert cost(found) == min(map(cost, cuts(sorted(lengths, reverse=True))))


def test_many_rows_are_hardly_padded() -> None:
    lengths = [5 + number % 200 for number in range(5_000)]
    padded = sum(len(batch) * max(batch) for batch in batches_of(lengths))
    assert padded < 1.03 * sum(lengths)


def test_the_longest_run_first_with_those_of_like_length() -> None:
    lengths = [1, 10, 2, 9, 1, 10]
    assert batches_of(lengths, budget=20, overhead=8) == [[10, 10], [9], [2, 1, 1]]
    assert batches_of(lengths, overhead=0) == [[10, 10], [9], [2], [1, 1]]


def test_padded_tokens_count_not_real_ones() -> None:
    assert batches_of([10, 9, 9], budget=29, overhead=8) == [[10], [9, 9]]
    assert batches_of([10, 9, 9], budget=30, overhead=8) == [[10, 9, 9]]


def test_shorter_rows_run_apart_where_padding_would_cost_more_than_a_batch() -> None:
    assert batches_of([10, 5, 5], overhead=9) == [[10], [5, 5]]
    assert batches_of([10, 5, 5], overhead=10) == [[10, 5, 5]]
    assert batches_of([1000, 1], overhead=FEWEST) == [[1000, 1]]


def test_one_item_over_the_budget_runs_alone() -> None:
    assert batches_of([5, 1000, 5], budget=10) == [[1000], [5, 5]]


def test_a_batch_has_a_bound_of_rows() -> None:
    assert batches_of([1] * 7, max_rows=3) == [[1, 1, 1], [1, 1, 1], [1]]
    assert [len(batch) for batch in batches_of([1] * (MAX_ROWS + 1))] == [MAX_ROWS, 1]


def test_the_budget_by_default() -> None:
    assert [len(batch) for batch in batches_of([TOKEN_BUDGET // 2] * 3)] == [2, 1]


def test_items_of_one_length_stay_in_their_order() -> None:
    seen: list[list[str]] = []

    def run(batch: list[str]) -> list[str]:
        seen.append(batch)
        return [item.upper() for item in batch]

    assert in_batches(list("abcde"), [2] * 5, run, budget=4) == list("ABCDE")
    assert seen == [["a", "b"], ["c", "d"], ["e"]]


def test_nothing_to_run_runs_nothing() -> None:
    assert batches_of([]) == []


def test_the_items_and_lengths_are_left_as_they_are() -> None:
    items, lengths = ["b", "a"], [1, 2]
    in_batches(items, lengths, lambda batch: batch)
    assert (items, lengths) == (["b", "a"], [1, 2])


def test_a_result_too_few_is_noticed() -> None:
    with pytest.raises(ValueError, match="zip"):
        in_batches(["a", "b"], [1, 1], lambda batch: batch[1:])


def test_results_become_one_array() -> None:
    found = stacked(
        [3, 1, 2], [3, 1, 2], lambda batch: np.array([[i, i * 10.0] for i in batch]), max_rows=2
    )
    np.testing.assert_array_equal(found, [[3, 30], [1, 10], [2, 20]])
