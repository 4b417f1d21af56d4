"""The transformers Trainer finetunes a text classifier for some steps; runs in any environment.

Called by ``speed.py`` with a job: ``folder`` of the encoder, ``items``, ``labels``, ``steps``,
``batch_size``, ``padding`` (a key of ``PADDING``), ``max_length``, ``seed``; perhaps ``test_items``
and ``test_labels``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

PADDING: dict[str, tuple[bool | str, str]] = {
    "dynamic": (False, "random"),
    "grouped": (False, "group_by_length"),
    "max_length": ("max_length", "random"),
}
"""Padding of the tokenizer (False: left to each batch), and the order of the rows."""


class Clock(TrainerCallback):
    """Times the steps, without what comes before and after them."""

    seconds = 0.0

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Start."""
        self.seconds -= time.perf_counter()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Stop."""
        self.seconds += time.perf_counter()


def main() -> None:
    """Print examples a second, and the share of right answers on the test rows if there are any.

    The time is from the first step to the last.
    """
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(job["folder"])
    names = sorted(set(job["labels"]))
    model = AutoModelForSequenceClassification.from_pretrained(job["folder"], num_labels=len(names))
    padding, order = PADDING[job["padding"]]
    rows = partial(encode, tokenizer, names=names, padding=padding, most=job["max_length"])
    clock = Clock()

    accuracy = None
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=arguments(folder, job, order),
            train_dataset=rows(job["items"], job["labels"]),
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[clock],
        )
        trainer.train()
        if job.get("test_items"):
            found: Any = trainer.predict(rows(job["test_items"], job["test_labels"]))
            accuracy = float((found.predictions.argmax(-1) == found.label_ids).mean())
    print("\n" + json.dumps({**report(job, clock.seconds), "accuracy": accuracy}))


def encode(
    tokenizer: Any,
    texts: list[str],
    labels: list[str],
    *,
    names: list[str],
    padding: bool | str,
    most: int,
) -> Any:
    """Return rows as token ids with the number of the label, tokenised before training."""
    encoded = tokenizer(texts, truncation=True, max_length=most, padding=padding)
    return [
        {**{key: encoded[key][at] for key in encoded}, "labels": names.index(label)}
        for at, label in enumerate(labels)
    ]


def arguments(folder: str, job: dict[str, Any], order: str) -> TrainingArguments:
    """Return the Trainer's defaults, with nothing written or reported on the way."""
    return TrainingArguments(
        output_dir=folder,
        max_steps=job["steps"],
        per_device_train_batch_size=job["batch_size"],
        train_sampling_strategy=order,
        seed=job["seed"],
        use_cpu=True,
        dataloader_pin_memory=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )


def report(job: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return the figures and what they depend on."""
    settings = {key: job[key] for key in ("steps", "batch_size", "padding", "max_length")}
    versions = {name: version(name) for name in ("transformers", "accelerate", "torch")}
    return {
        "seconds": seconds,
        "examples_per_s": job["steps"] * job["batch_size"] / seconds,
        "settings": {**settings, "threads": torch.get_num_threads(), **versions},
    }


if __name__ == "__main__":
    main()
