"""Extractive question answering: the best span of the context, over sliding windows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Encoding

from backprop.engines import Array, Engine
from backprop.handlers.batching import in_batches
from backprop.handlers.long import fit
from backprop.handlers.probabilities import sigmoid
from backprop.handlers.tokens import Tokens
from backprop.inputs import Row

__all__ = [
    "Span",
    "SpanAnswers",
    "answer_of",
    "located",
    "null_place",
    "whole_words",
    "with_history",
]

MAX_ANSWER_TOKENS = 30


@dataclass(frozen=True)
class Span:
    """A piece of a context.

    Args:
        text: the characters from ``start`` to ``end`` of the context; empty for no answer.
        score: between 0 and 1.
        start: first character.
        end: one past the last character.
    """

    text: str
    score: float
    start: int
    end: int


def answer_of(span: Span, options: dict[str, Any]) -> Any:
    """Return the span's text, or with ``details`` its score and place too."""
    if not options.get("details", False):
        return span.text
    return {"answer": span.text, "score": span.score, "start": span.start, "end": span.end}


def whole_words(context: str, start: int, end: int, score: float) -> Span:
    """Return the span with the words it begins and ends in whole, and no white space around.

    Some tokenizers cut words, and some count the space before a word to it.
    """
    while start < end and context[start].isspace():
        start += 1
    while start < end and context[end - 1].isspace():
        end -= 1
    while 0 < start < end and context[start - 1].isalnum() and context[start].isalnum():
        start -= 1
    while start < end < len(context) and context[end].isalnum() and context[end - 1].isalnum():
        end += 1
    return Span(context[start:end], score, start, end)


def located(context: str, answer: str) -> tuple[int, int] | None:
    """Return the first character of ``answer`` in ``context``, and one past its last.

    Whole words come before parts of words, and the same case before another; white space may
    differ. None where it is not there, or is empty.
    """
    words = answer.split()
    if not words:
        return None
    pattern = r"\s+".join(map(re.escape, words))
    for form in (rf"(?<!\w){pattern}(?!\w)", pattern):
        for flags in (0, re.IGNORECASE):
            found = re.search(form, context, flags)
            if found:
                return found.span()
    return None


def null_place(ids: Sequence[int], token: int | None) -> int:
    """Return the place of the token whose scores stand for no answer: the first, or ``token``."""
    return ids.index(token) if token is not None and token in ids else 0


def with_history(row: Row) -> str:
    """Return the question with the earlier questions and answers before it."""
    turns = zip(row.get("prev_q", ()), row.get("prev_a", ()), strict=True)
    return " ".join([f"{question} {answer}" for question, answer in turns] + [row["question"]])


class SpanAnswers:
    """Answers ``qa`` with a model that scores each token as start and end of the answer.

    Args:
        engine: has the function ``spans``; column 0 is start, 1 is end.
        tokens: the model's tokenizer.
        no_answer_bias: added to the null score when ``allow_no_answer``.
        brevity: times the natural logarithm of a span's number of tokens, taken off its score.
            Start and end are scored alone, so without it they are sometimes those of two answers,
            with a sentence between.
        stride: tokens that neighbouring windows share.
        null_token: id of the token whose scores stand for no answer, which some models have last;
            the first token by default.

    Source: spans and null score, Devlin et al. 2018, arXiv:1810.04805, section 4.3.
    """

    def __init__(
        self,
        engine: Engine,
        tokens: Tokens,
        *,
        no_answer_bias: float = 0.0,
        brevity: float = 0.0,
        stride: int = 128,
        null_token: int | None = None,
    ) -> None:
        self.engine = engine
        self.tokens = tokens
        self.no_answer_bias = no_answer_bias
        self.brevity = brevity
        self.stride = stride
        self.null_token = null_token

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[Any]:
        """Return one answer a row, always characters of its context.

        Args:
            rows: each has ``question``, ``context`` and perhaps ``prev_q``, ``prev_a``.
            options: ``details``, ``allow_no_answer``, ``long`` (default ``chunk``: a window
                slides over the context and the best span of all windows is the answer).
        """
        if not rows:
            return []
        windows = fit(
            self.tokens,
            [row["context"] for row in rows],
            pairs=[with_history(row) for row in rows],
            long=options.get("long", "chunk"),
            stride=self.stride,
            pair_first=True,
        )
        logits = in_batches(
            windows.encodings, windows.lengths, self._run, budget=self.engine.batch_tokens
        )
        found: list[list[_Candidate]] = [[] for _ in rows]
        for owner, encoding, scores in zip(windows.owners, windows.encodings, logits, strict=True):
            found[owner].append(_best(scores, encoding, self.null_token, self.brevity))
        return [
            answer_of(self._choose(row["context"], candidates, options), options)
            for row, candidates in zip(rows, found, strict=True)
        ]

    def _choose(self, context: str, candidates: list[_Candidate], options: dict[str, Any]) -> Span:
        """Return the best span of all windows, or none where even that loses to the null span."""
        best = max(candidates, key=lambda candidate: candidate.score)
        null = min(candidate.null for candidate in candidates) + self.no_answer_bias
        probability = float(sigmoid(np.asarray(best.score - null)))
        if options.get("allow_no_answer", False) and best.score < null:
            return Span("", 1 - probability, 0, 0)
        return whole_words(context, best.start, best.end, probability)

    def _run(self, encodings: list[Encoding]) -> Sequence[Array]:
        """Return each row's logits without padding, shape (its length, 2)."""
        logits = self.engine.run("spans", **self.tokens.arrays(encodings))
        rows = zip(logits, encodings, strict=True)
        if self.tokens.pad_left:
            return [row[-len(encoding.ids) :] for row, encoding in rows]
        return [row[: len(encoding.ids)] for row, encoding in rows]


@dataclass(frozen=True)
class _Candidate:
    """A window's best span: its score, the window's null score, and its characters."""

    score: float
    null: float
    start: int
    end: int


def _best(logits: Array, encoding: Encoding, null_token: int | None, brevity: float) -> _Candidate:
    inside = np.array([sequence == 1 for sequence in encoding.sequence_ids])
    starts = np.where(inside, logits[:, 0], -np.inf)
    ends = np.where(inside, logits[:, 1], -np.inf)
    scores = starts[:, None] + ends[None, :]
    distance = np.arange(len(starts))[None, :] - np.arange(len(starts))[:, None]
    in_reach = (distance >= 0) & (distance < MAX_ANSWER_TOKENS)
    scores = scores - brevity * np.log1p(np.maximum(distance, 0))
    scores = np.where(in_reach, scores, -np.inf)
    first, last = np.unravel_index(int(np.argmax(scores)), scores.shape)
    start, end = encoding.offsets[first][0], encoding.offsets[last][1]
    null = float(logits[null_place(encoding.ids, null_token)].sum())
    return _Candidate(float(scores[first, last]), null, start, end)
