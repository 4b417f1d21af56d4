"""Classes with few rows: their names are examples too, and the head leaves something to learn."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.nn import functional

from backprop.data import Data
from backprop.finetuning.heads import Cached, Head

__all__ = ["are_few", "prototypes", "with_names"]

FEW_ROWS = 100
"""Rows a class, on average, up to which this is known to gain: measured with 8 and with 88 of each
of Banking77's classes, by ``bench/finetune/few_shot.py`` and ``quality.py``."""

SCALE = 20.0
"""Of logits that are cosines; sentence-transformers' own in its ranking losses."""

EMPTY_NAMES = frozenset({"other", "others", "none", "misc", "miscellaneous", "unknown"})
"""Names of what has no other name; such a text would say something else."""

WORD = re.compile(r"[^\W\d_]{3,}")


def are_few(data: Data, rows: Sequence[int]) -> bool:
    """Return whether there are so few rows a class that each should be made the most of."""
    return bool(data.labels) and not data.multi_label and len(rows) <= FEW_ROWS * len(data.labels)


def with_names(data: Data, rows: Sequence[int]) -> tuple[Data, list[int]]:
    """Return the data with the labels' names as further rows, and the rows to train on.

    A name such as ``card_arrival`` says what is meant, as a text would. Nothing is added where a
    label is a number or a code, means no more than "other", or stands among the rows already.
    """
    if data.task != "text-classification" or not _are_words(data.labels):
        return data, list(rows)
    names = {label: re.sub("[_-]", " ", label) for label in data.labels}
    counts = Counter(name.casefold() for name in names.values())
    there = {str(text).casefold() for text in data.columns["texts"]}
    told = {
        label: name
        for label, name in names.items()
        if counts[name.casefold()] == 1 and name.casefold() not in {*there, *EMPTY_NAMES}
    }
    columns = {
        "texts": [*data.columns["texts"], *told.values()],
        "labels": [*data.columns["labels"], *told],
    }
    own = range(len(data), len(data) + len(told))
    return replace(data, columns=columns), [*rows, *own]


def _are_words(labels: Sequence[str]) -> bool:
    """Return whether labels say something, unlike numbers, codes, or ``label_1``, ``label_2``."""
    words = {re.sub(r"\d+", "", label) for label in labels}
    return len(words) == len(labels) and all(map(WORD.search, labels))


def prototypes(cached: Cached, classes: int) -> Head:
    """Return the head that compares with the mean of each class: logits are cosines times SCALE.

    A head that is solved for fits few rows at once, and then nothing is left for the layers below
    to learn from; this one leaves them the larger part of the loss.

    Args:
        cached: inputs of the layer, and the class of each.
        classes: how many there are.

    Source: prototypes, Snell et al. 2017, arXiv:1703.05175.
    """
    directions = functional.normalize(cached.inputs)
    # A class without a training row is like none of the rows.
    sums = torch.zeros(classes, directions.shape[1]).index_add(0, cached.targets, directions)
    norm = cached.inputs.norm(dim=1).mean().clamp_min(1e-12)
    return Head(functional.normalize(sums) * SCALE / norm, torch.zeros(classes), 0.0)
