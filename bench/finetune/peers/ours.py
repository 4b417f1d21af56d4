"""This library finetunes a text classifier.

Called by ``few_shot.py`` and ``speed.py`` with a job: ``items``, ``labels``, ``test_items`` and
``test_labels`` (or none), ``options`` of ``finetune``.
"""

from __future__ import annotations

import json
import time
from typing import Any

import torch

import backprop
from backprop.folders import cache_dir
from bench.finetune.peers.processes import read_job
from bench.finetune.peers.rows import share_right

ENCODER = "all-minilm-l6-v2"


def main() -> None:
    """Print seconds, examples a second of each epoch, and the share of right answers."""
    job = read_job()
    encoder = backprop.models.AutoModel.from_pretrained(ENCODER, device="cpu")
    task = backprop.TextClassification(encoder)
    kept = cached()
    start = time.perf_counter()
    learned = finetune(task, job)
    trained = time.perf_counter()
    accuracy = None
    if job.get("test_items"):
        accuracy = share_right(predict(task, job["test_items"]), job["test_labels"])
    report = {
        "seconds": trained - start,
        "predict_seconds": time.perf_counter() - trained,
        "accuracy": accuracy,
        "encoded": cached() != kept,
        **figures(learned),
        "settings": {"threads": torch.get_num_threads(), **shown(job["options"])},
    }
    print("\n" + json.dumps(report))


def cached() -> set[str]:
    """Return what is kept on disk of frozen encoders' vectors."""
    return {path.name for path in (cache_dir() / ".engines").glob("frozen-*")}


def finetune(task: Any, job: dict[str, Any]) -> Any:
    """Train, and return the library's report."""
    options = dict(job["options"])
    if isinstance(options.get("validation_split"), list):
        options["validation_split"] = tuple(options["validation_split"])  # JSON knows lists only
    return task.finetune({"texts": job["items"], "labels": job["labels"]}, **options)


def predict(task: backprop.TextClassification, texts: list[str]) -> list[str]:
    """Return the likeliest label of each text."""
    return [next(iter(answer)) for answer in task(texts, top_k=1)]


def figures(learned: Any) -> dict[str, Any]:
    """Return what the library's report says of the run."""
    return {
        "method": learned.method,
        "train_rows": learned.rows["train"],
        "rows": learned.rows["train"] + learned.rows["validation"],
        # A head that is solved for has no epochs; its solver goes over the cached rows instead.
        "epochs": len(learned.history) or learned.settings["head_passes"],
        "examples_per_s": [epoch["rows_per_s"] for epoch in learned.history],
    }


def shown(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that can be read at a glance; not thousands of row numbers."""
    return {name: value for name, value in options.items() if name != "validation_split"}


if __name__ == "__main__":
    main()
