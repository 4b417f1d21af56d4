"""Zero-shot text classification by natural language inference.

Source: Yin et al. 2019, arXiv:1909.00161.
"""

from __future__ import annotations

from typing import Any

from tokenizers import Encoding

from backprop.engines import Array, Engine
from backprop.errors import InputError
from backprop.handlers.batching import stacked
from backprop.handlers.long import fit
from backprop.handlers.probabilities import ranked, softmax
from backprop.handlers.text_vectors import average
from backprop.handlers.tokens import Tokens
from backprop.inputs import Row

__all__ = ["Entailment"]


class Entailment:
    """Answers ``text-classification`` with the caller's labels.

    Args:
        engine: has the function ``logits``.
        tokens: the model's tokenizer.
        entailment: index of the class that says the text implies the sentence.
        contradiction: index of its opposite (of a two-class model: the other class).
        template: sentence the label is put in.
    """

    def __init__(
        self,
        engine: Engine,
        tokens: Tokens,
        *,
        entailment: int,
        contradiction: int,
        template: str = "This example is {}.",
    ) -> None:
        self.engine = engine
        self.tokens = tokens
        self.entailment = entailment
        self.contradiction = contradiction
        self.template = template

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[dict[str, float]]:
        """Return {label: probability} a row, highest first.

        Args:
            rows: each has ``text`` and ``labels``.
            options: ``top_k``; ``template``; ``multi_label`` (default True: each label by itself,
                entailment against contradiction; False: entailment across labels, summing to 1);
                ``long`` (default ``chunk``: pieces are averaged).

        Raises:
            InputError: a row has no labels.
        """
        if not rows:
            return []
        if any("labels" not in row for row in rows):
            raise InputError(
                "This model classifies by labels you name and received none; pass labels=[…]."
            )
        logits = self._logits(rows, options)
        answers, start = [], 0
        for row in rows:
            own = logits[start : start + len(row["labels"])]
            start += len(row["labels"])
            if options.get("multi_label", True):
                probabilities = softmax(own)[:, 1]
            else:
                probabilities = softmax(own[:, 1])
            answers.append(ranked(row["labels"], probabilities, options.get("top_k", 0)))
        return answers

    def _logits(self, rows: list[Row], options: dict[str, Any]) -> Array:
        """Return (contradiction, entailment) of every text-label pair, shape (pairs, 2)."""
        template = options.get("template", self.template)
        pairs = [(i, label) for i, row in enumerate(rows) for label in row["labels"]]
        pieces = fit(
            self.tokens,
            [rows[i]["text"] for i, _ in pairs],
            pairs=[template.replace("{}", label) for _, label in pairs],
            rows=[i for i, _ in pairs],
            long=options.get("long", "chunk"),
        )
        logits = stacked(
            pieces.encodings, pieces.lengths, self._run, budget=self.engine.batch_tokens
        )
        own = logits[:, [self.contradiction, self.entailment]]
        return average(own, pieces.owners, pieces.weights, len(pairs))

    def _run(self, encodings: list[Encoding]) -> Array:
        return self.engine.run("logits", **self.tokens.arrays(encodings))
