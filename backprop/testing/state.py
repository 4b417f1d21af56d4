"""What predicting, pickling and saving must leave as it is."""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch

from backprop.models.base import BaseModel

__all__ = ["changes", "chances", "state"]

FIELDS = ("name", "description", "tasks", "details")


def state(model: BaseModel) -> dict[str, Any]:
    """Return what makes up a model, in a form that can be compared later."""
    tensors = chain(model.named_parameters(), model.named_buffers())
    return {
        "weights": {name: _digest(tensor) for name, tensor in tensors},
        "training mode": [module.training for module in model.modules()],
        "requires_grad": [weight.requires_grad for weight in model.parameters()],
        "device": {str(weight.device) for weight in model.parameters()},
        **{
            field: repr(getattr(model, field))
            for field in ("name", "description", "tasks", "details")
        },
    }


def chances() -> dict[str, Any]:
    """Return the state of the global random generators, in a form that can be compared later."""
    return {
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "random's state": random.getstate(),
        "NumPy's random state": repr(np.random.get_state(legacy=False)),
    }


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the names of what differs; empty where nothing does."""
    return " and ".join(name for name in before if before[name] != after[name])


def _digest(tensor: torch.Tensor) -> tuple[object, ...]:
    """Return shape, type and a checksum of the bytes."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return tuple(tensor.shape), tensor.dtype, zlib.crc32(flat.numpy().tobytes())
