"""Cosine similarity: by its definition, in each shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import backprop
from backprop.errors import InputError

RANDOM = np.random.default_rng(0)
MANY = RANDOM.normal(size=(5, 7))
ONE = RANDOM.normal(size=7)


def cosine(a: Any, b: Any) -> float:
    return float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b)))


def test_it_is_the_cosine_by_definition() -> None:
    found = backprop.cosine_similarity(ONE.tolist(), MANY[0].tolist())
    assert isinstance(found, float) and found == pytest.approx(cosine(ONE, MANY[0]), abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ([3, 4], [6, 8], 1.0),
        ([3, 4], [-3, -4], -1.0),
        ([1, 0], [0, 2], 0.0),
        ([1e200, 0], [1e200, 1e200], 0.5**0.5),
        ([1e-200, 0], [1e-200, 1e-200], 0.5**0.5),
        ([0, 0], [1, 2], 0.0),
        ([0, 0], [0, 0], 0.0),
    ],
)
def test_known_angles(first: list[float], second: list[float], wanted: float) -> None:
    assert backprop.cosine_similarity(first, second) == pytest.approx(wanted, abs=1e-12)


def test_it_never_leaves_its_bounds() -> None:
    for vector in MANY * 1e3:
        found = backprop.cosine_similarity(vector, vector)
        assert isinstance(found, float) and 1 - 1e-12 <= found <= 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ONE, MANY),
        (MANY, ONE),
        (MANY, MANY[::-1]),
        (MANY[:1], MANY),
        (MANY, MANY[:1]),
        ([ONE], ONE),
    ],
)
def test_lists_give_a_list_single_ones_meeting_each(first: Any, second: Any) -> None:
    found = backprop.cosine_similarity(first, second)
    rows = zip(*np.broadcast_arrays(np.atleast_2d(first), np.atleast_2d(second)), strict=True)
    assert isinstance(found, list)
    assert found == pytest.approx([cosine(a, b) for a, b in rows], abs=1e-12)


def test_lists_arrays_and_tensors_are_alike() -> None:
    wanted = backprop.cosine_similarity(ONE.tolist(), MANY.tolist())
    assert backprop.cosine_similarity(torch.tensor(ONE), torch.tensor(MANY)) == wanted
    assert backprop.cosine_similarity(tuple(ONE), [tuple(row) for row in MANY]) == wanted
    single = torch.tensor(ONE, dtype=torch.float32)
    assert backprop.cosine_similarity(single, MANY) == pytest.approx(wanted, abs=1e-6)


def test_what_it_is_given_stays_as_it_is() -> None:
    one, many = ONE.copy(), MANY.copy()
    backprop.cosine_similarity(one, many)
    assert np.array_equal(one, ONE) and np.array_equal(many, MANY)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([1, 2], [1, 2, 3], "vec1 has 2 dimensions and vec2 3"),
        (MANY[:2], MANY[:3], "vec1 has 2 vectors and vec2 3"),
        ([], [1], "vec1 must be a vector"),
        ([1], [[]], "vec2 must be a vector"),
        (3.0, [1], "vec1 must be a vector"),
        ([1], [[[1]]], "vec2 must be a vector"),
        ([[1, 2], [1]], [1, 2], "vec1 must be a vector"),
        ([float("nan"), 1], [1, 2], "finite"),
        ([1, 2], [float("inf"), 1], "finite"),
        ("ab", [1, 2], "vec1 must be a vector"),
        ([1, 2], None, "vec2 must be a vector"),
        ([1, 2], {"a": 1}, "vec2 must be a vector"),
        ([1j, 2], [1, 2], "vec1 must be a vector"),
        ([10**400, 2], [1, 2], "vec1 must be a vector"),
    ],
)
def test_what_is_no_pair_of_vectors_is_refused(first: Any, second: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        backprop.cosine_similarity(first, second)


def test_no_vectors_at_all_have_no_similarities() -> None:
    assert backprop.cosine_similarity(np.zeros((0, 3)), [1, 2, 3]) == []


def test_tensors_that_want_gradients_are_taken() -> None:
    vector = torch.tensor([3.0, 4.0], requires_grad=True)
    assert backprop.cosine_similarity(vector, [3.0, 4.0]) == pytest.approx(1)
