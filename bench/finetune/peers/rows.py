"""The rows that are learned and the rows that are judged: the same ones in every benchmark."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sklearn.model_selection import train_test_split

TEST_SHARE = 0.2


@dataclass(frozen=True)
class Rows:
    """Texts, or paths of images, each with its right label."""

    items: list[str]
    labels: list[str]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.items)

    def take(self, numbers: Iterable[int]) -> Rows:
        """Return the rows of these numbers, in their order."""
        chosen = list(numbers)
        return Rows([self.items[at] for at in chosen], [self.labels[at] for at in chosen])


def banking(data: Path) -> Rows:
    """Return all rows of Banking77's training file."""
    with (data / "banking77" / "train.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return Rows([row["text"] for row in rows], [row["category"] for row in rows])


def cifar(data: Path) -> Rows:
    """Return the paths of all CIFAR-10 photos, with their folders' names."""
    files = sorted((data / "cifar10").glob("*/*.jpg"))
    return Rows([str(file) for file in files], [file.parent.name for file in files])


def pairs(data: Path, split: str) -> dict[str, list[Any]]:
    """Return a split of STS-B as columns to finetune with; scores from 0 to 1."""
    with (data / "stsb" / f"{split}.csv").open(newline="", encoding="utf-8") as file:
        first, second, scores = zip(*csv.reader(file), strict=True)
    similarity = [float(score) / 5 for score in scores]
    return {"texts1": list(first), "texts2": list(second), "similarity_scores": similarity}


def split(rows: Rows) -> tuple[Rows, Rows]:
    """Return training rows and test rows, every label in the same share; always the same ones."""
    train, test = train_test_split(
        range(len(rows)), test_size=TEST_SHARE, stratify=rows.labels, random_state=0
    )
    return rows.take(train), rows.take(test)


def few(rows: Rows, each: int, *, seed: int) -> Rows:
    """Return ``each`` rows of every label, drawn by the seed, in a mixed order."""
    numbers = defaultdict(list)
    for number, label in enumerate(rows.labels):
        numbers[label].append(number)
    draw = random.Random(seed)
    chosen = [at for label in sorted(numbers) for at in draw.sample(numbers[label], each)]
    draw.shuffle(chosen)
    return rows.take(chosen)


def only(rows: Rows, labels: Sequence[str]) -> Rows:
    """Return the rows that have one of these labels."""
    return rows.take(at for at, label in enumerate(rows.labels) if label in labels)


def share_right(answers: Iterable[str], labels: Sequence[str]) -> float:
    """Return the share of answers that are the right label."""
    right = [answer == label for answer, label in zip(answers, labels, strict=True)]
    return sum(right) / len(right)
