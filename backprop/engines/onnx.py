"""The ONNX Runtime engine: any exported function on the CPU, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.engines import Array
from backprop.engines.threads import settle, threads
from backprop.optional import require

__all__ = ["FILE", "ONNXEngine", "open_session"]


class ONNXEngine:
    """Runs a function that was exported.

    Args:
        network: see ``network``.
    """

    batch_tokens = 1024

    def __init__(self, network: Any) -> None:
        self.session = network
        self.wanted = [each.name for each in network.get_inputs()]

    @staticmethod
    def network(folder: Path) -> Any:
        """Return a session of the function that was exported into ``folder``."""
        return open_session(folder / FILE)

    def run(self, function: str, **arrays: NDArray[np.generic]) -> Array:
        """Return the function's result for one batch, float32."""
        [result] = self.session.run(None, {name: arrays[name] for name in self.wanted})
        found: Array = np.asarray(result, np.float32)
        return found


FILE = "network.onnx"


def open_session(path: Path) -> Any:
    """Return ONNX Runtime's session of a file."""
    settle()
    runtime = require("onnxruntime", extra="fast")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads()
    options.inter_op_num_threads = 1
    # Threads wait awake between operators, but not between runs, when another engine needs the
    # cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
