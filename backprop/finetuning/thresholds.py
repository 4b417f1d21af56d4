"""From which probability on a label counts as present, where rows may have several."""

from __future__ import annotations

import torch
from torch import nn

from backprop.finetuning.heads import Cached, logits_of
from backprop.metrics import thresholds

__all__ = ["fold_thresholds"]

LEAST = 0.01


def fold_thresholds(layer: nn.Linear, cached: Cached) -> list[float]:
    """Return the probability of each label that gives the best F1, and make it a half.

    The layer's biases are moved so that a label is present from 0.5 on, whatever runs the model.

    Args:
        layer: the last one, whose outputs are logits.
        cached: what reaches it for the rows to choose by.
    """
    with torch.no_grad():
        chances = torch.sigmoid(layer(cached.inputs.to(layer.weight)).float().cpu())
    found = [
        min(max(value, LEAST), 1 - LEAST)
        for value in thresholds(chances.numpy(), cached.targets.numpy())
    ]
    with torch.no_grad():
        layer.bias.sub_(logits_of(found).to(layer.bias))
    return found
