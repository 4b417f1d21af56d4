"""FastAPI over the zero-shot pipeline of transformers. Run by uvicorn."""

from __future__ import annotations

import os

import torch
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
app = FastAPI()
classify = pipeline("zero-shot-classification", model=os.environ["BENCH_MODEL"], device="cpu")


class Body(BaseModel):
    """One text and its labels."""

    text: str
    labels: list[str]


@app.post("/classify")
def classes(body: Body) -> dict[str, dict[str, float]]:
    """Return each label's probability, judged by itself."""
    found = classify(body.text, body.labels, multi_label=True)
    return {"probabilities": dict(zip(found["labels"], found["scores"], strict=True))}
