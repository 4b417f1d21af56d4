"""Classification over a model's own labels: text classes and emotions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Encoding

from backprop.engines import Array, Engine
from backprop.errors import InputError
from backprop.handlers.batching import stacked
from backprop.handlers.long import fit
from backprop.handlers.probabilities import ranked, sigmoid, softmax
from backprop.handlers.text_vectors import average
from backprop.handlers.tokens import Tokens
from backprop.inputs import Row

__all__ = ["EmotionClasses", "TextClasses", "check_known"]


class TextClasses:
    """Answers ``text-classification`` with the labels the model was trained on.

    Args:
        engine: has the function ``logits``.
        tokens: the model's tokenizer.
        labels: in the order of the model's outputs.
        multi_label: whether a text may have several labels (sigmoid) or one (softmax).
        prompt: put before every text, as some models were trained with.
    """

    def __init__(
        self,
        engine: Engine,
        tokens: Tokens,
        *,
        labels: Sequence[str],
        multi_label: bool = False,
        prompt: str = "",
    ) -> None:
        self.engine = engine
        self.tokens = tokens
        self.labels = list(labels)
        self.multi_label = multi_label
        self.prompt = prompt

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[dict[str, float]]:
        """Return {label: probability} a row, highest first.

        Args:
            rows: each has ``text``; ``labels`` may narrow the answer to some of the model's own.
            options: ``top_k``; ``multi_label`` (default: as trained); ``long`` (default
                ``chunk``: the pieces' probabilities are averaged).

        Raises:
            InputError: a label the model does not know, or ``template``, which it has no use for.
        """
        if "template" in options:
            raise InputError("template is for zero-shot models; this one has labels of its own.")
        for row in rows:
            check_known(row.get("labels", ()), self.labels)
        scores = self.probabilities(rows, options)
        top_k = options.get("top_k", 0)
        answers = []
        for row, probabilities in zip(rows, scores, strict=True):
            labels = row.get("labels", self.labels)
            own = probabilities[[self.labels.index(label) for label in labels]]
            answers.append(ranked(labels, own, top_k))
        return answers

    def probabilities(self, rows: list[Row], options: dict[str, Any]) -> Array:
        """Return shape (len(rows), labels)."""
        if not rows:
            return np.zeros((0, len(self.labels)), np.float32)
        texts = [self.prompt + row["text"] for row in rows]
        pieces = fit(self.tokens, texts, long=options.get("long", "chunk"))
        logits = stacked(
            pieces.encodings, pieces.lengths, self._run, budget=self.engine.batch_tokens
        )
        several = options.get("multi_label", self.multi_label)
        scores = sigmoid(logits) if several else softmax(logits)
        return average(scores, pieces.owners, pieces.weights, len(texts))

    def _run(self, encodings: list[Encoding]) -> Array:
        return self.engine.run("logits", **self.tokens.arrays(encodings))


class EmotionClasses(TextClasses):
    """Answers ``emotion`` with the labels the model was trained on."""

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[Any]:
        """Return the likeliest emotion of each row, or {emotion: probability} with ``top_k``."""
        scores = self.probabilities(rows, options)
        found = [ranked(self.labels, row, options.get("top_k", 1)) for row in scores]
        return found if "top_k" in options else [next(iter(row)) for row in found]


def check_known(labels: Sequence[str], known: Sequence[str]) -> None:
    """Refuse labels the model was not trained on.

    Raises:
        InputError: one of them is not among ``known``.
    """
    unknown = [label for label in labels if label not in known]
    if unknown:
        raise InputError(
            f"This model has no label {unknown[0]!r}; it knows: {', '.join(known[:30])}"
            f"{' …' if len(known) > 30 else ''}. For labels of your own use a zero-shot model."
        )
