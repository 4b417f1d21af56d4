"""What people write first: FastAPI calling sentence-transformers. Run by uvicorn."""

from __future__ import annotations

import os

import torch
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
app = FastAPI()
model = SentenceTransformer(os.environ["BENCH_MODEL"], device="cpu")


class Body(BaseModel):
    """One text."""

    text: str


@app.post("/vector")
def vector(body: Body) -> dict[str, list[float]]:
    """Return its vector."""
    return {"vector": model.encode(body.text, show_progress_bar=False).tolist()}
