"""Summaries made of a text's own sentences, chosen by their vectors; nothing is invented."""

from __future__ import annotations

from typing import Any

import numpy as np

from backprop.engines import Array
from backprop.errors import InputError
from backprop.handlers.sentences import split
from backprop.handlers.text_vectors import TextVectors
from backprop.handlers.vectors import unit
from backprop.inputs import Row

__all__ = ["Extracts"]


class Extracts:
    """Answers ``summarisation`` in the style ``extractive``.

    Args:
        vectors: the sentence encoder.
    """

    def __init__(self, vectors: TextVectors) -> None:
        self.vectors = vectors

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[str]:
        """Return the sentences of each text nearest to all it says, in their own order.

        A text of one sentence is its own summary.

        Args:
            rows: each has ``text``.
            options: ``style``; ``long`` (every sentence is read, so only a single sentence over
                the model's limit is cut).

        Raises:
            InputError: ``style`` is ``abstractive``.
        """
        if options.get("style", "extractive") != "extractive":
            raise InputError(
                "This model picks sentences (style='extractive') and does not write new ones; use "
                "a model that generates text, such as smollm2-135m-instruct."
            )
        texts = [split(row["text"]) for row in rows]
        flat = [sentence.text for sentences in texts for sentence in sentences]
        vectors = unit(self.vectors.vectors(flat, long=options.get("long", "chunk")))
        summaries, start = [], 0
        for sentences in texts:
            own = vectors[start : start + len(sentences)]
            start += len(sentences)
            chosen = choose(own)
            summaries.append(" ".join(sentences[i].text for i in chosen))
        return summaries


def choose(vectors: Array) -> list[int]:
    """Return which sentences make the summary, ascending.

    Args:
        vectors: one unit vector a sentence, in order; shape (sentences, dimensions).
    """
    count = len(vectors)
    centre = unit(vectors.mean(axis=0))
    wanted = min(1, count)
    best = np.argsort(-(vectors @ centre), kind="stable")[:wanted]
    return sorted(int(i) for i in best)
