"""Vectors of texts that come again and again, such as labels: each is encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from backprop.engines import Array
from backprop.handlers.text_vectors import TextVectors
from backprop.handlers.vectors import unit

__all__ = ["KeptVectors"]

MOST = 20_000
"""Texts kept; 30 MB at 384 dimensions."""


class KeptVectors:
    """Encodes texts to unit vectors, and remembers them as long as the weights stay the same.

    Args:
        vectors: the text encoder.
    """

    def __init__(self, vectors: TextVectors) -> None:
        self.vectors = vectors
        self._kept: dict[str, Array] = {}
        self._version: Any = None

    def __call__(self, texts: Sequence[str]) -> Array:
        """Return the texts' unit vectors, shape (len(texts), dimensions), float32."""
        if not texts:
            return np.zeros((0, self.vectors.dimensions), np.float32)
        version = getattr(self.vectors.engine, "version", None)
        if version != self._version:
            self._kept, self._version = {}, version
        wanted = list(dict.fromkeys(texts))
        missing = [text for text in wanted if text not in self._kept]
        if len(self._kept) + len(missing) > MOST:
            self._kept, missing = {}, wanted
        if missing:
            self._kept.update(zip(missing, unit(self.vectors.vectors(missing)), strict=True))
        return np.stack([self._kept[text] for text in texts])
