"""Any function of a torch module for ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from backprop.engines.onnx import FILE
from backprop.engines.torch import inference
from backprop.optional import require

__all__ = ["write"]

OPSET = 18


def write(
    module: nn.Module,
    function: Callable[..., Tensor],
    example: Mapping[str, Tensor],
    folder: Path,
) -> None:
    """Write a function into ``folder``, for any number of rows and any length of text.

    Args:
        module: whose weights the function uses.
        function: takes tensors by keyword and returns one.
        example: its arguments, shape (rows, …), two rows at least.
        folder: empty.
    """
    require("onnx", extra="fast")
    called = _Called(module, function, list(example)).eval()
    axes = {
        name: {0: "rows", 1: "length"} if value.ndim == 2 else {0: "rows"}
        for name, value in example.items()
    }
    with inference(module), warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            called,
            tuple(example.values()),
            str(folder / FILE),
            input_names=list(example),
            output_names=["result"],
            dynamic_axes={**axes, "result": {0: "rows"}},
            opset_version=OPSET,
            dynamo=False,
        )


class _Called(nn.Module):
    """A function as a module that takes its arguments by place."""

    def __init__(
        self, module: nn.Module, function: Callable[..., Tensor], names: list[str]
    ) -> None:
        super().__init__()
        self.module = module
        self.function = function
        self.names = names

    def forward(self, *values: Tensor) -> Tensor:
        """Return what the function returns."""
        return self.function(**dict(zip(self.names, values, strict=True)))


class _quiet:  # noqa: N801  # a context manager
    """Keep the exporter's own log off the terminal."""

    def __enter__(self) -> None:
        self.before = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(self.before)
