"""Batches of similar length within a token budget, answers back in the caller's order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from backprop.engines import Array

__all__ = ["LEAST_SHARE", "TOKEN_BUDGET", "in_batches", "stacked"]

Item = TypeVar("Item")
Result = TypeVar("Result")

TOKEN_BUDGET = 4096
"""Padded tokens a batch: enough to fill a CPU's matrix kernels, small enough for its caches."""

MAX_ROWS = 128

LEAST_SHARE = 0.9
"""Share of the longest row that others have at least, once there are enough of them."""


def in_batches(
    items: Sequence[Item],
    lengths: Sequence[int],
    run: Callable[[list[Item]], Iterable[Result]],
    *,
    budget: int = TOKEN_BUDGET,
    max_rows: int = MAX_ROWS,
) -> list[Result]:
    """Return ``run``'s result for each item, in order, having run items of like length together.

    Args:
        items: what to run.
        lengths: each item's length, in tokens.
        run: takes a batch, returns one result an item.
        budget: most padded tokens a batch; a single item may be longer.
        max_rows: most items a batch.
    """
    results: list[Result | None] = [None] * len(items)
    for batch in _batches(lengths, budget, max_rows):
        answers = run([items[i] for i in batch])
        for i, answer in zip(batch, answers, strict=True):
            results[i] = answer
    return [result for result in results if result is not None]


def stacked(
    items: Sequence[Item], lengths: Sequence[int], run: Callable[[list[Item]], Array], **limits: int
) -> Array:
    """Return ``in_batches`` of at least one item as one array, shape (len(items), …)."""
    results: list[Array] = in_batches(items, lengths, run, **limits)
    return np.stack(results)


def _batches(lengths: Sequence[int], budget: int, max_rows: int) -> Iterator[list[int]]:
    """Yield indices, longest first, so that memory peaks in the first batch."""
    batch: list[int] = []
    longest = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        full = len(batch) == max_rows or (len(batch) + 1) * longest > budget
        # A batch that is large enough does not take much shorter rows, most of which were padding.
        apart = len(batch) * longest > budget // 4 and lengths[i] < LEAST_SHARE * longest
        if batch and (full or apart):
            yield batch
            batch = []
        longest = lengths[i] if not batch else longest
        batch.append(i)
    if batch:
        yield batch
