"""Nested state of optimisers and schedulers as JSON and a table of tensors, and back."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from backprop.errors import InputError

__all__ = ["flatten", "unflatten"]


def flatten(value: Any, tensors: dict[str, Tensor], prefix: str) -> Any:
    """Return ``value`` as strict JSON; its tensors go into ``tensors``.

    Args:
        value: numbers, strings, None, tensors, and lists, tuples and dictionaries of such.
        tensors: grows by names that begin with ``prefix``.
        prefix: e.g. ``"optimiser"``.

    Raises:
        InputError: something else is in it.
    """
    if isinstance(value, Tensor):
        name = f"{prefix}.{len(tensors)}"
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        items = [flatten(item, tensors, prefix) for item in value]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, Mapping):
        kind = "counter" if isinstance(value, Counter) else "dict"
        return {kind: [flatten(list(pair), tensors, prefix) for pair in value.items()]}
    raise InputError(
        f"A checkpoint can't hold the {type(value).__name__} {value!r} that the optimizer or "
        "scheduler keeps; use another, or train without checkpoint=."
    )


def unflatten(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return what ``flatten`` was given."""
    if isinstance(value, list):
        return [unflatten(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "float":
        return float(content)
    items = unflatten(content, tensors)
    makers: dict[str, Any] = {"tuple": tuple, "dict": dict, "counter": lambda x: Counter(dict(x))}
    return makers[kind](items)
