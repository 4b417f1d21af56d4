"""The ONNX Runtime engine: any exported function on the CPU, without torch."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.engines import Array
from backprop.engines.threads import readers, settle
from backprop.optional import require

__all__ = ["FILE", "ONNXEngine", "Opened", "open_session"]


class Opened:
    """A file of a network and its session.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.session = open_session(path, readers())
        self.lock = threading.Lock()
        self._single: Any = None

    @property
    def single(self) -> Any:
        """A session that computes on the thread that calls it; None if the files are large.

        Its weights are loaded a second time.
        """
        with self.lock:
            if self._single is None and self.path.exists():
                size = sum(file.stat().st_size for file in self.path.parent.iterdir())
                if size <= MOST_TWICE_BYTES:
                    self._single = open_session(self.path, 1)
            return self._single


class ONNXEngine:
    """Runs a function that was exported.

    Args:
        network: see ``network``.
        session: of the network; by default the one that uses all cores.
    """

    batch_tokens = 1024

    def __init__(self, network: Opened, session: Any = None) -> None:
        self.opened = network
        self.session = network.session if session is None else session
        self.wanted = [each.name for each in self.session.get_inputs()]

    @staticmethod
    def network(folder: Path) -> Opened:
        """Return the function that was exported into ``folder``."""
        return Opened(folder / FILE)

    @property
    def single(self) -> ONNXEngine | None:
        """The same on one core a call, so that calls run side by side; None if it is large."""
        session = self.opened.single if readers() > 1 else None
        return None if session is None else ONNXEngine(self.opened, session)

    def run(self, function: str, **arrays: NDArray[np.generic]) -> Array:
        """Return the function's result for one batch, float32."""
        [result] = self.session.run(None, {name: arrays[name] for name in self.wanted})
        found: Array = np.asarray(result, np.float32)
        return found


MOST_TWICE_BYTES = 2**26
"""Largest network that is loaded a second time."""

FILE = "network.onnx"


def open_session(path: Path, count: int) -> Any:
    """Return ONNX Runtime's session of a file, which computes with so many threads."""
    settle()
    runtime = require("onnxruntime", extra="fast")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = count
    options.inter_op_num_threads = 1
    # Threads wait awake between operators, but not between runs, when another engine needs the
    # cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
