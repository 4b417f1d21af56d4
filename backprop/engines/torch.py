"""The torch engine: runs a module's functions; always there, and the only one that trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backprop.engines import Array

__all__ = ["TorchEngine", "device_of", "inference"]


class TorchEngine:
    """Runs named functions of ``module`` on NumPy arrays.

    Args:
        module: holds the weights; its device and train mode are looked up at each call.
        functions: name to a callable that takes tensors by keyword and returns one.
    """

    def __init__(self, module: nn.Module, functions: Mapping[str, Callable[..., Tensor]]) -> None:
        self.module = module
        self.functions = dict(functions)

    def run(self, function: str, **arrays: NDArray[np.generic]) -> Array:
        """Return the function's result, float32; the module's train mode stays as it was."""
        device = device_of(self.module)
        with inference(self.module):
            tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
            result = self.functions[function](**tensors)
        array: Array = result.float().cpu().numpy()
        return array


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
