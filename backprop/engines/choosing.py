"""Which token comes next, in NumPy: the rules of ``Decoding`` for one row at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backprop.engines import Array, Decoding, Generation
from backprop.errors import InputError

__all__ = ["Next", "Noise", "Rules", "Single", "log_softmax"]

Next = Callable[[Sequence[int]], list[int]]
"""Given a row's new tokens so far, those that may come next."""


@dataclass(frozen=True)
class Rules:
    """What makes scores of logits; the order is transformers' own.

    Args:
        decoding: how to choose.
        prompt: tokens before the new ones.
        ends: tokens that end a text.
        forced: tokens one of which is always the last that there is room for.
        allowed: which tokens may come next; any by default.
    """

    decoding: Decoding
    prompt: Sequence[int]
    ends: frozenset[int]
    forced: Sequence[int] = ()
    allowed: Next | None = None

    def scores(self, logits: Array, tokens: Sequence[int]) -> Array:
        """Return the scores of a row's next token, shape (vocabulary,).

        Logits stay as they are, and are what is returned where there is no rule.

        Raises:
            InputError: no token is allowed.
        """
        own = self.decoding
        # Some models name an end that they have no logit for.
        ends = [end for end in self.ends if end < len(logits)]
        penalised = own.repetition_penalty != 1
        early = len(tokens) < own.min_new
        last = bool(self.forced) and len(tokens) == own.max_new - 1
        if not (penalised or early or last or own.sample or self.allowed):
            return logits
        scores = logits.astype(np.float32)
        if penalised:
            seen = np.unique([*self.prompt, *tokens])
            there, factor = scores[seen], np.float32(own.repetition_penalty)
            scores[seen] = np.where(there < 0, there * factor, there / factor)
        if early:
            scores[ends] = -np.inf
        if self.allowed is not None:
            scores = _only(scores, self.allowed(tokens))
        if last:
            scores = np.full_like(scores, -np.inf)
            scores[list(self.forced)] = 0
        if not own.sample:
            return scores
        # Beams need others to go on with where all ends are likeliest.
        return _warped(scores, own, least=1 if own.beams == 1 else len(self.ends) + 1)

    def end(self, tokens: Sequence[int]) -> bool:
        """Whether a row ends with its newest token."""
        own = self.decoding
        full = len(tokens) >= own.max_new
        return tokens[-1] in self.ends or full or (own.stop is not None and own.stop(tokens))

    def generation(self, tokens: Sequence[int], total: float) -> Generation:
        """Return a row that has ended.

        Args:
            tokens: perhaps with an end token.
            total: sum of their log-probabilities.
        """
        score = total / max(len(tokens), 1) if self.decoding.scored else math.nan
        ended = bool(tokens) and tokens[-1] in self.ends
        return Generation(list(tokens[:-1] if ended else tokens), score)


def _only(scores: Array, allowed: Sequence[int]) -> Array:
    """Return scores of what is allowed alone, even if it was ruled out before."""
    if not len(allowed):
        raise InputError("No token may come next; allow one at least.")
    own = list(allowed)
    found = np.full_like(scores, -np.inf)
    found[own] = scores[own] if np.isfinite(scores[own]).any() else 0
    return found


def _warped(scores: Array, decoding: Decoding, *, least: int) -> Array:
    """Return scores for sampling: by temperature, then of the likeliest only, so many at least."""
    scores = scores / np.float32(decoding.temperature)
    top_k = max(decoding.top_k, least) if decoding.top_k else 0
    if 0 < top_k < len(scores):
        scores[scores < np.partition(scores, -top_k)[-top_k]] = -np.inf
    if decoding.top_p < 1:
        order = np.argsort(scores, kind="stable")
        sums = np.cumsum(np.exp(log_softmax(scores[order]), dtype=np.float64))
        unlikely = order[:-least][sums[:-least] <= 1 - decoding.top_p]
        scores[unlikely] = -np.inf
    return scores


def log_softmax(scores: Array) -> Array:
    """Return log-probabilities along the last axis."""
    most = scores.max(axis=-1, keepdims=True)
    shifted = scores - most
    found: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


class Noise:
    """Gumbel noise by position: with it added, the largest score is a sample of the softmax.

    The same position always has the same noise, so that a guessed token can be checked.

    Source: the Gumbel-max trick, Maddison et al. 2014, arXiv:1411.0030.

    Args:
        seed: makes it repeatable.
        copy: number of the sequence among those of one prompt.
        size: scores at a position.
    """

    def __init__(self, seed: int | None, copy: int, size: int) -> None:
        self.random = np.random.default_rng(None if seed is None else [copy, seed % 2**64])
        self.size = size
        self.start = 0
        self.drawn: list[NDArray[np.float32]] = []

    def at(self, position: int) -> NDArray[np.float32]:
        """Return the noise of a position."""
        while self.start + len(self.drawn) <= position:
            drawn = self.random.standard_exponential(self.size, np.float32)
            self.drawn.append(-np.log(np.maximum(drawn, np.finfo(np.float32).tiny)))
        return self.drawn[position - self.start]

    def forget(self, position: int) -> None:
        """Give up the noise before a position, which is not asked for again."""
        del self.drawn[: max(position - self.start, 0)]
        self.start = max(position, self.start)


class Single:
    """One row that takes its likeliest token, or samples.

    Args:
        rules: see ``Rules``.
        noise: for samples.
    """

    rows = 1

    def __init__(self, rules: Rules, noise: Noise | None) -> None:
        self.rules = rules
        self.noise = noise
        self.tokens: list[int] = []
        self.total = 0.0
        self.done = False

    @property
    def next(self) -> list[int]:
        """The token that the model is to read."""
        return self.tokens[-1:]

    @property
    def left(self) -> int:
        """How many tokens there is room for."""
        return self.rules.decoding.max_new - len(self.tokens)

    def advance(self, logits: Array) -> Sequence[int]:
        """Take the next token and return (0,), which row it continues.

        Args:
            logits: shape (1, vocabulary).
        """
        scores = self.rules.scores(logits[0], self.tokens)
        token = self._choice(scores)
        if self.rules.decoding.scored:
            self.total += float(log_softmax(scores)[token])
        self.tokens.append(token)
        self.done = self.rules.end(self.tokens)
        if self.noise is not None:
            self.noise.forget(len(self.tokens))
        return (0,)

    def guess(self, logits: Array, guessed: Sequence[int]) -> int | None:
        """Return the token after those that were guessed; None if it would end the row.

        Args:
            logits: shape (1, vocabulary).
            guessed: tokens after ``tokens``.
        """
        tokens = [*self.tokens, *guessed]
        token = self._choice(self.rules.scores(logits[0], tokens), len(guessed))
        last = token in self.rules.ends or len(tokens) + 1 >= self.rules.decoding.max_new
        return None if last else token

    def results(self) -> list[Generation]:
        """Return the row."""
        return [self.rules.generation(self.tokens, self.total)]

    def _choice(self, scores: Array, ahead: int = 0) -> int:
        if self.noise is not None:
            scores = scores + self.noise.at(len(self.tokens) + ahead)
        return int(scores.argmax())
