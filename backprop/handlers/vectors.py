"""What every vector task does to its vectors at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from backprop.engines import Array
from backprop.errors import InputError

__all__ = ["finish", "unit"]


def unit(vectors: Array) -> Array:
    """Return the vectors scaled to L2 norm 1; zero vectors stay zero. Shape (n, dimensions)."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Array = vectors / np.maximum(norms, 1e-12)
    return scaled


def finish(vectors: Array, options: Mapping[str, Any], *, normalise: bool) -> list[list[float]]:
    """Return the vectors as lists, cut to ``dimensions`` and scaled as asked.

    Args:
        vectors: shape (n, dimensions).
        options: ``normalise`` and ``dimensions`` of the task.
        normalise: what to do when the caller does not say.

    Raises:
        InputError: ``dimensions`` is more than the model has.
    """
    wanted = options.get("dimensions")
    if wanted is not None:
        if wanted > vectors.shape[-1]:
            raise InputError(
                f"dimensions is {wanted} but the model's vectors have {vectors.shape[-1]}."
            )
        vectors = vectors[:, :wanted]
    if options.get("normalise", normalise or wanted is not None):
        vectors = unit(vectors)
    lists: list[list[float]] = vectors.astype(np.float32).tolist()
    return lists
