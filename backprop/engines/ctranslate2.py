"""The CTranslate2 engine: text encoders on the CPU, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.engines import Array
from backprop.engines.tails import Tail
from backprop.engines.threads import readers, settle
from backprop.optional import require

__all__ = ["CTranslate2Engine"]


class CTranslate2Engine:
    """Runs a text encoder that CTranslate2 has converted, and what comes after it.

    Args:
        network: see ``network``.
        tails: name of each function to what it does with hidden states.
    """

    batch_tokens = 4096
    single = None

    def __init__(self, network: Any, tails: Mapping[str, Tail]) -> None:
        self.encoder = network
        self.view = require("ctranslate2", extra="fast").StorageView.from_array
        self.tails = dict(tails)

    @staticmethod
    def network(folder: Path) -> Any:
        """Return the encoder that was converted into ``folder``."""
        settle()
        return require("ctranslate2", extra="fast").Encoder(
            str(folder), device="cpu", compute_type="default", intra_threads=readers()
        )

    def run(self, function: str, **arrays: NDArray[np.generic]) -> Array:
        """Return the function's result for one batch that is padded on the right, float32."""
        ids = np.ascontiguousarray(arrays["input_ids"], np.int32)
        mask = np.asarray(arrays["attention_mask"], np.int64)
        lengths = mask.sum(axis=1, dtype=np.int32)
        types = arrays.get("token_type_ids")
        given = types.tolist() if types is not None and types.any() else None
        output = self.encoder.forward_batch(self.view(ids), self.view(lengths), given)
        hidden = np.asarray(output.last_hidden_state)
        return self.tails[function](hidden, mask)
