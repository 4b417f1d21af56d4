"""Beam search for one prompt, in NumPy, step by step as transformers does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backprop.engines import Array, Generation
from backprop.engines.choosing import Noise, Rules, log_softmax

__all__ = ["Beams"]

NEVER = -1.0e9
"""Score of what must not be taken while there is anything else."""


@dataclass(frozen=True)
class _Beam:
    """Tokens, the sum of their log-probabilities, and, once ended, what it is ranked by."""

    tokens: list[int]
    total: float
    rank: float = NEVER


class Beams:
    """The beams of one prompt.

    Args:
        rules: see ``Rules``.
        noise: for samples, of as many scores as all beams have.
    """

    def __init__(self, rules: Rules, noise: Noise | None) -> None:
        self.rules = rules
        self.noise = noise
        self.rows = rules.decoding.beams
        # All but the first are copies of it as yet.
        self.running = [_Beam([], 0.0 if row == 0 else NEVER) for row in range(self.rows)]
        self.ended: list[_Beam] = []
        self.improving = True
        self.done = False

    @property
    def next(self) -> list[int]:
        """The token of each beam that the model is to read."""
        return [beam.tokens[-1] for beam in self.running]

    def advance(self, logits: Array) -> Sequence[int]:
        """Take a token for each beam and return which beam each of them continues.

        Args:
            logits: shape (rows, vocabulary).
        """
        step = len(self.running[0].tokens)
        scores = np.stack(
            [
                self.rules.scores(own, beam.tokens) + np.float32(beam.total)
                for own, beam in zip(log_softmax(logits), self.running, strict=True)
            ]
        )
        candidates = [
            (parent, _Beam([*self.running[parent].tokens, token], total))
            for parent, token, total in self._best(scores, step)
        ]
        ends = [self.rules.end(beam.tokens) for _, beam in candidates]
        likeliest = zip(candidates[: self.rows], ends[: self.rows], strict=True)
        self._end([beam for (_, beam), end in likeliest if end])
        ranked = sorted(zip(ends, candidates, strict=True), key=_rank)
        chosen = [
            (parent, _Beam(beam.tokens, beam.total + NEVER * end))
            for end, (parent, beam) in ranked[: self.rows]
        ]
        self.running = [beam for _, beam in chosen]
        own = self.rules.decoding
        if len(self.ended) == self.rows:
            best = self.running[0].total / (step + 1) ** own.length_penalty
            self.improving = self.improving and best > self.ended[-1].rank
        full = len(self.ended) == self.rows and own.stop_early
        self.done = not self.improving or full or all(ends)
        return [parent for parent, _ in chosen]

    def results(self) -> list[Generation]:
        """Return the best that have ended, best first."""
        best = [*self.ended, *self.running][: self.rules.decoding.sequences]
        return [self.rules.generation(beam.tokens, beam.total) for beam in best]

    def _best(self, scores: Array, step: int) -> list[tuple[int, int, float]]:
        """Return (beam, token, total) of the best continuations, enough for all to end but one."""
        count = max(2, 1 + len(self.rules.ends)) * self.rows
        flat = scores.reshape(-1)
        drawn = flat
        if self.noise is not None:
            drawn = flat + self.noise.at(step)
            self.noise.forget(step + 1)
        top = np.argpartition(drawn, -count)[-count:]
        top = top[np.argsort(-drawn[top], kind="stable")]
        width = scores.shape[1]
        return [(int(i) // width, int(i) % width, float(flat[i])) for i in top]

    def _end(self, beams: Sequence[_Beam]) -> None:
        """Keep the best of those that have ended."""
        own = self.rules.decoding
        if not self.improving or (len(self.ended) == self.rows and own.stop_early):
            return
        for beam in beams:
            rank = beam.total / len(beam.tokens) ** own.length_penalty
            self.ended.append(_Beam(beam.tokens, beam.total, rank))
        self.ended = sorted(self.ended, key=lambda beam: -beam.rank)[: self.rows]


def _rank(candidate: tuple[bool, tuple[int, _Beam]]) -> tuple[bool, float]:
    end, (_, beam) = candidate
    return end, -beam.total
