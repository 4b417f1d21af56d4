"""Any function of a torch module for ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backprop.engines.onnx import FILE
from backprop.engines.torch import inference
from backprop.optional import load, require

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
    _merge_pads(folder / FILE)


def _merge_pads(path: Path) -> None:
    """Let convolutions pad by themselves what is padded before them: a pass over memory less.

    ONNX Runtime does so where a model says what it pads with, which torch leaves out.
    """
    onnx = require("onnx", extra="fast")
    model = onnx.load(path)
    if not any(node.op_type == "Pad" for node in model.graph.node):
        return
    runtime = require("onnxruntime", extra="fast")
    options = runtime.SessionOptions()
    # Which turns what is computed of constants into constants.
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    model = onnx.load(path)
    to_array = load("onnx.numpy_helper:to_array")
    constants = {own.name: to_array(own) for own in model.graph.initializer}
    for pad in [node for node in model.graph.node if node.op_type == "Pad"]:
        if any(own.name == pad.output[0] for own in model.graph.output):
            continue
        users = [node for node in model.graph.node if pad.output[0] in node.input]
        edges = _edges(pad, constants)
        if edges is None or len(users) != 1 or not _takes_pads(users[0]):
            continue
        for own in [own for own in users[0].attribute if own.name == "pads"]:
            users[0].attribute.remove(own)
        users[0].attribute.append(onnx.helper.make_attribute("pads", edges))
        users[0].input[0] = pad.input[0]
        model.graph.node.remove(pad)
    onnx.save(model, path)


def _edges(pad: Any, constants: Mapping[str, NDArray[Any]]) -> list[int] | None:
    """Return (top, left, bottom, right) of what is padded with zeros, if that is all."""
    _, amounts, *more = pad.input
    known = constants.get(amounts)
    zero = not any(name and np.any(constants.get(name, 1)) for name in more)
    plain = all(own.name != "mode" or own.s == b"constant" for own in pad.attribute)
    if known is None or known.shape != (8,) or not (zero and plain):
        return None
    edges = known.reshape(2, 4)
    outside = edges[:, :2].any() or (edges < 0).any()
    return None if outside else [int(own) for own in edges[:, 2:].reshape(-1)]


def _takes_pads(node: Any) -> bool:
    """Whether a node is a convolution that pads nothing yet."""
    own = {attribute.name: attribute for attribute in node.attribute}
    pads = any(own["pads"].ints) if "pads" in own else False
    named = own["auto_pad"].s != b"NOTSET" if "auto_pad" in own else False
    return bool(node.op_type == "Conv" and not pads and not named)


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
