"""How alike vectors are."""

from __future__ import annotations

from typing import Any

import numpy as np

from backprop.errors import InputError

__all__ = ["cosine_similarity"]


def cosine_similarity(vec1: Any, vec2: Any) -> float | list[float]:
    """Return the cosine of the angle between vectors: 1 for the same direction, -1 for opposite.

    Args:
        vec1: a vector (list of float, array or tensor), or a list of them.
        vec2: the same; a single one is compared with each of a list.

    Returns:
        A float for two vectors; a list where either is a list of vectors. A vector of zeros has
        the similarity 0 to everything.

    Raises:
        InputError: lengths differ, a value is not a finite number, or there is nothing there.
    """
    first, second = _matrix(vec1, "vec1"), _matrix(vec2, "vec2")
    if first.shape[-1] != second.shape[-1]:
        raise InputError(
            f"vec1 has {first.shape[-1]} dimensions and vec2 {second.shape[-1]}; compare vectors "
            "of one model."
        )
    if first.ndim == second.ndim == 2 and 1 not in (len(first), len(second)):
        if len(first) != len(second):
            raise InputError(
                f"vec1 has {len(first)} vectors and vec2 {len(second)}; pass as many of each, or "
                "one of either."
            )
    products = (_unit(first) * _unit(second)).sum(axis=-1).clip(-1, 1)
    result: float | list[float] = products.tolist()
    return result


def _matrix(vectors: Any, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    try:
        array = np.asarray(_plain(vectors), np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{name} must be a vector or a list of vectors of one length; received "
            f"{type(vectors).__name__} ({error})."
        ) from error
    if array.ndim not in (1, 2) or array.shape[-1] == 0 or not np.isfinite(array).all():
        raise InputError(
            f"{name} must be a vector or a list of vectors of finite numbers; received shape "
            f"{array.shape}."
        )
    return array


def _plain(vectors: Any) -> Any:
    """Return torch tensors, alone or in a list, as lists: NumPy can't read those of a GPU."""
    if isinstance(vectors, (list, tuple)):
        return [item.tolist() if hasattr(item, "detach") else item for item in vectors]
    return vectors.tolist() if hasattr(vectors, "detach") else vectors


def _unit(vectors: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    # By the largest first: squares of very large or small numbers leave the range of a float.
    largest = np.abs(vectors).max(axis=-1, keepdims=True)
    vectors = vectors / np.where(largest == 0, 1, largest)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: np.ndarray[Any, np.dtype[np.float64]] = vectors / np.where(norms == 0, 1, norms)
    return result
