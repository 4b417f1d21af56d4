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
            options: ``style``; ``long`` (of the whole text's vector, to which the sentences are
                likened; each of those is read in full).

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
        long = options.get("long", "chunk")
        wholes = unit(self.vectors.vectors([row["text"] for row in rows], long=long))
        # The whole text has had its warning or refusal; its sentences lose nothing more.
        parts = unit(self.vectors.vectors(flat, long="chunk"))
        summaries, start = [], 0
        for sentences, whole in zip(texts, wholes, strict=True):
            own = parts[start : start + len(sentences)]
            start += len(sentences)
            summaries.append(" ".join(sentences[i].text for i in choose(own @ whole)))
        return summaries


SENTENCES_A_SUMMARY_SENTENCE = 12
MOST_SENTENCES = 5


def choose(likeness: Array) -> list[int]:
    """Return which sentences make the summary, ascending: those most like the whole text.

    One for every twelve, at most five. The likest sentence had the best ROUGE-L of nine ways to
    choose on abstracts: bench/quality/summaries.py.

    Args:
        likeness: cosine of each sentence and the whole text, shape (sentences,).
    """
    wanted = round(len(likeness) / SENTENCES_A_SUMMARY_SENTENCE)
    best = np.argsort(-likeness, kind="stable")[: min(max(wanted, 1), MOST_SENTENCES)]
    return sorted(int(i) for i in best)
