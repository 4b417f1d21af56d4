"""ONNX graphs written node by node, their weights in a file beside them that can be mapped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.optional import load, require

__all__ = ["BLOCK", "Graph"]

OPSET, IR = 18, 9
RUNTIME = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""

ALIGNED = 4096
"""Weights start at multiples of so many bytes, as mapping them asks for."""

BLOCK = 32
"""Weights that share a scale where they are kept in 8 bits."""


class Graph:
    """A graph that grows, written when its ``with`` ends; operators return what they give, by name.

    Args:
        path: of the file to write; weights go beside it.
        bits: of the weights of linear layers: 32, or 8 with a scale for each ``BLOCK`` of them.
    """

    def __init__(self, path: Path, *, bits: int = 32) -> None:
        self.onnx = require("onnx", extra="fast")
        # Not loaded by the package itself.
        self.external = load("onnx.external_data_helper:set_external_data")
        self.path = path
        self.bits = bits
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.weights: list[Any] = []
        self.beside = path.with_suffix(".bin")
        self.file = self.beside.open("wb")

    def input(self, name: str, shape: Sequence[str | int], kind: str = "FLOAT") -> str:
        """Take an input."""
        self.inputs.append(self._value(name, shape, kind))
        return name

    def output(self, name: str, shape: Sequence[str | int]) -> None:
        """Give an output, float32."""
        self.outputs.append(self._value(name, shape, "FLOAT"))

    def weight(self, values: NDArray[Any]) -> str:
        """Return the name of a constant."""
        name = f"w{len(self.weights)}"
        tensor = self.onnx.TensorProto(name=name, dims=values.shape)
        tensor.data_type = self.onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        data = np.ascontiguousarray(values)
        if data.nbytes < ALIGNED:
            tensor.raw_data = data.tobytes()
        else:
            self.file.write(b"\0" * (-self.file.tell() % ALIGNED))
            tensor.raw_data = b""  # which the next line insists on
            self.external(tensor, self.beside.name, self.file.tell(), data.nbytes)
            tensor.ClearField("raw_data")
            data.tofile(self.file)
        self.weights.append(tensor)
        return name

    def op(self, kind: str, *inputs: str, own: bool = False, **attributes: Any) -> str:
        """Return the output of an operator; ``own`` ones are ONNX Runtime's."""
        return self.ops(kind, inputs, 1, own=own, **attributes)[0]

    def ops(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: int,
        *,
        own: bool = False,
        **attributes: Any,
    ) -> list[str]:
        """Return the outputs of an operator."""
        names = [f"n{len(self.nodes)}_{i}" for i in range(outputs)]
        self.named(kind, inputs, names, own=own, **attributes)
        return names

    def named(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        own: bool = False,
        **attributes: Any,
    ) -> None:
        """Add an operator whose outputs have names."""
        domain = RUNTIME if own else ""
        self.nodes.append(
            self.onnx.helper.make_node(kind, inputs, outputs, domain=domain, **attributes)
        )

    def linear(self, values: str, weight: NDArray[np.float32], bias: Any = None) -> str:
        """Return a linear layer's output.

        Args:
            values: shape (…, inputs).
            weight: shape (outputs, inputs).
            bias: shape (outputs,), or None.
        """
        if self.bits == 8:
            codes, scales = in_8_bits(weight)
            found = self.op(
                "MatMulNBits",
                values,
                self.weight(codes),
                self.weight(scales),
                own=True,
                K=weight.shape[1],
                N=weight.shape[0],
                bits=8,
                block_size=BLOCK,
                accuracy_level=4,
            )
        else:
            found = self.op("MatMul", values, self.weight(weight.T))
        return found if bias is None else self.op("Add", found, self.weight(bias))

    def __enter__(self) -> Graph:
        """Return the graph, to be filled."""
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        """Write the graph, unless something failed; its weights are written."""
        self.file.close()
        if failure is not None:
            return
        helper = self.onnx.helper
        graph = helper.make_graph(self.nodes, "network", self.inputs, self.outputs, self.weights)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(RUNTIME, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR)
        self.path.write_bytes(model.SerializeToString())

    def _value(self, name: str, shape: Sequence[str | int], kind: str) -> Any:
        number = getattr(self.onnx.TensorProto, kind)
        return self.onnx.helper.make_tensor_value_info(name, number, list(shape))


def in_8_bits(weight: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return a weight as ONNX Runtime's ``MatMulNBits`` takes it: (codes, scales).

    Args:
        weight: shape (outputs, inputs).

    Returns:
        Shapes (outputs, blocks, ``BLOCK``), where 128 stands for 0, and (outputs * blocks,).
    """
    outputs, width = weight.shape
    blocks = -(-width // BLOCK)
    padded = np.zeros((outputs, blocks * BLOCK), np.float32)
    padded[:, :width] = weight
    values = padded.reshape(outputs, blocks, BLOCK)
    scales = np.abs(values).max(axis=2) / 127
    steps = np.rint(values / np.maximum(scales, 1e-30)[..., None])
    return (steps + 128).astype(np.uint8), scales.reshape(-1)
