"""A model of your own, finetuned like any other: three methods and it learns.

It counts how often each piece of three letters occurs in a text and has one layer on top. Run it
with ``python examples/own_model.py``.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import backprop
from backprop.models import BaseModel

PIECES = 4096


class LetterModel(BaseModel):
    """Classifies texts by their letters, three at a time."""

    def __init__(self) -> None:
        super().__init__(name="letter-model", tasks=["text-classification"])
        self.labels: dict[int, str] = {}
        self.layer: nn.Module = nn.Identity()

    # What every model does: a dictionary in, an answer out.

    def __call__(self, task_input: dict[str, Any], task: str = "text-classification") -> Any:
        """Return the probability of each label, for a text or a list of them."""
        given = task_input["text"]
        texts = [given] if isinstance(given, str) else given
        with torch.inference_mode():
            shares = self.layer(torch.stack([count(text) for text in texts])).softmax(-1)
        names = self.labels.values()
        answers = [dict(zip(names, row, strict=True)) for row in shares.tolist()]
        return answers[0] if isinstance(given, str) else answers

    # What a model that learns does, too.

    def pre_finetuning(self, labels: dict[int, str]) -> None:
        """Make room for the labels, a dictionary of number to label."""
        self.labels = labels
        self.layer = nn.Linear(PIECES, len(labels))

    def process_batch(
        self, params: Mapping[str, Any], task: str = "text-classification"
    ) -> dict[str, Any]:
        """Turn one row into numbers."""
        return {
            "counts": count(params["inputs"]),
            "label": params["class_to_idx"][params["labels"]],
        }

    def training_step(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of many rows, joined by name."""
        return nn.functional.cross_entropy(self.layer(batch["counts"]), batch["label"])


def count(text: str) -> Tensor:
    """Return how often each piece of three letters occurs, shape (PIECES,)."""
    counts = torch.zeros(PIECES)
    for start in range(len(text) - 2):
        counts[zlib.crc32(text[start : start + 3].lower().encode()) % PIECES] += 1
    return nn.functional.normalize(counts, dim=0)


ROWS = {
    "texts": [
        *("the cat sat", "a dog ran", "my horse eats hay", "the bird sings", "two fish swim"),
        *(
            "el gato duerme",
            "un perro corre",
            "mi caballo come",
            "el pájaro canta",
            "dos peces nadan",
        ),
    ],
    "labels": ["English"] * 5 + ["Spanish"] * 5,
}

if __name__ == "__main__":
    task = backprop.TextClassification(LetterModel())
    report = task.finetune(ROWS, validation_split=0.2, epochs=30, learning_rate=0.1)
    print(report)
    print(task("the dog sings"))
