"""What classes count for, and which weights stay as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from backprop.data import Data
from backprop.errors import InputError
from backprop.models.base import BaseModel, PathModel

__all__ = ["class_weights", "freeze_embeddings"]


def class_weights(
    wanted: str | Mapping[str, float] | None,
    data: Data,
    rows: Sequence[int],
    *,
    written: bool = False,
) -> Tensor | None:
    """Return what each class counts for in the loss, shape (classes,), or None for all alike.

    ``"balanced"``: as much in all as any other, rows / (classes * rows of the class); of rows with
    several labels, rows without the label to rows with it.

    Raises:
        InputError: the task has no classes or the model writes them, or weights of other labels,
            or below 0.
    """
    if wanted is None:
        return None
    if not data.labels:
        raise InputError(f"class_weights is for tasks with labels; {data.task} has none here.")
    if written:
        raise InputError(
            f"class_weights is for models that classify; this one writes the words of {data.task}. "
            "Leave it out, or finetune a classifier."
        )
    if isinstance(wanted, Mapping):
        return _given(wanted, data.labels)
    label_sets = data.label_sets
    counts = Counter(label for row in rows for label in label_sets[row])
    if data.multi_label:
        return torch.tensor([(len(rows) - counts[x]) / max(counts[x], 1) for x in data.labels])
    share = len(rows) / len(data.labels)
    return torch.tensor([share / max(counts[label], 1) for label in data.labels])


def _given(wanted: Mapping[str, float], labels: Sequence[str]) -> Tensor:
    unknown = sorted(set(wanted) - set(labels))
    if unknown:
        raise InputError(
            f"class_weights has {unknown[0]!r}, which no row has; the labels are: "
            f"{', '.join(labels[:30])}."
        )
    if any(not value >= 0 for value in wanted.values()):
        raise InputError(f"class_weights must be at least 0; received {dict(wanted)}.")
    return torch.tensor([float(wanted.get(label, 1.0)) for label in labels])


def freeze_embeddings(model: BaseModel) -> list[nn.Parameter]:
    """Stop training the token embeddings of a pretrained model; return them.

    Few of a vocabulary's rows occur in the data, but optimisers visit them all: half of MiniLM's
    weights are embeddings. Models of the user's own are left alone, as theirs may be untrained.
    """
    if not isinstance(model, PathModel):
        return []
    frozen: list[nn.Parameter] = [
        cast(nn.Parameter, layer.weight)
        for layer in model.modules()
        if isinstance(layer, nn.Embedding) and layer.weight.requires_grad
    ]
    for weight in frozen:
        weight.requires_grad_(False)
    return frozen
