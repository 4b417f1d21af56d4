"""Vectors of frozen encoders, kept in the cache by content: what was encoded once is read back.

Entries ``frozen-<encoder>-<rows>`` below ``cache_dir()/.engines`` hold some rows each: the hash of
each row's tokens and its vector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from backprop import folders
from backprop.engines import Array
from backprop.entries import is_whole, keep_newest, store
from backprop.errors import BackpropError
from backprop.handlers.plans import place

__all__ = ["Frozen", "keys_of"]

FILE = "vectors.safetensors"
DIGEST = 16
"""Bytes of a row's hash."""

MOST_BYTES = 2**28
"""Of all entries; the oldest are given up."""


def keys_of(arrays: dict[str, NDArray[Any]]) -> list[bytes]:
    """Return a hash of each row of a batch, whatever it was padded to.

    Args:
        arrays: ``attention_mask`` and others of its shape, (rows, length).
    """
    there = arrays["attention_mask"].astype(bool)
    found = []
    for i, mask in enumerate(there):
        row = hashlib.blake2b(digest_size=DIGEST)
        for name in sorted(arrays):
            row.update(name.encode() + arrays[name][i][mask].astype(np.int64).tobytes())
        found.append(row.digest())
    return found


class Frozen:
    """What is known of one encoder.

    Args:
        identity: a hash of its weights and of what comes after it.
    """

    def __init__(self, identity: str) -> None:
        self.prefix = f"frozen-{identity[:24]}-"

    def read(self) -> dict[bytes, Array]:
        """Return the vectors that are known, by the hash of their row."""
        found: dict[bytes, Array] = {}
        for entry in place("").glob(f"{self.prefix}*"):
            if not is_whole(entry, warn=False):
                continue
            arrays = load_file(entry / FILE)
            keys = [own.tobytes() for own in arrays["keys"]]
            found.update(zip(keys, arrays["vectors"], strict=True))
        return found

    def add(self, keys: Sequence[bytes], vectors: Array) -> None:
        """Keep some more; a cache that is full or can't be written stays as it is."""
        rows = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), DIGEST)
        name = self.prefix + hashlib.blake2b(rows.tobytes(), digest_size=8).hexdigest()
        arrays: dict[str, NDArray[Any]] = {
            "keys": rows.copy(),
            "vectors": np.ascontiguousarray(vectors, np.float32),
        }
        with suppress(BackpropError, OSError):
            store(place(name), lambda folder: save_file(arrays, folder / FILE))
            keep_newest(place(""), "frozen-*", MOST_BYTES, folders.tree_bytes)
