"""What comes after a text encoder, in NumPy: pooling, linear layers, scaling to norm 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backprop.engines import Array

__all__ = ["POOLS", "Linear", "Step", "Tail"]


@dataclass(frozen=True)
class Linear:
    """A linear layer.

    Args:
        weight: shape (outputs, inputs), float32.
        bias: shape (outputs,), or None.
    """

    weight: Array
    bias: Array | None

    def __call__(self, values: Array) -> Array:
        """Return shape (…, outputs)."""
        found: Array = values @ self.weight.T
        return found if self.bias is None else found + self.bias


Step: TypeAlias = "Linear | str"
"""A layer, or the name of a function in ``FUNCTIONS``."""


@dataclass(frozen=True)
class Tail:
    """Turns an encoder's hidden states into what a function returns.

    Args:
        pool: one of ``POOLS``.
        steps: applied one after the other.
    """

    pool: str
    steps: Sequence[Step] = ()

    def __call__(self, hidden: Array, mask: NDArray[np.int64]) -> Array:
        """Return the result, float32.

        Args:
            hidden: shape (n, length, width).
            mask: shape (n, length), 1 for tokens and 0 for padding.
        """
        values = POOLS[self.pool](hidden, mask)
        for step in self.steps:
            values = FUNCTIONS[step](values) if isinstance(step, str) else step(values)
        result: Array = np.asarray(values, np.float32)
        return result

    def arrays(self) -> dict[str, Array]:
        """Return the weights by the number of their step, to be saved."""
        found = {}
        for i, step in enumerate(self.steps):
            if isinstance(step, Linear):
                found[f"{i}.weight"] = step.weight
                if step.bias is not None:
                    found[f"{i}.bias"] = step.bias
        return found

    def plan(self) -> dict[str, Any]:
        """Return all else, as JSON."""
        steps = [step if isinstance(step, str) else LINEAR for step in self.steps]
        return {"pool": self.pool, "steps": steps}

    @classmethod
    def read(cls, plan: Mapping[str, Any], arrays: Mapping[str, Array]) -> Tail:
        """Return the tail that ``plan`` and ``arrays`` were made of."""
        steps: list[Step] = [
            Linear(arrays[f"{i}.weight"], arrays.get(f"{i}.bias")) if step == LINEAR else str(step)
            for i, step in enumerate(plan["steps"])
        ]
        return cls(plan["pool"], steps)


LINEAR = "linear"


def mean(hidden: Array, mask: NDArray[np.int64]) -> Array:
    """Return the mean of the tokens, shape (n, width)."""
    if mask.all():
        total: Array = hidden.mean(axis=1)
        return total
    weights = mask.astype(np.float32)
    counts = np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    # One product a row instead of a masked copy of all hidden states.
    sums: Array = np.matmul(weights[:, None, :], hidden)[:, 0]
    found: Array = sums / counts
    return found


def first(hidden: Array, mask: NDArray[np.int64]) -> Array:
    """Return the first token, shape (n, width)."""
    found: Array = hidden[:, 0]
    return found


def tokens(hidden: Array, mask: NDArray[np.int64]) -> Array:
    """Return every token, shape (n, length, width)."""
    return hidden


POOLS: Mapping[str, Callable[[Array, NDArray[np.int64]], Array]] = {
    "mean": mean,
    "first": first,
    "tokens": tokens,
}


def unit(values: Array) -> Array:
    """Return vectors with norm 1; torch's normalize has the same floor."""
    norms = np.linalg.norm(values, axis=-1, keepdims=True)
    scaled: Array = values / np.maximum(norms, 1e-12)
    return scaled


def relu(values: Array) -> Array:
    """Return values with 0 in place of what is below."""
    found: Array = np.maximum(values, 0)
    return found


FUNCTIONS: Mapping[str, Callable[[Array], Array]] = {"unit": unit, "relu": relu, "tanh": np.tanh}
