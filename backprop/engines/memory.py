"""A decoder's files, and what it keeps of the tokens that it has read."""

from __future__ import annotations

import json
import math
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.engines import Array
from backprop.engines.onnx import open_session
from backprop.engines.threads import threads

__all__ = ["EMBEDDINGS", "EXACT", "POSITIONS", "QUICK", "SHAPE", "Memory", "Network", "Shape"]

EMBEDDINGS, POSITIONS, SHAPE = "embeddings.npy", "positions.npy", "shape.json"
EXACT, QUICK = "exact.onnx", "quick.onnx"

PIECE = 256
"""Tokens of a prompt that are read at once; attention's memory grows with their square."""

MOST_SPARE_BYTES = 2**28
"""Of keys and values that are kept for the next call to write over."""

MOST_KNOWN_BYTES = 2**26
"""Of keys and values of a prompt that are kept for the next one, which often begins alike."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder; ``places`` is the most tokens of a row."""

    places: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int


class Network:
    """The files of a decoder, opened when they are needed.

    Args:
        folder: as ``to_decoder`` wrote it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shape = Shape(**json.loads((folder / SHAPE).read_text("utf-8")))
        self.embeddings: Array = np.load(folder / EMBEDDINGS, mmap_mode="r")
        places = folder / POSITIONS
        self.positions: Array | None = np.load(places) if places.exists() else None
        self.sessions: dict[bool, Any] = {}
        self.lock = threading.Lock()
        self.spare: deque[Array] = deque(maxlen=1)
        """Memory that is not in use: the system takes long to hand out so much anew."""

        self.known: dict[bool, tuple[NDArray[np.int64], Array]] = {}
        """The prompt that was read last, and its keys and values, by network."""

    def session(self, exact: bool) -> Any:
        """Return the exact network's session, or that of the one in 8 bits."""
        with self.lock:
            if exact not in self.sessions:
                path = self.folder / (EXACT if exact else QUICK)
                self.sessions[exact] = open_session(path, threads())
            return self.sessions[exact]

    @property
    def has_quick(self) -> bool:
        """Whether there is a network in 8 bits: open, or in its file still."""
        return self.is_quick or (self.folder / QUICK).exists()

    @property
    def is_quick(self) -> bool:
        """Whether the network in 8 bits is open."""
        return False in self.sessions

    def take(self, size: int) -> Array:
        """Return an array of at least so many numbers, whatever they are."""
        try:
            spare = self.spare.pop()
        except IndexError:
            spare = np.zeros(0, np.float32)
        return spare if len(spare) >= size else np.zeros(size, np.float32)

    def vectors(self, tokens: NDArray[np.int64], past: NDArray[np.int32]) -> Array:
        """Return what the first layer reads, shape (rows, length, width).

        Args:
            tokens: shape (rows, length).
            past: tokens before them, shape (rows,).
        """
        found: Array = self.embeddings[tokens]
        if self.positions is not None:
            found = found + self.positions[past[:, None] + np.arange(tokens.shape[1])]
        return found


class Memory:
    """Keys and values of rows of tokens.

    Args:
        network: whose.
        rows: most rows.
        room: most tokens a row.
        exact: which network reads: the exact one, or the one in 8 bits.
    """

    def __init__(self, network: Network, rows: int, room: int, *, exact: bool = True) -> None:
        shape = network.shape
        self.network = network
        self.exact = exact
        self.past = np.zeros(rows, np.int32)
        size = (2 * shape.layers, rows, shape.kv_heads, room, shape.head_size)
        self.whole = network.take(math.prod(size))
        self.kept = self.whole[: math.prod(size)].reshape(size)
        self._steps: dict[tuple[bool, int, int], _Step] = {}

    def close(self) -> None:
        """Leave the memory to the next call; this is not used any more."""
        if self.whole.nbytes <= MOST_SPARE_BYTES:
            self.network.spare.append(self.whole)

    def read(self, row: int, prompt: Sequence[int], known: Mapping[int, Sequence[int]]) -> Array:
        """Read a prompt into a row and return the logits after it, shape (1, vocabulary).

        What it begins with is copied where it has been read already. That gives the same bits,
        for a token read with others; read alone, it comes out a little differently.

        Args:
            row: its number.
            prompt: tokens, one at least.
            known: rows of this memory to the prompts that they begin with.
        """
        tokens = np.asarray(prompt, np.int64)
        start = self._recall(row, tokens, known)
        self.past[row] = start
        logits: Array = np.zeros(0)
        while start < len(tokens):
            end = start + PIECE
            end -= end == len(tokens) - 1  # so that none is left alone
            piece = tokens[None, start:end]
            own = slice(row, row + 1)
            logits = _Step(self, self.exact, own, piece.shape[1], every=False)(piece)
            start = end
        kept = self.kept[:, row, :, : len(tokens)]
        if kept.nbytes <= MOST_KNOWN_BYTES:
            self.network.known[self.exact] = tokens, kept.copy()
        return logits

    def _recall(
        self, row: int, tokens: NDArray[np.int64], known: Mapping[int, Sequence[int]]
    ) -> int:
        """Copy what is known of a prompt into a row and return how many tokens that is."""
        most = max(len(tokens) - 2, 0)
        found = {other: min(common(tokens, own), most) for other, own in known.items()}
        other = max(found, key=found.__getitem__, default=row)
        here = found.get(other, 0)
        earlier, kept = self.network.known.get(self.exact, (tokens[:0], self.whole))
        there = min(common(tokens, earlier), most)
        if there > here:
            self.kept[:, row, :, :there] = kept[:, :, :there]
        elif other != row:
            self.copy(other, row, here)
        return max(here, there)

    def step(self, tokens: NDArray[np.int64], *, exact: bool | None = None) -> Array:
        """Read tokens into the first rows and return the logits after each of them.

        Args:
            tokens: shape (rows, length).
            exact: by which network, if not by the memory's own.

        Returns:
            Shape (rows * length, vocabulary); the next step of that size writes over it.
        """
        rows, length = tokens.shape
        key = (self.exact if exact is None else exact, rows, length)
        if key not in self._steps:
            # Other numbers of rows hardly come again: rows become fewer.
            self._steps = {one: step for one, step in self._steps.items() if one[1] == rows}
            self._steps[key] = _Step(self, key[0], slice(rows), length, every=True)
        return self._steps[key](tokens)

    def copy(self, row: int, to: int, length: int) -> None:
        """Copy the first tokens of a row."""
        self.kept[:, to, :, :length] = self.kept[:, row, :, :length]
        self.past[to] = length

    def keep(self, rows: Sequence[int]) -> None:
        """Let each row be what the row of that number was; the others are given up."""
        moved = [i for i, row in enumerate(rows) if i != row]
        if not moved:
            return
        sources = [rows[i] for i in moved]
        used = int(self.past[sources].max())
        self.kept[:, moved, :, :used] = self.kept[:, sources, :, :used]
        self.past[moved] = self.past[sources]


class _Step:
    """A run of a network on rows of the memory, bound to where its arrays lie.

    Args:
        memory: whose arrays.
        exact: by which network.
        rows: which.
        length: tokens of each.
        every: whether there are logits after every token, or after the last of each row.
    """

    def __init__(
        self, memory: Memory, exact: bool, rows: slice, length: int, *, every: bool
    ) -> None:
        shape = memory.network.shape
        self.session = memory.network.session(exact)
        self.memory = memory
        self.rows = rows
        count = len(memory.past[rows])
        self.pick = np.arange(0 if every else length - 1, count * length, 1 if every else length)
        self.vectors = np.zeros((count, length, shape.width), np.float32)
        self.last = np.zeros(count, np.int32)
        self.longest = np.zeros(1, np.int32)
        self.logits = np.zeros((len(self.pick), shape.vocabulary), np.float32)
        self.binding = self.session.io_binding()
        inputs: dict[str, NDArray[Any]] = {
            "vectors": self.vectors,
            "last": self.last,
            "longest": self.longest,
            "pick": self.pick,
        }
        for name, array in inputs.items():
            self._bind(self.binding.bind_input, name, array)
        self._bind(self.binding.bind_output, "logits", self.logits)
        for i in range(shape.layers):
            for kind, number in (("keys", 2 * i), ("values", 2 * i + 1)):
                own = memory.kept[number, rows]
                self._bind(self.binding.bind_input, f"{kind}_{i}", own)
                self._bind(self.binding.bind_output, f"new_{kind}_{i}", own)

    @staticmethod
    def _bind(bind: Any, name: str, array: NDArray[Any]) -> None:
        bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def __call__(self, tokens: NDArray[np.int64]) -> Array:
        past = self.memory.past[self.rows]
        self.vectors[:] = self.memory.network.vectors(tokens, past)
        # The operator wants what comes before the newest token, and the longest row in all.
        self.last[:] = past + tokens.shape[1] - 1
        self.longest[0] = self.last.max() + 1
        self.session.run_with_iobinding(self.binding)
        past += tokens.shape[1]
        return self.logits


def common(tokens: NDArray[np.int64], others: Sequence[int] | NDArray[np.int64]) -> int:
    """Return how many tokens two texts begin with alike."""
    length = min(len(tokens), len(others))
    differ = np.flatnonzero(tokens[:length] != np.asarray(others[:length]))
    return int(differ[0]) if len(differ) else length
