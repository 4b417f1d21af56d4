"""Rows of training data become one batch, whatever holds their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from backprop.collate import collate
from backprop.errors import InputError


@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor])
@pytest.mark.parametrize(("left", "filled"), [(False, [3, 0]), (True, [0, 3])])
def test_rows_are_padded_to_the_longest(make: Any, left: bool, filled: list[int]) -> None:
    batch = collate([{"input_ids": make([1, 2])}, {"input_ids": make([3])}], left=left)
    assert batch["input_ids"].tolist() == [[1, 2], filled]
    assert batch["input_ids"].dtype == torch.int64


def test_labels_are_padded_with_what_the_loss_ignores_and_others_as_told() -> None:
    rows = [{"labels": [1], "ids": [1]}, {"labels": [2, 3], "ids": [2, 3]}]
    batch = collate(rows, {"ids": 9})
    assert batch["labels"].tolist() == [[1, -100], [2, 3]]
    assert batch["ids"].tolist() == [[1, 9], [2, 3]]


def test_numbers_make_a_column_and_texts_stay_a_list() -> None:
    row = {"score": np.float32(0.5), "class": 1, "task": "qa", "words": ["a", "b"]}
    batch = collate([row, {**row, "score": 0.25}])
    assert batch["score"].tolist() == [0.5, 0.25]
    assert batch["class"].tolist() == [1, 1]
    assert batch["task"] == ["qa", "qa"]
    assert batch["words"] == [["a", "b"], ["a", "b"]]


@pytest.mark.parametrize("rows", [([], [1, 2]), ([1, 2], [])])
def test_a_row_without_tokens_leaves_whole_numbers_whole(rows: Any) -> None:
    batch = collate([{"input_ids": ids} for ids in rows])
    assert batch["input_ids"].dtype == torch.int64


def test_no_row_loses_its_fractions_to_another() -> None:
    batch = collate([{"weights": [1, 2]}, {"weights": [0.5]}])
    assert batch["weights"].tolist() == [[1, 2], [0.5, 0]]


def test_shapes_may_differ_in_their_first_dimension_only() -> None:
    batch = collate([{"boxes": torch.ones(2, 4)}, {"boxes": torch.ones(1, 4)}])
    assert batch["boxes"].shape == (2, 2, 4)
    with pytest.raises(InputError, match=r"\(2, 3\), \(2, 4\)"):
        collate([{"boxes": torch.ones(2, 4)}, {"boxes": torch.ones(2, 3)}])


def test_rows_that_make_no_batch_are_refused() -> None:
    with pytest.raises(InputError, match="at least one row"):
        collate([])
    with pytest.raises(InputError, match=r"row 0 \['a'\] but row 1 \['a', 'b'\]"):
        collate([{"a": 1}, {"a": 1, "b": 2}])
