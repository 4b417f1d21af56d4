"""How much of a batch a row takes, so that batches of any task take about as long."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from backprop.inputs import Row
from backprop.specs import SPECS

__all__ = ["MOST_COST", "costs_of", "key_of"]

CHARACTERS_PER_TOKEN = 4
SPECIAL_TOKENS = 2
TOKENS = 1024
"""Of a batch of texts that are read: what engines take at once."""
IMAGES = 8
WRITTEN = 16
"""Texts that are written together."""

MOST_COST: Mapping[str, int] = {
    name: WRITTEN
    if name == "text-generation"
    else IMAGES
    if any(field.kind == "image" for field in spec.fields)
    else TOKENS
    for name, spec in SPECS.items()
}
"""Task to the cost of a batch."""


def costs_of(task: str, rows: Sequence[Row], options: Mapping[str, Any]) -> list[int]:
    """Return what each row costs: tokens, about; images; or texts to be written."""
    most = MOST_COST[task]
    if most == IMAGES:
        return [1] * len(rows)
    if most == WRITTEN:
        copies = max(options.get("num_beams", 1), options.get("num_generations", 1))
        return [min(copies, most)] * len(rows)
    return [_tokens(row) for row in rows]


def _tokens(row: Row) -> int:
    characters = sum(len(value) for value in row.values() if isinstance(value, str))
    return SPECIAL_TOKENS + characters // CHARACTERS_PER_TOKEN


def key_of(options: Mapping[str, Any]) -> Hashable:
    """Return what is equal for equal options."""
    if not options:
        return ()
    return tuple(
        (name, tuple(value) if isinstance(value, list) else value)
        for name, value in sorted(options.items())
    )
