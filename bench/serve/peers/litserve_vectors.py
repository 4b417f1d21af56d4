"""LitServe with batching over sentence-transformers."""

from __future__ import annotations

import os
from typing import Any

import litserve
import torch
from sentence_transformers import SentenceTransformer

ROWS = 32


class Vectors(litserve.LitAPI):  # type: ignore[misc]
    """Texts to vectors, in batches."""

    def setup(self, device: str) -> None:
        """Load the model."""
        torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
        self.model = SentenceTransformer(os.environ["BENCH_MODEL"], device="cpu")

    def decode_request(self, request: dict[str, str]) -> str:
        """Return the text."""
        return request["text"]

    def batch(self, inputs: list[str]) -> list[str]:
        """Return the texts as they are."""
        return list(inputs)

    def predict(self, x: list[str]) -> Any:
        """Return their vectors."""
        return self.model.encode(x, show_progress_bar=False, batch_size=ROWS)

    def unbatch(self, output: Any) -> list[list[float]]:
        """Return the vectors one by one."""
        return [vector.tolist() for vector in output]

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        """Return the answer."""
        return {"vector": output}


if __name__ == "__main__":
    api = Vectors(max_batch_size=ROWS, batch_timeout=float(os.environ["BENCH_TIMEOUT_S"]))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        generate_client_file=False,
        log_level="warning",
    )
