"""Figures of answers that are vectors: order of similarities, and neighbours of one group."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, TypeAlias

import numpy as np

from backprop.errors import InputError
from backprop.handlers.vectors import unit
from backprop.metrics.measures import Measures

__all__ = ["measure_groups", "measure_scores", "pearson", "spearman"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

NEAREST = (1, 5, 10)
"""How many neighbours recall looks at."""

CELLS = 4_000_000
"""Similarities held at once, so that memory does not grow with the square of the rows."""


def measure_scores(vectors1: Any, vectors2: Any, scores: Sequence[float]) -> Measures:
    """Return how cosine similarity goes with the scores, by order and by value.

    Args:
        vectors1: shape (n, dimensions).
        vectors2: the same; row i of both is a pair.
        scores: how alike each pair truly is.

    Raises:
        InputError: vectors of different shapes, or not finite.
    """
    first, second = _matrix(vectors1), _matrix(vectors2)
    if first.shape != second.shape:
        raise InputError(
            f"Pairs need as many vectors on both sides; received {first.shape} and {second.shape}."
        )
    cosines = (first * second).sum(axis=1)
    truth = np.asarray(scores, np.float64)
    values = {"spearman": spearman(cosines, truth), "pearson": pearson(cosines, truth)}
    return Measures(values, "spearman")


def measure_groups(vectors: Any, groups: Sequence[Hashable]) -> Measures:
    """Return how often one of a row's 1, 5 or 10 nearest others is of its group.

    Rows alone in their group do not count: there is nothing to find. Of others that are as near,
    those of another group come first, so vectors that are all the same find nothing.

    Args:
        vectors: shape (n, dimensions); near is what has a high cosine similarity.
        groups: one a row.

    Raises:
        InputError: no group has two rows, or vectors are not finite.
    """
    matrix = _matrix(vectors)
    numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    codes = np.array([numbers[group] for group in groups])
    rows = np.flatnonzero(np.bincount(codes)[codes] > 1)
    if not len(rows):
        raise InputError(
            f"None of the {len(numbers)} groups has two rows, so there is nothing to find; "
            "evaluate on rows that have a partner."
        )
    size = max(1, CELLS // len(matrix))
    chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
    ahead = np.concatenate([_ahead(matrix, codes, chunk) for chunk in chunks])
    return Measures({f"recall@{k}": float((ahead < k).mean()) for k in NEAREST}, "recall@1")


def _ahead(matrix: Array, codes: Array, rows: Array) -> Array:
    """Return how many rows of other groups are as near as the nearest of the own, shape (rows,)."""
    similarities = matrix[rows] @ matrix.T
    own = codes[rows][:, None] == codes
    others = own.copy()
    others[np.arange(len(rows)), rows] = False  # a row is no neighbour of itself
    nearest = np.where(others, similarities, -np.inf).max(axis=1, keepdims=True)
    ahead: Array = ((similarities >= nearest) & ~own).sum(axis=1)
    return ahead


def pearson(first: Array, second: Array) -> float:
    """Return the correlation of values, 0 where one side is all the same or has one row."""
    a, b = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / scale) if scale > 1e-12 else 0.0


def spearman(first: Array, second: Array) -> float:
    """Return the correlation of ranks; equal values share the mean of their ranks."""
    return pearson(_ranks(first), _ranks(second))


def _ranks(values: Array) -> Array:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Array = (last - (counts - 1) / 2)[places]
    return ranks


def _matrix(vectors: Any) -> Array:
    """Return the vectors scaled to norm 1, shape (n, dimensions)."""
    matrix = np.asarray(vectors, np.float32)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise InputError(
            "Vectors must be finite numbers of shape (rows, dimensions); received shape "
            f"{matrix.shape}{'' if np.isfinite(matrix).all() else ' with NaN or infinity'}."
        )
    return unit(matrix)
