"""From which probability on a label counts as present, where rows may have several."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from backprop.finetuning.heads import cache
from backprop.finetuning.objectives import Objective
from backprop.metrics import thresholds

__all__ = ["fold_thresholds"]

LEAST = 0.01


def fold_thresholds(
    objective: Objective, layer: nn.Linear, rows: Sequence[int]
) -> dict[str, float]:
    """Return the probability of each label that gives the best F1, and make it a half.

    The layer's biases are moved so that a label is present from 0.5 on, whatever runs the model.

    Args:
        objective: what is learnt.
        layer: the last one, whose outputs are logits.
        rows: those to choose by.
    """
    cached = cache(objective, layer, rows)
    with torch.no_grad():
        chances = torch.sigmoid(layer(cached.inputs.to(layer.weight)).float().cpu())
    found = [
        min(max(value, LEAST), 1 - LEAST)
        for value in thresholds(chances.numpy(), cached.targets.numpy())
    ]
    with torch.no_grad():
        layer.bias.sub_(torch.tensor([logit(value) for value in found]).to(layer.bias))
    return dict(zip(objective.data.labels, found, strict=True))


def logit(probability: float) -> float:
    """Return the number whose sigmoid is ``probability``."""
    return math.log(probability / (1 - probability))
