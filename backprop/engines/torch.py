"""The torch engine: runs a module's functions; always there, and the only one that trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backprop.engines import Array

__all__ = ["Split", "TorchEngine", "as_array", "device_of", "inference", "weights_version"]


@dataclass(frozen=True)
class Split:
    """A function as a text encoder and what comes after it, which other engines run apart.

    Args:
        encoder: a transformers encoder; the function starts from its last hidden states.
        pool: how they are pooled, one of ``tails.POOLS``.
        layers: applied after that: linear layers, and names among ``tails.FUNCTIONS``.
    """

    encoder: nn.Module
    pool: str
    layers: tuple[nn.Linear | str, ...] = ()


class TorchEngine:
    """Runs named functions of ``module`` on NumPy arrays.

    Args:
        module: holds the weights; its device and train mode are looked up at each call.
        functions: name to a callable that takes tensors by keyword and returns one.
        splits: for functions that have one.
    """

    batch_tokens = 4096
    single = None

    def __init__(
        self,
        module: nn.Module,
        functions: Mapping[str, Callable[..., Tensor]],
        splits: Mapping[str, Split | None] | None = None,
    ) -> None:
        self.module = module
        self.functions = dict(functions)
        self.splits = dict(splits or {})

    @property
    def version(self) -> Any:
        """What differs once a weight was replaced or changed in place."""
        return weights_version(self.module)

    def run(self, function: str, **arrays: NDArray[np.generic]) -> Array:
        """Return the function's result, float32; the module's train mode stays as it was."""
        device = device_of(self.module)
        with inference(self.module):
            tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
            result = self.functions[function](**tensors)
        array: Array = result.float().cpu().numpy()
        return array


def weights_version(module: nn.Module) -> tuple[tuple[int, int], ...]:
    """Return something that differs once a weight was replaced or changed in place."""
    tensors = [*module.parameters(), *module.buffers()]
    return tuple((id(each), 0 if each.is_inference() else each._version) for each in tensors)


def as_array(values: Tensor) -> Array:
    """Return a tensor as a float32 array, which may share its memory."""
    found: Array = values.detach().float().cpu().numpy()
    return np.ascontiguousarray(found)


def device_of(module: nn.Module) -> torch.device:
    """Return the device of the module's weights; CPU where it has none."""
    weight = next(module.parameters(), None)
    return torch.device("cpu") if weight is None else weight.device


@contextmanager
def inference(module: nn.Module) -> Iterator[None]:
    """Run without dropout and gradients, then put the train mode back."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for part in training:
            part.training = True
