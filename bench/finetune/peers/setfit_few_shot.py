"""SetFit (Tunstall et al. 2022, arXiv:2209.11055) on a few rows; runs in the peers' environment.

Its own defaults: cosine loss over pairs of rows, one epoch, batches of 16, learning rate 2e-5, then
scikit-learn's logistic regression. ``pairs`` is the paper's R, positive and negative pairs a row
(the paper and SetFit before 1.0: 20); 0 draws every pair there is, SetFit's default since 1.0.

Called by ``few_shot.py`` with a job: ``folder`` of the encoder, ``items``, ``labels``,
``test_items``, ``test_labels``, ``seed``, ``pairs``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset  # type: ignore[import-not-found]  # only the peers have it
from setfit import (  # type: ignore[import-not-found]  # only the peers have it
    SetFitModel,
    Trainer,
    TrainingArguments,
)

BATCH_SIZE, EPOCHS = 16, 1


def main() -> None:
    """Print seconds of training and of prediction, and the share of right answers."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    model = SetFitModel.from_pretrained(job["folder"], device="cpu")
    start = time.perf_counter()
    train(model, job)
    trained = time.perf_counter()
    answers = [str(answer) for answer in model.predict(job["test_items"])]
    done = time.perf_counter()
    right = sum(map(str.__eq__, answers, job["test_labels"]))
    report = {
        "seconds": trained - start,
        "predict_seconds": done - trained,
        "accuracy": right / len(answers),
        "settings": settings(job),
    }
    print("\n" + json.dumps(report))


def train(model: Any, job: dict[str, Any]) -> None:
    """Train encoder and head; nothing is written or reported on the way."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            batch_size=BATCH_SIZE,
            num_epochs=EPOCHS,
            num_iterations=job["pairs"] or None,
            seed=job["seed"],
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            show_progress_bar=False,
        )
        rows = Dataset.from_dict({"text": job["items"], "label": job["labels"]})
        Trainer(model=model, args=arguments, train_dataset=rows).train()


def settings(job: dict[str, Any]) -> dict[str, Any]:
    """Return what the figures depend on."""
    packages = ("setfit", "sentence-transformers", "transformers", "torch")
    return {
        "pairs": job["pairs"] or "oversampling",
        "batch_size": BATCH_SIZE,
        "epochs": EPOCHS,
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in packages},
    }


if __name__ == "__main__":
    main()
