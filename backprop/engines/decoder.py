"""Text generation on ONNX Runtime: decoders on the CPU, without torch.

A prompt is read at once. Then all rows write a token at a time; a row that has ended makes room for
the next prompt. A row that is alone guesses tokens ahead, see ``guessing``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from backprop.engines import Allowed, Array, Decoding, Generation
from backprop.engines.beams import Beams
from backprop.engines.choosing import Next, Noise, Rules, Single
from backprop.engines.guessing import Guesses
from backprop.engines.memory import Memory, Network
from backprop.errors import InputError

__all__ = ["ONNXDecoder"]

MOST_ROWS = 32
MOST_BYTES = 2**31
"""Of keys and values; a single row may have more."""

Group = Single | Beams
"""The rows that one prompt has at a time."""


class ONNXDecoder:
    """Continues token sequences with a decoder that was converted.

    Args:
        decoder: see ``network``.
        ends: tokens that end a text.
        forced: tokens one of which is always the last that there is room for.
        exact: whether tokens are those of the exact network, or of the one in 8 bits.
        torch: not needed: this engine knows all of ``Decoding``.
    """

    limits: Mapping[str, int] = {"budget": 10**9, "max_rows": 10**9}
    """Any number of prompts at once: rows that end make room for others."""

    def __init__(
        self,
        decoder: Network,
        *,
        ends: Sequence[int],
        forced: Sequence[int] = (),
        exact: bool = True,
        torch: object = None,
    ) -> None:
        self.decoder = decoder
        self.exact = exact
        self.ends = frozenset(ends)
        self.forced = list(forced)
        decoder.session(exact)  # so that what can't be opened is known at once

    @staticmethod
    def network(folder: Path) -> Network:
        """Return the decoder that was converted into ``folder``."""
        return Network(folder)

    def generate(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, allowed: Allowed | None = None
    ) -> list[list[Generation]]:
        """Return the generations of each prompt, best first.

        Args:
            prompts: token ids, one at least.
            decoding: how to choose.
            allowed: which tokens may come next, given a prompt's number and its new tokens.

        Raises:
            InputError: a prompt is empty, or there is no room for it and what is to be written.
        """
        rows = [
            self._groups(prompt, decoding, None if allowed is None else partial(allowed, i))
            for i, prompt in enumerate(prompts)
        ]
        for _ in self._run([group for own in rows for group in own]):
            pass
        return [[each for group in own for each in group.results()] for own in rows]

    def logits(self, tokens: Sequence[int]) -> Array:
        """Return the logits after the tokens, shape (vocabulary,)."""
        memory = Memory(self.decoder, 1, len(tokens), exact=self.exact)
        try:
            [logits] = memory.read(0, tokens, {})
            found: Array = logits
            return found
        finally:
            memory.close()

    def stream(self, prompt: Sequence[int], decoding: Decoding) -> Iterator[int]:
        """Yield the new tokens of one prompt as they come, without the end token."""
        [group] = self._groups(prompt, decoding, None)
        sent = 0
        for _ in self._run([group]):
            if group.done or isinstance(group, Single):
                tokens = group.results()[0].tokens
                yield from tokens[sent:]
                sent = len(tokens)

    def _groups(
        self, prompt: Sequence[int], decoding: Decoding, allowed: Next | None
    ) -> list[Group]:
        places = self.decoder.shape.places
        if not prompt or len(prompt) + decoding.max_new - 1 > places:
            raise InputError(
                f"The prompt has {len(prompt)} tokens and {decoding.max_new} are to be written; "
                f"the model has room for 1 to {places} in all."
            )
        rules = Rules(decoding, prompt, self.ends, self.forced, allowed)
        size = self.decoder.shape.vocabulary
        if decoding.beams > 1:
            noise = Noise(decoding.seed, 0, size * decoding.beams) if decoding.sample else None
            return [Beams(rules, noise)]
        if not decoding.sample:
            return [Single(rules, None)]
        return [
            Single(rules, Noise(decoding.seed, copy, size)) for copy in range(decoding.sequences)
        ]

    def _run(self, groups: Sequence[Group]) -> Iterator[None]:
        """Let all groups, which have as many rows each, write until they are done.

        Yields:
            None each time some have new tokens.
        """
        if not groups:
            return
        waiting, batch = deque(groups), _Batch(self.decoder, groups, exact=self.exact)
        try:
            while waiting or batch.active:
                batch.admit(waiting)
                yield
                if batch.active:
                    batch.turn()
                    yield
        finally:
            batch.memory.close()


class _Batch:
    """Groups that write together, the rows of each after those of the one before."""

    def __init__(self, decoder: Network, groups: Sequence[Group], *, exact: bool) -> None:
        shape = decoder.shape
        room = max(len(own.rules.prompt) + own.rules.decoding.max_new for own in groups)
        size = 8 * shape.layers * shape.kv_heads * shape.head_size * room
        self.width = groups[0].rows
        most = min(MOST_ROWS, max(MOST_BYTES // size, 1))
        self.most = min(max(most // self.width, 1), len(groups))
        self.memory = Memory(decoder, self.most * self.width, room, exact=exact)
        self.active: list[Group] = []
        self.guesses = Guesses()

    def admit(self, waiting: deque[Group]) -> None:
        """Read prompts into the rows that are free."""
        memory, width = self.memory, self.width
        read: Sequence[int] | None = None
        logits: Array = np.zeros(0)
        while waiting and len(self.active) < self.most:
            group = waiting.popleft()
            prompt, row = group.rules.prompt, len(self.active) * width
            if prompt is not read:  # of copies, the first reads for all
                known = {i * width: own.rules.prompt for i, own in enumerate(self.active)}
                logits, read, source = memory.read(row, prompt, known), prompt, row
            for to in range(row, row + width):
                if to != source:
                    memory.copy(source, to, len(prompt))
            group.advance(np.repeat(logits, width, axis=0))
            if not group.done:
                self.active.append(group)

    def turn(self) -> None:
        """Let each group write a token, or a group that is alone several."""
        [group, *others] = self.active
        if not others and isinstance(group, Single) and self.guesses.pays(self.memory, group):
            self.guesses.advance(self.memory, group)
            self.active = [] if group.done else [group]
            return
        tokens = np.array([[token] for own in self.active for token in own.next])
        logits = self.memory.step(tokens)
        rows = []
        for i, own in enumerate(self.active):
            start = i * self.width
            parents = own.advance(logits[start : start + self.width])
            rows.append([start + parent for parent in parents])
        self._close([i for i, own in enumerate(self.active) if not own.done], rows)

    def _close(self, left: list[int], rows: list[list[int]]) -> None:
        """Keep the groups that are left, the last ones in the places of those that are done."""
        movers = [i for i in left if i >= len(left)]
        order = [place if place in left else movers.pop() for place in range(len(left))]
        self.active = [self.active[i] for i in order]
        self.memory.keep([row for i in order for row in rows[i]])
