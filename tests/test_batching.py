import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backprop.handlers.batching import LEAST_SHARE, MAX_ROWS, TOKEN_BUDGET, in_batches, stacked


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
    for one, two in zip(batches, batches[1:], strict=False):
        # The next one did not fit any more, or is too short for a batch that is large enough.
        full = len(one) == max_rows or (len(one) + 1) * max(one) > budget
        large = len(one) * max(one) > budget // 4
        assert full or (large and max(two) < LEAST_SHARE * max(one)), (one, two)


def test_the_longest_run_first_with_those_of_like_length() -> None:
    lengths = [1, 10, 2, 9, 1, 10]
    assert batches_of(lengths, budget=20) == [[10, 10], [9], [2, 1, 1]]


def test_padded_tokens_count_not_real_ones() -> None:
    assert batches_of([10, 9, 9], budget=20) == [[10, 9], [9]]
    assert batches_of([10, 9, 9], budget=30) == [[10, 9, 9]]


def test_much_shorter_rows_wait_once_there_are_enough() -> None:
    assert batches_of([10, 5, 5], budget=39) == [[10], [5, 5]]
    assert batches_of([10, 5, 5], budget=100) == [[10, 5, 5]]


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
