"""Rows of one batch as tensors, each padded to the longest of the batch and no further."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backprop.errors import InputError

__all__ = ["IGNORED", "Features", "collate"]

Features = Mapping[str, Any]
"""What ``process_batch`` makes of a row: numbers, lists of them, arrays and tensors by name."""

IGNORED = -100
"""Label of a token that has no part in the loss; PyTorch's own default."""

PADDING: Mapping[str, float] = {"labels": IGNORED}


def collate(
    rows: Sequence[Features],
    padding: Mapping[str, float] | None = None,
    *,
    left: bool = False,
) -> dict[str, Any]:
    """Return one tensor a name, its first dimension the rows.

    Args:
        rows: numbers, lists of numbers, arrays and tensors by name, the same names in each row;
            anything else is kept as a list. What differs in length is padded along its first
            dimension.
        padding: name to what fills its shorter rows; by default -100 for ``labels``, else 0.
        left: whether shorter rows are filled on the left.

    Raises:
        InputError: there are no rows, or they have different names.
    """
    if not rows:
        raise InputError("There is nothing to make a batch of; pass at least one row.")
    names = list(rows[0])
    for i, row in enumerate(rows):
        if set(row) != set(names):
            raise InputError(
                f"process_batch gave row 0 {sorted(names)} but row {i} {sorted(row)}; it must "
                "give every row the same names."
            )
    fill = {**PADDING, **(padding or {})}
    return {name: _joined([row[name] for row in rows], fill.get(name, 0), left) for name in names}


def _joined(values: list[Any], fill: float, left: bool) -> Any:
    if not all(map(_is_numeric, values)):
        return values
    tensors = [torch.as_tensor(value) for value in values]
    shapes = {tensor.shape for tensor in tensors}
    if len(shapes) == 1:
        return torch.stack(tensors)
    if len({shape[1:] for shape in shapes}) != 1 or not all(shapes):
        raise InputError(
            f"Rows of shapes {sorted(map(tuple, shapes))} make no batch; only their first "
            "dimension may differ."
        )
    longest = max(len(tensor) for tensor in tensors)
    # An empty list is a tensor of floats, whatever the others are.
    dtype = reduce(torch.promote_types, (each.dtype for each in tensors if each.numel()))
    shape = (len(tensors), longest, *tensors[0].shape[1:])
    joined = torch.full(shape, fill, dtype=dtype, device=tensors[0].device)
    for i, tensor in enumerate(tensors):
        joined[i, slice(longest - len(tensor), None) if left else slice(len(tensor))] = tensor
    return joined


def _is_numeric(value: Any) -> bool:
    """Return whether a tensor can be made of ``value``; the first item of a list tells."""
    if isinstance(value, (list, tuple)):
        return not value or _is_numeric(value[0])
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype.kind in "biuf"
    return isinstance(value, (bool, int, float, Tensor))
