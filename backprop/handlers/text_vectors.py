"""Text vectors: tokenise all, run length-sorted batches, scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Encoding

from backprop.engines import Array, Engine
from backprop.handlers.batching import stacked
from backprop.handlers.long import fit
from backprop.handlers.tokens import Tokens
from backprop.handlers.vectors import finish, unit
from backprop.inputs import Row

__all__ = ["TextVectors", "average"]


class TextVectors:
    """Answers ``text-vectorisation``.

    Args:
        engine: has the function ``text_vectors``.
        tokens: the model's tokenizer.
        dimensions: length of a vector.
        normalise: whether the model's vectors have L2 norm 1.
        prompt: put before every text, as some models were trained with.
    """

    def __init__(
        self,
        engine: Engine,
        tokens: Tokens,
        *,
        dimensions: int,
        normalise: bool = True,
        prompt: str = "",
    ) -> None:
        self.engine = engine
        self.tokens = tokens
        self.dimensions = dimensions
        self.normalise = normalise
        self.prompt = prompt

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[list[float]]:
        """Return one vector a row.

        Args:
            rows: each has ``text``.
            options: ``normalise``, ``dimensions``, ``long`` (default ``truncate``; ``chunk``
                averages the pieces' vectors, weighted by their length).
        """
        long = options.get("long", "truncate")
        vectors = self.vectors([row["text"] for row in rows], long=long)
        return finish(vectors, options, normalise=self.normalise)

    def vectors(
        self, texts: Sequence[str], *, long: str = "truncate", prompt: str | None = None
    ) -> Array:
        """Return the texts' vectors, shape (len(texts), dimensions), float32.

        Args:
            texts: any number, none included.
            long: see ``fit``.
            prompt: put before each text instead of the model's own.
        """
        if not texts:
            return np.zeros((0, self.dimensions), np.float32)
        prefix = self.prompt if prompt is None else prompt
        pieces = fit(self.tokens, [prefix + text for text in texts], long=long)
        found = stacked(
            pieces.encodings, pieces.lengths, self._run, budget=self.engine.batch_tokens
        )
        vectors = average(found, pieces.owners, pieces.weights, len(texts))
        # A mean of unit vectors is shorter than one; the engine's own are not.
        return unit(vectors) if self.normalise and vectors is not found else vectors

    def _run(self, encodings: list[Encoding]) -> Array:
        return self.engine.run("text_vectors", **self.tokens.arrays(encodings))


def average(values: Array, owners: Sequence[int], weights: Sequence[int], count: int) -> Array:
    """Return each owner's mean of its values, weighted by length.

    Args:
        values: shape (pieces, width).
        owners: index of the text each piece belongs to; every text has one at least.
        weights: tokens of each piece.
        count: number of texts.

    Returns:
        Shape (count, width), float32.
    """
    if len(owners) == count:
        return values
    share = np.maximum(np.asarray(weights, np.float64), 1)[:, None]
    totals = np.zeros((count, values.shape[1]))
    np.add.at(totals, list(owners), values * share)
    sums = np.zeros((count, 1))
    np.add.at(sums, list(owners), share)
    return (totals / sums).astype(np.float32)
