"""Image-text vectors: both sides' vectors side by side."""

from __future__ import annotations

from typing import Any

import numpy as np

from backprop.handlers.images import ImageVectors
from backprop.handlers.text_vectors import TextVectors
from backprop.handlers.vectors import finish, unit
from backprop.inputs import Row

__all__ = ["PairVectors"]


class PairVectors:
    """Answers ``image-text-vectorisation``.

    Args:
        images: the image side.
        texts: the text side.
    """

    def __init__(self, images: ImageVectors, texts: TextVectors) -> None:
        self.images = images
        self.texts = texts

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[list[float]]:
        """Return one vector a row, L2 norm 1: image then text, each with an equal say.

        Args:
            rows: each has ``image`` and ``text``.
            options: ``normalise``; ``dimensions``, half of them from each side; ``long``.
        """
        texts = [row["text"] for row in rows]
        words = self.texts.vectors(texts, long=options.get("long", "truncate"))
        sights = self.images.vectors([row["image"] for row in rows])
        wanted = options.get("dimensions", sights.shape[1] + words.shape[1])
        # Each side keeps its share, so that neither is cut away.
        most = max(wanted // 2, wanted - sights.shape[1])
        words, sights = words[:, :most], sights[:, : max(wanted - most, wanted - words.shape[1])]
        both = np.concatenate([unit(sights), unit(words)], axis=1)
        return finish(both, options, normalise=True)
