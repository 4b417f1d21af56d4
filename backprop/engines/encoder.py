"""Text encoders on ONNX Runtime, written by its fused operators, and what comes after them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backprop.engines import Array
from backprop.engines.onnx import ONNXEngine, Opened
from backprop.engines.tails import Tail
from backprop.engines.threads import readers

__all__ = ["ONNXEncoder"]


class ONNXEncoder:
    """Runs a text encoder that ``to_encoder`` has written, and what comes after it.

    Args:
        network: see ``network``.
        tails: name of each function to what it does with hidden states.
    """

    single = None

    def __init__(self, network: Opened, tails: Mapping[str, Tail]) -> None:
        self.session = network.session
        self.wanted = [each.name for each in self.session.get_inputs()]
        self.tails = dict(tails)

    @property
    def batch_tokens(self) -> int:
        """Padded tokens of a batch: fewer, so less padding, where one thread computes it."""
        return 256 if readers() == 1 else 1024

    @staticmethod
    def network(folder: Path) -> Opened:
        """Return the encoder that was written into ``folder``."""
        return ONNXEngine.network(folder)

    def run(self, function: str, **arrays: NDArray[np.generic]) -> Array:
        """Return the function's result for one batch that is padded on the right, float32."""
        mask = np.asarray(arrays["attention_mask"], np.int64)
        given = {name: arrays[name].astype(np.int32) for name in self.wanted if name in arrays}
        for name in self.wanted:
            given.setdefault(name, np.zeros(mask.shape, np.int32))
        [hidden] = self.session.run(None, given)
        return self.tails[function](hidden, mask)
