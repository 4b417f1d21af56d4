"""Tokens guessed ahead for a row that is alone, and checked all at once.

Writing one token reads every weight from memory, and takes as long as checking eight. So some are
guessed: what followed the same words before, or what the same network writes in 8 bits, which reads
a quarter of the memory. The exact network checks them in one run; what it would not have written
itself is dropped. So results are those of the exact network, but for the last bits of its scores,
which differ between one token at a time and several.

Sources: speculative decoding, Leviathan et al. 2022, arXiv:2211.17192; here the choice at a
position is a function of its scores (samples add noise that is fixed for the position), so that a
guess is right or wrong. Guesses from the text itself: Saxena 2023, "Prompt Lookup Decoding".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backprop.engines.choosing import Single
from backprop.engines.memory import Memory

__all__ = ["Guesses"]

MOST_WRITTEN = 4
"""Tokens guessed by the quick network; each takes a third of a check."""

MOST_FOUND = 7
"""Tokens guessed from the text; a check of eight takes a third longer than of one."""

SAME = 3
"""Tokens that must have come before in the same order for what followed them to be a guess."""

LEAST_TO_OPEN = 16
"""Tokens still to be written for which opening the quick network pays."""

LEAST_RATE = 0.4
"""Share of guesses that must be right."""

PAUSE = 32
"""Steps without guesses after too many were wrong."""


class Guesses:
    """How many tokens to guess, and whether that is worth it."""

    def __init__(self) -> None:
        self.count = 3
        self.rate = 1.0
        self.pause = 0

    def pays(self, memory: Memory, group: Single) -> bool:
        """Whether to guess now: guesses were mostly right, and there is enough left to write."""
        if not (memory.exact and memory.network.has_quick):
            return False
        self.pause -= 1
        return self.pause < 0 and group.left > (2 if memory.network.is_quick else LEAST_TO_OPEN)

    def advance(self, memory: Memory, group: Single) -> None:
        """Guess tokens, check them and take those that are right, and the one after them."""
        past = int(memory.past[0])
        text = [*group.rules.prompt, *group.tokens]
        guessed = followed(text, min(MOST_FOUND, group.left - 1))
        if len(guessed) < 2:
            guessed = self._written(memory, group)
        memory.past[0] = past
        tokens = [*group.next, *guessed]
        logits = memory.step(np.array([tokens]))
        right = 0
        for place, own in enumerate(logits):
            memory.past[0] = past + place + 1
            group.advance(own[None])
            if group.done or guessed[place : place + 1] != group.next:
                break
            right += 1
        self._learn(len(guessed), right)

    def _written(self, memory: Memory, group: Single) -> list[int]:
        """Return tokens by the quick network."""
        guessed: list[int] = []
        [token] = group.next
        while len(guessed) < self.count:
            logits = memory.step(np.array([[token]]), exact=False)
            found = group.guess(logits, guessed)
            if found is None:
                break
            guessed.append(found)
            token = found
        return guessed

    def _learn(self, guessed: int, right: int) -> None:
        if not guessed:
            return
        self.count = min(self.count + 1, MOST_WRITTEN) if right == guessed else max(right, 2)
        self.rate += 0.2 * (right / guessed - self.rate)
        if self.rate < LEAST_RATE:
            self.rate, self.pause = 1.0, PAUSE


def followed(tokens: Sequence[int], most: int) -> list[int]:
    """Return what came after the last ``SAME`` tokens when they last came before, or nothing."""
    text = np.asarray(tokens)
    starts = len(text) - SAME
    if starts < 1 or most < 1:
        return []
    same = np.ones(starts, bool)
    for i in range(SAME):
        same &= text[i : i + starts] == text[starts + i]
    places = np.flatnonzero(same)
    if not len(places):
        return []
    after = int(places[-1]) + SAME
    found: list[int] = text[after : after + most].tolist()
    return found
