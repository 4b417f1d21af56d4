"""A model of your own, finetuned like any other: three methods and it learns.

It counts how often each piece of three letters occurs in a text and has one layer on top. Run it
with ``python examples/own_model.py``.
"""

import zlib

import torch
from torch import Tensor, nn

import backprop
from backprop.models import BaseModel

PIECES = 4096


class LetterModel(BaseModel):
    """Classifies texts by their letters, three at a time."""

    def __init__(self):
        super().__init__(name="letter-model", tasks=["text-classification"])
        self.labels = {}
        self.layer = nn.Identity()

    # What every model does: a dictionary in, an answer out.

    def __call__(self, task_input, task="text-classification"):
        texts = task_input["text"]
        counts = torch.stack(
            [count(text) for text in ([texts] if isinstance(texts, str) else texts)]
        )
        with torch.inference_mode():
            shares = self.layer(counts).softmax(-1).tolist()
        answers = [
            dict(sorted(zip(self.labels.values(), row), key=lambda each: -each[1]))
            for row in shares
        ]
        return answers[0] if isinstance(texts, str) else answers

    # What a model that learns does, too.

    def pre_finetuning(self, labels):
        """Make room for the labels, a dictionary of number to label."""
        self.labels = labels
        self.layer = nn.Linear(PIECES, len(labels))

    def process_batch(self, params, task="text-classification"):
        """Turn one row into numbers."""
        return {
            "counts": count(params["inputs"]),
            "label": params["class_to_idx"][params["labels"]],
        }

    def training_step(self, batch):
        """Return the loss of many rows, joined by name."""
        return nn.functional.cross_entropy(self.layer(batch["counts"]), batch["label"])


def count(text: str) -> Tensor:
    """Return how often each piece of three letters occurs, shape (PIECES,)."""
    counts = torch.zeros(PIECES)
    for start in range(len(text) - 2):
        counts[zlib.crc32(text[start : start + 3].lower().encode()) % PIECES] += 1
    return counts / counts.norm().clamp_min(1)


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
